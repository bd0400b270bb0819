// SPDX-License-Identifier: Apache-2.0

package job

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/refusal"
	stubmask "github.com/kettle/attest/internal/stubrunner/mask"
)

// maskedLog is the golden log as a runner writes it for a job with one more secret, and with a debugger.
func maskedLog(t *testing.T, secret string) string {
	t.Helper()
	log := string(readLog(t))
	before, after, ok := strings.Cut(log, marker)
	body, rest, ok2 := strings.Cut(after, "\n[2026")
	if !ok || !ok2 {
		t.Fatal("another golden log")
	}
	body = strings.Replace(body, `"jobContainer": null,`, `"jobContainer": "alpine:3", "enableDebugger": true,`, 1)
	body = strings.Replace(body, `"DEPLOY_KEY": {`, `"ANOTHER": {"value": "***", "isSecret": true}, "DEPLOY_KEY": {`, 1)
	var m stubmask.Masker
	m.AddLines(secret)
	return before + m.Mask(marker+body) + "\n[2026" + rest
}

// TestAttackSecretsRewrite gives a job a secret that is a part of the job message itself.
func TestAttackSecretsRewrite(t *testing.T) {
	t.Parallel()
	m, err := ReadMessage(strings.NewReader(maskedLog(t, "an honest secret")), MaxLog)
	if err != nil || !m.Debugger || m.Container == nil || len(m.Secrets) != 3 {
		t.Fatalf("got %+v, %v", m, err)
	}
	for name, secret := range map[string]string{
		"steps": "steps", "inputs": "inputs", "vars": "vars", "debugger": "enableDebugger", "container": "jobContainer",
		"part of a key": "Debugger", "variables": "variables", "contexts": "contextData", "job key": "system.github.job",
		"secret's name": "DEPLOY_KEY", "matrix": "matrix", "needs": "needs", "event": "event", "event's key": "visibility",
		"flag": "isSecret", "value": "stable", "action": "actions/checkout", "script": "trimpath", "mask list": "mask",
		"endpoint's data": "GenerateIdTokenUrl", "endpoint": "SystemVssConnection", "token's URL": "idtoken",
		"digit": "1", "span": `","`, "span in a string": `:"write","`, "span of keys": `": {`, "quote": `"`, "backslash": `\`, "escape": `\"`,
		"marker": "Job message:", "part of the marker": "message",
		"span of lines": "\"jobContainer\": \"alpine:3\", \"enableDebugger\": true,\n  \"jobServiceContainers\": null,",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := maskedLog(t, secret)
			if log == maskedLog(t, "an honest secret") {
				t.Fatal("the secret is not in the log")
			}
			_, err := ReadMessage(strings.NewReader(log), MaxLog)
			var r *refusal.Refusal
			if !errors.Is(err, refusal.ErrMalformed) || !errors.As(err, &r) || !strings.Contains(r.Next, "change that secret") {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestPlacesOfMasks puts a mask at one place of the golden message each.
func TestPlacesOfMasks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		old, with string
		ok        bool
	}{
		"secret with white space": {`"value": "***",`, `"value": " ***\n",`, true},
		"secret in the clear":     {`"value": "***",`, `"value": "true",`, true},
		"secret, half of it":      {`"value": "***",`, `"value": "a***",`, false},
		"secret, two masks":       {`"value": "***",`, `"value": "*** ***",`, false},
		"secret, another key":     {`"value": "***",`, `"value": "x", "note": "***",`, false},
		"secret, key in capitals": {`"value": "***",`, `"Value": "***",`, false},
		"secret, deeper":          {`"value": "***",`, `"value": "x", "more": {"value": "***"},`, false},
		"not a secret":            {`"value": "true"`, `"value": "***"`, false},
		"said to be none":         {`"value": "true"`, `"value": "***", "isSecret": false`, false},
		"access token":            {`"AccessToken": "***"`, `"Password": "***"`, true},
		"access token, half":      {`"AccessToken": "***"`, `"AccessToken": "***b"`, false},
		"access token, deeper":    {`"AccessToken": "***"`, `"AccessToken": ["***"]`, false},
		"authorization":           {`"scheme": "OAuth"`, `"scheme": "***"`, false},
		"endpoint's address":      {`"url": "https://run.actions.github.demo.test/91/"`, `"url": "***"`, false},
		"endpoint's data":         {`"ServerName": ""`, `"ServerName": "***"`, false},
		"span in a value":         {`write\",\"Contents`, `write***Contents`, false},
		"kind of a hint":          {`"type": "regex"`, `"type": "***"`, false},
		"hint in the clear":       {`"type": "regex",`, `"type": "regex", "x": 1,`, true},
		"context's key":           {`"k": "channel"`, `"k": "***"`, false},
		"variable":                {`"v": "mona"`, `"v": "***"`, false},
		"input":                   {`"v": "stable"`, `"v": "***"`, false},
		"event":                   {`"v": "widget"`, `"v": "***"`, false},
		"repository":              {`"v": "acme/widget"`, `"v": "***"`, false},
		"unknown key":             {`"workspace": {}`, `"***": {}`, false},
		"part of a key":           {`"workspace": {}`, `"a***b": {}`, false},
		"mask by escapes":         {`"workspace": {}`, `"\u002a\u002a\u002a": {}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := readLog(t)
			if !bytes.Contains(log, []byte(tc.old)) {
				t.Fatal("nothing to replace")
			}
			_, err := ReadMessage(bytes.NewReader(bytes.Replace(log, []byte(tc.old), []byte(tc.with), 1)), MaxLog)
			if (err == nil) != tc.ok || !tc.ok && !errors.Is(err, errMasked) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestMissingParts takes out one part each that every message has.
func TestMissingParts(t *testing.T) {
	t.Parallel()
	for part := range parts() {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			values := []string{""}
			if !strings.Contains(part, ".") {
				values = append(values, "null")
			}
			for _, value := range values {
				if _, err := parseMessage([]byte(with(part, value))); !errors.Is(err, refusal.ErrMalformed) {
					t.Errorf("%q: got %v", value, err)
				}
			}
		})
	}
}
