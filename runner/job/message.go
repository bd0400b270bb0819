// SPDX-License-Identifier: Apache-2.0

package job

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/strict"
)

// Limits of the runner's log.
const (
	MaxLog      = 32 << 20 // bytes read before and in the job message
	maxPreamble = 1 << 20  // bytes before the job message
	maxSteps    = 4096
)

// marker ends the first line of the trace that holds the message: "[2026-11-21 12:00:00Z INFO Worker] Job message:"
// (Worker.cs, HostTraceListener.cs). The JSON follows, indented, over many lines.
const (
	worker = " INFO Worker] "
	marker = worker + "Job message:"
)

// Message is what the runner's job message says about the job. The runner writes it to its log before any code of the job
// runs, with secrets masked as "***"; a message in which anything else is masked is refused.
type Message struct {
	Digest     binding.Digest    // SHA-256 of the JSON exactly as it stands in the log
	Job        string            // the job's key in the workflow
	CheckRunID string            // decimal; empty when the message has none
	GitHub     map[string]any    // the github context without its event
	Event      []byte            // the event payload as JSON with sorted keys; nil when it is empty
	Needs      []byte            // the needs context likewise; nil when the job needs none
	Inputs     map[string]any    // strings, booleans, float64, nil, and lists and maps of them
	Matrix     map[string]any    // likewise
	Vars       map[string]string // configuration variables
	Secrets    []string          // names of the secrets, sorted; never a value
	Steps      []Step
	IDTokenURL string // where an identity token is asked for; empty without "id-token: write"
	Debugger   bool   // a person may act in the job through a remote debugger
	Debug      bool   // debug logging, which steps can see
	Container  *statement.Container
	Services   map[string]statement.Container
	Features   []string // parts of the job that the provenance cannot represent: "environment", "snapshot", …
}

// Step is one step as the workflow says it.
type Step struct {
	Name   string // its display name or context name
	Action *ActionRef
	Image  string // of a step that uses docker://image
	Cache  *Cache // that it restores
	Script string // of a run step; an expression stands as ${{ … }}
}

// ActionRef is what a step uses. Local actions ("./path") are part of the checked-out source.
type ActionRef struct {
	Repository string // empty when local
	Ref        string
	Path       string
	Local      bool
}

// Uses is the reference as a workflow writes it.
func (a ActionRef) Uses() string {
	if a.Local {
		return "./" + strings.TrimPrefix(a.Path, "./")
	}
	uses := a.Repository
	if a.Path != "" {
		uses += "/" + a.Path
	}
	return uses + "@" + a.Ref
}

// wireMessage is the part of AgentJobRequestMessage (AgentJobRequestMessage.cs) that is read. Other fields are left
// alone: the format is GitHub's and grows.
type wireMessage struct {
	JobContainer         json.RawMessage            `json:"jobContainer"`
	JobServiceContainers json.RawMessage            `json:"jobServiceContainers"`
	JobSidecars          map[string]string          `json:"jobSidecarContainers"`
	ActionsEnvironment   json.RawMessage            `json:"actionsEnvironment"`
	Snapshot             json.RawMessage            `json:"snapshot"`
	EnableDebugger       bool                       `json:"enableDebugger"`
	DebuggerTunnel       json.RawMessage            `json:"debuggerTunnel"`
	Resources            wireResources              `json:"resources"`
	Steps                []wireStep                 `json:"steps"`
	Variables            map[string]wireVariable    `json:"variables"`
	ContextData          map[string]json.RawMessage `json:"contextData"`
}

type wireResources struct {
	Endpoints []struct {
		Name string            `json:"name"`
		Data map[string]string `json:"data"`
	} `json:"endpoints"`
}

type wireVariable struct {
	Value    *string `json:"value"`
	IsSecret bool    `json:"isSecret"`
}

// systemEndpoint is the endpoint whose data names the identity token's URL (ScriptHandler.cs).
const systemEndpoint = "SystemVssConnection"

// ReadMessage finds the job message in a runner's Worker log and reads it. Only the first one counts: what comes later in
// the log may be of the job's choice. r is read no further than limit, which is at most [MaxLog].
func ReadMessage(r io.Reader, limit int64) (*Message, error) {
	if limit <= 0 || limit > MaxLog {
		limit = MaxLog
	}
	raw, err := findMessage(bufio.NewReaderSize(io.LimitReader(r, limit), 64<<10))
	if err != nil {
		return nil, err
	}
	return parseMessage(raw)
}

// findMessage returns the JSON after the marker. A log that ends inside it was not complete when it was read.
func findMessage(br *bufio.Reader) ([]byte, error) {
	seen := 0
	for {
		line, err := br.ReadSlice('\n')
		seen += len(line)
		at := bytes.Index(line, []byte(marker))
		switch {
		case len(line) > 0 && line[0] == '[' && at >= 0:
			rest := bytes.Clone(line[at+len(marker):]) // the slice is the reader's own
			return decodeFirst(io.MultiReader(bytes.NewReader(rest), br))
		case len(line) > 0 && line[0] == '[' && bytes.Contains(line, []byte(worker)) && bytes.Contains(line, []byte(mask)):
			return nil, maskedMessage("in the log before the job message")
		case seen > maxPreamble:
			return nil, badMessage("the job message near the beginning", fmt.Sprintf("none in %d bytes", seen))
		case errors.Is(err, io.EOF):
			return nil, noMessage()
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return nil, fmt.Errorf("reading the runner's log: %w", err)
		}
	}
}

// decodeFirst reads one JSON value that is followed by a new line.
func decodeFirst(r io.Reader) ([]byte, error) {
	dec := json.NewDecoder(r)
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return nil, badMessage("a whole JSON object", "something else").Because(err)
	}
	var next [1]byte
	tail := io.MultiReader(dec.Buffered(), r)
	for {
		if _, err := io.ReadFull(tail, next[:]); err != nil {
			return nil, badMessage("a line after the job message", "the end of the log").Because(err)
		}
		switch next[0] {
		case '\n':
			return raw, nil
		case '\r':
		default:
			return nil, badMessage("the end of a line after the job message", "more on the same line")
		}
	}
}

// parseMessage reads the JSON of a job message.
func parseMessage(raw []byte) (*Message, error) {
	if err := strict.Unique(raw); err != nil {
		return nil, badMessage("unambiguous JSON", "something else").Because(err)
	}
	var w wireMessage
	if err := json.Unmarshal(raw, &w); err != nil {
		return nil, badMessage("the fields of actions/runner's AgentJobRequestMessage", "fields of another type").Because(err)
	}
	if err := w.complete(raw); err != nil {
		return nil, err
	}
	if err := w.unmasked(raw); err != nil {
		return nil, err
	}
	m := &Message{
		Digest: binding.Sum(raw), Job: w.variable("system.github.job"), Secrets: w.secrets(), IDTokenURL: w.idTokenURL(),
		Debugger: w.EnableDebugger || present(w.DebuggerTunnel), Features: w.features(),
	}
	if err := m.readContexts(w.ContextData); err != nil {
		return nil, err
	}
	m.Debug = w.debug(m.Vars)
	if err := w.readContainers(m); err != nil {
		return nil, err
	}
	for i, s := range w.Steps {
		step, err := s.read()
		if err != nil {
			return nil, fmt.Errorf("reading step %d: %w", i+1, err)
		}
		m.Steps = append(m.Steps, step)
	}
	return m, nil
}

func (w *wireMessage) variable(name string) string {
	if v, ok := w.Variables[name]; ok && v.Value != nil && !v.IsSecret {
		return *v.Value
	}
	return ""
}

// debug reports whether steps are told to say more (RUNNER_DEBUG): a person asks for it when a job is run again, or a
// configuration variable or a secret of this name says so (ExecutionContext.cs). The runner does not mask it.
func (w *wireMessage) debug(vars map[string]string) bool {
	const name = "ACTIONS_STEP_DEBUG"
	said := func(value string) bool { return strings.EqualFold(strings.TrimSpace(value), "true") }
	for key, v := range w.Variables {
		if strings.EqualFold(key, name) && v.Value != nil {
			return said(*v.Value)
		}
	}
	for key, v := range vars {
		if strings.EqualFold(key, name) {
			return said(v)
		}
	}
	return false
}

// secrets lists the names of the secrets context: secret variables but for the service's own (Variables.cs).
func (w *wireMessage) secrets() []string {
	var names []string
	for name, v := range w.Variables {
		if v.IsSecret && !strings.HasPrefix(strings.ToLower(name), "system.") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// idTokenURL finds the URL as the runner does: keys of an endpoint's data are matched without regard to case.
func (w *wireMessage) idTokenURL() string {
	for _, e := range w.Resources.Endpoints {
		if !strings.EqualFold(e.Name, systemEndpoint) {
			continue
		}
		for k, v := range e.Data {
			if strings.EqualFold(k, "GenerateIdTokenUrl") {
				return v
			}
		}
	}
	return ""
}

// features names the parts of a job that a provenance of this version has no field for.
func (w *wireMessage) features() []string {
	var names []string
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"sidecar containers", len(w.JobSidecars) > 0}, {"environment", present(w.ActionsEnvironment)},
		{"snapshot", present(w.Snapshot)},
	} {
		if f.has {
			names = append(names, f.name)
		}
	}
	return names
}

// present reports whether a field holds more than nothing: absent, null, and the null token {"type":7,…} are nothing.
func present(raw json.RawMessage) bool {
	if len(raw) == 0 || string(raw) == "null" {
		return false
	}
	var t struct {
		Type *int `json:"type"`
	}
	return json.Unmarshal(raw, &t) != nil || t.Type == nil || *t.Type != tokenNull
}

func badMessage(want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: refusal.Malformed, Want: "a runner's log with " + want, Got: got,
		Next: "use the runner version of this image. A secret with a short or ordinary value also breaks the job message: change that secret.",
	}
}

func noMessage() *refusal.Refusal {
	r := badMessage("a job message", "a log without")
	r.Code = refusal.Missing
	return r
}

// link is the link of the chain that this package's refusals name.
const link = "dispatch"
