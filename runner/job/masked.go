// SPDX-License-Identifier: Apache-2.0

package job

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/kettle/attest/attest/refusal"
)

// mask is what the runner writes in place of a secret (SecretMasker.cs). It masks the whole text of the job message, not
// its values: a secret whose value is a word of the message, or a piece of JSON, takes away or changes more than itself.
// Whoever sets the workflow's secrets would so decide what the message says. Whatever was masked leaves a mask behind,
// so a mask may stand only where a secret stands.
const mask = "***"

// requiredKeys gives the keys that the runner writes for every job (AgentJobRequestMessage.cs: members that are emitted
// even when they are empty, and those that no job is without).
func requiredKeys() []string {
	return []string{
		"messageType", "plan", "timeline", "jobId", "jobDisplayName", "jobName", "requestId", "lockedUntil", "resources",
		"steps", "variables", "contextData",
	}
}

// requiredContexts gives the contexts that are in every message; all but github are null or empty when there is nothing.
func requiredContexts() []string {
	return []string{"github", "inputs", "matrix", "needs", "strategy", "vars"}
}

// complete refuses a message without a key that every message has, so that a missing key never means "none".
func (w *wireMessage) complete(raw []byte) error {
	var root map[string]json.RawMessage
	if err := json.Unmarshal(raw, &root); err != nil {
		return badMessage("a JSON object", "something else").Because(err)
	}
	for _, key := range requiredKeys() {
		if v, ok := root[key]; !ok || string(v) == "null" {
			return badMessage("the key "+key+" in its job message", "a job message without")
		}
	}
	for _, name := range requiredContexts() {
		if _, ok := w.ContextData[name]; !ok {
			return badMessage("the context "+name+" in its job message", "a job message without")
		}
	}
	if len(w.Steps) == 0 || len(w.Steps) > maxSteps {
		return badMessage(fmt.Sprintf("1 to %d steps", maxSteps), fmt.Sprint(len(w.Steps)))
	}
	return nil
}

// mayBeMasked reports whether a secret stands at this place of the message. These are all places where the runner's own
// secrets do (Worker.cs, InitializeSecretMasker): values of secret variables, mask hints, and what endpoints are
// authorized with.
//
// Two of these places never merge into one: they are on different lines, and the runner masks every line of a secret by
// itself, too, wherever it stands, so a secret that spans lines leaves text that is not JSON.
func (w *wireMessage) mayBeMasked(path []string) bool {
	switch len(path) {
	case 3:
		return path[0] == "variables" && path[2] == "value" && w.Variables[path[1]].IsSecret ||
			path[0] == "mask" && path[1] == element && path[2] == "value"
	case 6:
		return path[0] == "resources" && path[1] == "endpoints" && path[2] == element && path[3] == "authorization" &&
			path[4] == "parameters"
	}
	return false
}

// element stands for the index of an array in a path.
const element = "[]"

// unmasked refuses a message in which anything but a whole secret is masked. raw is unambiguous JSON of bounded depth.
func (w *wireMessage) unmasked(raw []byte) error {
	s := scanner{dec: json.NewDecoder(bytes.NewReader(raw)), allowed: w.mayBeMasked}
	s.dec.UseNumber()
	return s.value()
}

// scanner looks for masks in keys and values.
type scanner struct {
	dec     *json.Decoder
	path    []string
	allowed func(path []string) bool
}

func (s *scanner) value() error {
	tok, err := s.dec.Token()
	if err != nil {
		return badMessage("a whole JSON object", "something else").Because(err)
	}
	switch tok := tok.(type) {
	case json.Delim:
		return s.inside(tok)
	case string:
		// The runner trims a secret before it masks it, so white space around the mask is the secret's own.
		if strings.Contains(tok, mask) && (strings.TrimSpace(tok) != mask || !s.allowed(s.path)) {
			return maskedMessage("in the value of " + s.place())
		}
	}
	return nil
}

// inside reads the members of an object or array up to and with its end.
func (s *scanner) inside(open json.Delim) error {
	for s.dec.More() {
		name := element
		if open == '{' {
			tok, err := s.dec.Token()
			key, ok := tok.(string)
			if err != nil || !ok {
				return badMessage("a whole JSON object", "something else").Because(err)
			}
			if name = key; strings.Contains(key, mask) {
				return maskedMessage("in a key of " + s.place())
			}
		}
		s.path = append(s.path, name)
		if err := s.value(); err != nil {
			return err
		}
		s.path = s.path[:len(s.path)-1]
	}
	if _, err := s.dec.Token(); err != nil {
		return badMessage("a whole JSON object", "something else").Because(err)
	}
	return nil
}

// place names where the scanner is, for a person.
func (s *scanner) place() string {
	if len(s.path) == 0 {
		return "the job message"
	}
	return fmt.Sprintf("%.200q", strings.Join(s.path, "."))
}

// errMasked marks a refusal that a secret's value caused, or three asterisks of the workflow's own.
var errMasked = errors.New("the runner masked more than secrets")

func maskedMessage(where string) error {
	r := &refusal.Refusal{
		Link: link, Code: refusal.Malformed, Want: "a job message in which only secrets are masked", Got: mask + " " + where,
		Next: "a secret with a short or ordinary value masks the job message: change that secret, or make it a variable " +
			"if it is none. The workflow and the event must not hold three asterisks in a row themselves.",
	}
	return r.Because(errMasked)
}
