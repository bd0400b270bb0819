// SPDX-License-Identifier: Apache-2.0

package job

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/refusal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const goldenLog = "testdata/Worker_20261121-120000-utc.log"

func readLog(t testing.TB) []byte {
	t.Helper()
	raw, err := os.ReadFile(goldenLog)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func goldenMessage(t testing.TB) *Message {
	t.Helper()
	m, err := ReadMessage(bytes.NewReader(readLog(t)), MaxLog)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestReadMessage(t *testing.T) {
	t.Parallel()
	m := goldenMessage(t)
	log := string(readLog(t))
	_, body, _ := strings.Cut(log, "Job message:\n ")
	body, _, _ = strings.Cut(body, "\n[2026")
	if m.Digest != sha256.Sum256([]byte(body)) {
		t.Error("the digest is not of the JSON in the log")
	}
	want := &Message{
		Digest: m.Digest, Job: "build", CheckRunID: "41000000001", GitHub: m.GitHub, Event: m.Event,
		Inputs: map[string]any{"attest": true, "channel": "stable"}, Vars: map[string]string{"MASCOT": "mona"},
		Secrets:    []string{"DEPLOY_KEY", "github_token"},
		IDTokenURL: "https://run.actions.github.demo.test/91//idtoken/11111111-1111-4111-8111-111111111111/22222222-2222-4222-8222-222222222222?api-version=2.0",
		Steps: []Step{
			{Name: "__actions_checkout", Action: &ActionRef{Repository: "actions/checkout", Ref: "v4"}},
			{Name: "${{ format('Build the {0} channel', inputs.channel) }}", Script: "go build -trimpath -o dist/widget .\necho \"built=$VERSION\" >> \"$GITHUB_OUTPUT\"\n"},
			{Name: "attest", Action: &ActionRef{Repository: "kettle/attest", Ref: "v1"}},
			{Name: "__run", Script: "echo \"done\""},
		},
	}
	if d := cmp.Diff(want, m); d != "" {
		t.Error(d)
	}
	if m.GitHub["repository"] != "acme/widget" || m.GitHub["event"] != nil {
		t.Errorf("github context %v", m.GitHub)
	}
	const event = `{"inputs":{"attest":"true","channel":"stable"},"ref":"refs/heads/main","repository":{"default_branch":"main",` +
		`"full_name":"acme/widget","html_url":"https://github.demo.test/acme/widget","id":1296269,"name":"widget",` +
		`"owner":{"id":583231,"login":"acme"},"private":false,"visibility":"public"},"sender":{"id":1001,"login":"operator"},` +
		`"workflow":".github/workflows/build.yml"}`
	if string(m.Event) != event {
		t.Errorf("event %s", m.Event)
	}
}

func TestUses(t *testing.T) {
	t.Parallel()
	for want, ref := range map[string]ActionRef{
		"actions/checkout@v4": {Repository: "actions/checkout", Ref: "v4"},
		"acme/ci/sub/x@v1":    {Repository: "acme/ci", Path: "sub/x", Ref: "v1"},
		"./.github/actions/x": {Local: true, Path: ".github/actions/x"},
		"./action":            {Local: true, Path: "./action"},
	} {
		if got := ref.Uses(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

const head = "[2026-11-21 12:00:00Z INFO Worker] Job message:\n "

// parts are the keys and contexts of the smallest message that is read.
func parts() map[string]string {
	return map[string]string{
		"messageType": `"RunnerJobRequest"`, "plan": `{}`, "timeline": `{}`, "jobId": `"x"`, "jobDisplayName": `"x"`, "jobName": `"x"`,
		"requestId": `0`, "lockedUntil": `""`, "resources": `{}`, "variables": `{}`,
		"steps":              `[{"type":"action","reference":{"type":"script"}}]`,
		"contextData.github": `{"t":2,"d":[{"k":"a","v":"b"},{"k":"event","v":{"t":2}}]}`, "contextData.inputs": `null`,
		"contextData.matrix": `null`, "contextData.needs": `{"t":2}`, "contextData.strategy": `{"t":2}`, "contextData.vars": `{"t":2}`,
	}
}

// with is the smallest message with one part set; "" takes it out.
func with(part, value string) string {
	all := parts()
	if all[part] = value; value == "" {
		delete(all, part)
	}
	var keys, contexts []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if name, ok := strings.CutPrefix(k, "contextData."); ok {
			contexts = append(contexts, fmt.Sprintf("%q:%s", name, all[k]))
		} else {
			keys = append(keys, fmt.Sprintf("%q:%s", k, all[k]))
		}
	}
	return "{" + strings.Join(append(keys, `"contextData":{`+strings.Join(contexts, ",")+"}"), ",") + "}"
}

func minimal() string { return with("jobId", `"x"`) }

func TestBadLogs(t *testing.T) {
	t.Parallel()
	minimal := minimal()
	if _, err := ReadMessage(strings.NewReader(head+minimal+"\n"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadMessage(strings.NewReader(head+minimal+"\r\n"), 0); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		log   string
		limit int64
		want  error
	}{
		"empty":                  {"", 0, refusal.ErrMissing},
		"no message":             {"[2026-11-21 12:00:00Z INFO Worker] Message received.\n", 0, refusal.ErrMissing},
		"quoted marker":          {"x [2026-11-21 12:00:00Z INFO Worker] Job message:\n " + minimal + "\n", 0, refusal.ErrMissing},
		"cut":                    {head + minimal[:30], 0, refusal.ErrMalformed},
		"cut before the newline": {head + minimal, 0, refusal.ErrMalformed},
		"more on the line":       {head + minimal + " {}\n", 0, refusal.ErrMalformed},
		"masked number":          {head + `{"requestId": ***}` + "\n", 0, refusal.ErrMalformed},
		"masked marker":          {"[2026-11-21 12:00:00Z INFO Worker] ***\n {}\n" + head + minimal + "\n", 0, refusal.ErrMalformed},
		"over the limit":         {head + minimal + "\n", 60, refusal.ErrMalformed},
		"long preamble":          {strings.Repeat("[x\n", 1<<19) + head + minimal + "\n", 0, refusal.ErrMalformed},
		"long line":              {strings.Repeat("x", 2<<20) + "\n" + head + minimal + "\n", 0, refusal.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := ReadMessage(strings.NewReader(tc.log), tc.limit); !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestBadMessages(t *testing.T) {
	t.Parallel()
	if _, err := parseMessage([]byte(minimal())); err != nil {
		t.Fatal(err)
	}
	step := func(s string) string { return with("steps", "["+s+"]") }
	for name, in := range map[string]string{
		"not an object":          `[]`,
		"no contexts":            `{}`,
		"no github context":      with("contextData.github", ""),
		"github is a string":     with("contextData.github", `"x"`),
		"github is a plain map":  with("contextData.github", `{"repository":"a/b"}`),
		"duplicate key":          `{"steps":[],` + minimal()[1:],
		"duplicate by case":      `{"Steps":[],` + minimal()[1:],
		"duplicate input":        with("contextData.inputs", `{"t":2,"d":[{"k":"x","v":"1"},{"k":"X","v":"2"}]}`),
		"entry without key":      with("contextData.inputs", `{"t":2,"d":[{"v":"1"}]}`),
		"entry without value":    with("contextData.inputs", `{"t":2,"d":[{"k":"x"}]}`),
		"unknown type":           with("contextData.inputs", `{"t":9}`),
		"type is a string":       with("contextData.inputs", `{"t":"2"}`),
		"plain list":             with("contextData.inputs", `{"t":2,"d":[{"k":"x","v":[1]}]}`),
		"vars with a number":     with("contextData.vars", `{"t":2,"d":[{"k":"x","v":1}]}`),
		"inputs is a list":       with("contextData.inputs", `{"t":1,"a":["x"]}`),
		"matrix is broken":       with("contextData.matrix", `{"t":1,"a":[{"t":7}]}`),
		"needs is a string":      with("contextData.needs", `"x"`),
		"job id is a word":       with("contextData.job", `{"t":2,"d":[{"k":"check_run_id","v":"x"}]}`),
		"job id is a fraction":   with("contextData.job", `{"t":2,"d":[{"k":"check_run_id","v":1.5}]}`),
		"debugger is a word":     with("enableDebugger", `"no"`),
		"no event":               with("contextData.github", `{"t":2,"d":[{"k":"a","v":"b"}]}`),
		"event is a word":        with("contextData.github", `{"t":2,"d":[{"k":"event","v":"x"}]}`),
		"no steps":               step(""),
		"step of another type":   step(`{"type":"task","reference":{"type":"script"}}`),
		"step without type":      step(`{"reference":{"type":"script"}}`),
		"step without reference": step(`{"type":"action"}`),
		"reference of no kind":   step(`{"type":"action","reference":{"type":"plugin"}}`),
		"action without ref":     step(`{"type":"action","reference":{"type":"repository","name":"a/b"}}`),
		"action without name":    step(`{"type":"action","reference":{"type":"repository","ref":"v1"}}`),
		"action that climbs":     step(`{"type":"action","reference":{"type":"repository","name":"a/..","ref":"v1"}}`),
		"no image":               step(`{"type":"action","reference":{"type":"containerRegistry"}}`),
		"too many steps":         step(strings.TrimSuffix(strings.Repeat(`{"type":"action","reference":{"type":"script"}},`, 4097), ",")),
		"nested too deep":        with("contextData.inputs", strings.Repeat(`{"t":1,"a":[`, 60)+strings.Repeat(`]}`, 60)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := parseMessage([]byte(in)); !errors.Is(err, refusal.ErrMalformed) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestMessageDetails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in    string
		check func(*Message) bool
	}{
		"debugger":             {with("enableDebugger", `true`), func(m *Message) bool { return m.Debugger }},
		"debugger in capitals": {with("EnableDebugger", `true`), func(m *Message) bool { return m.Debugger }},
		"debugger tunnel":      {with("debuggerTunnel", `{"tunnelId":"x"}`), func(m *Message) bool { return m.Debugger }},
		"no debugger":          {with("debuggerTunnel", `null`), func(m *Message) bool { return !m.Debugger }},
		"debugger's greeting":  {with("debuggerWelcomeMessage", `"hello"`), func(m *Message) bool { return !m.Debugger }},
		"debug logging":        {with("variables", `{"Actions_Step_Debug":{"value":" True "}}`), func(m *Message) bool { return m.Debug && !m.Debugger }},
		"debug secret":         {with("variables", `{"ACTIONS_STEP_DEBUG":{"value":"true","isSecret":true}}`), func(m *Message) bool { return m.Debug }},
		"no debug logging":     {with("variables", `{"ACTIONS_STEP_DEBUG":{"value":"1"}}`), func(m *Message) bool { return !m.Debug }},
		"debug variable":       {with("contextData.vars", `{"t":2,"d":[{"k":"actions_step_debug","v":"true"}]}`), func(m *Message) bool { return m.Debug }},
		"debug is the run's":   {strings.Replace(with("variables", `{"ACTIONS_STEP_DEBUG":{"value":"false"}}`), `"vars":{"t":2}`, `"vars":{"t":2,"d":[{"k":"ACTIONS_STEP_DEBUG","v":"true"}]}`, 1), func(m *Message) bool { return !m.Debug }},
		"sidecars":             {with("jobSidecarContainers", `{"a":"b"}`), has("sidecar containers")},
		"environment":          {with("actionsEnvironment", `{"name":"prod"}`), has("environment")},
		"snapshot":             {with("snapshot", `{"type":0,"lit":"x"}`), has("snapshot")},
		"null tokens":          {with("snapshot", `{"type":7,"line":1}`), func(m *Message) bool { return m.Features == nil }},
		"matrix": {with("contextData.matrix", `{"t":5,"d":[{"k":"n","v":{"t":4,"n":2}},{"k":"N","v":{"t":3,"b":true}},{"k":"l","v":{"t":1,"a":[{"t":0,"s":"x"},null]}}]}`),
			func(m *Message) bool {
				return cmp.Equal(m.Matrix, map[string]any{"n": 2.0, "N": true, "l": []any{"x", nil}})
			}},
		"image step": {with("steps", `[{"type":4,"reference":{"type":2,"image":"alpine:3"}}]`), func(m *Message) bool { return m.Steps[0].Image == "alpine:3" }},
		"local step": {with("steps", `[{"type":"Action","reference":{"type":"Repository","repositoryType":"self","path":"./x"}}]`),
			func(m *Message) bool { return m.Steps[0].Action.Local }},
		"background control":   {with("steps", `[{"type":"backgroundStepControl","name":"w"}]`), func(m *Message) bool { return m.Steps[0].Name == "w" }},
		"script is a bare one": {with("steps", `[{"type":"action","reference":{"type":"script"},"inputs":{"type":2,"map":[{"Key":"script","Value":"id"}]}}]`), func(m *Message) bool { return m.Steps[0].Script == "id" }},
		"secret job name":      {with("variables", `{"system.github.job":{"value":"***","isSecret":true}}`), func(m *Message) bool { return m.Job == "" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := parseMessage([]byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			if !tc.check(m) {
				t.Fatalf("got %+v", m)
			}
		})
	}
}

func has(feature string) func(*Message) bool {
	return func(m *Message) bool { return len(m.Features) == 1 && m.Features[0] == feature }
}

func FuzzMessage(f *testing.F) {
	f.Add(readLog(f))
	f.Add([]byte(head + minimal() + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ReadMessage(bytes.NewReader(data), 1<<20)
		if err != nil {
			if !errors.Is(err, refusal.ErrNotVerified) {
				t.Fatalf("not a refusal: %v", err)
			}
			return
		}
		if m.GitHub == nil {
			t.Fatal("a message without a github context")
		}
		if _, err := json.Marshal(map[string]any{"i": m.Inputs, "m": m.Matrix}); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkReadMessage(b *testing.B) {
	raw := readLog(b)
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := ReadMessage(bytes.NewReader(raw), MaxLog); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleActionRef_Uses() {
	fmt.Println(ActionRef{Repository: "actions/checkout", Ref: "v4"}.Uses())
	// Output: actions/checkout@v4
}
