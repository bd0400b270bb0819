// SPDX-License-Identifier: Apache-2.0

package attest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/attesttest"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
)

// The substitution matrix asks of everything that two builds consist of what happens when one build's part stands in the
// other's place. Its rows are generated from what the builds hold, so that a part which is new gets its rows. A row is
// refused unless the test says in words why it means nothing. What each row is refused with stands in
// testdata/substitutions; a change there is a change of what the verifier checks.

// whole makes a build with an artifact of its own name.
func whole(t testing.TB, o attesttest.Options, name string) attesttest.Lines {
	t.Helper()
	e := attesttest.Boot(t, o)
	e.Dispatch(t)
	return e.Respond(t, name, []byte("built as "+name))
}

// later makes a build and gives its second response.
func later(t testing.TB, o attesttest.Options, name string) attesttest.Lines {
	t.Helper()
	e := attesttest.Boot(t, o)
	e.Dispatch(t)
	e.Respond(t, "first", []byte("first"))
	return e.Respond(t, name, []byte("built as "+name))
}

// bothAllowed is a policy that accepts both builds: what keeps them apart is the chain, not the policy. The requirements
// against a late compromise are given as the file writes them.
func bothAllowed(t testing.TB, lateCompromise string) *policy.Policy {
	t.Helper()
	source := "token"
	if !strings.Contains(lateCompromise, "token") {
		source = "any"
	}
	return policyOf(t, "[register-replay, token]", lateCompromise, "  workflows: [.github/workflows/release.yml]",
		"    - {url: https://github.com/mallory/gadget, id: \"31337\", ownerId: \"666\"}\n"+
			"  workflows: [.github/workflows/release.yml, .github/workflows/publish.yml]",
		`["refs/tags/v*"]`, `["refs/tags/v*", refs/heads/main]`, "[push]", "[push, workflow_dispatch]",
		"identitySource: token", "identitySource: "+source)
}

// judge verifies an artifact against a file's lines and tells how that ended in one line: accepted, or the link that
// broke and the codes of its refusals. An error that is no refusal fails the test.
func judge(t testing.TB, req attest.Request, artifact []byte, file ...[]byte) string {
	t.Helper()
	read, err := bundle.ReadFile(bytes.NewReader(bytes.Join(file, []byte("\n"))))
	if err != nil {
		return "reading: " + codes(t, err)
	}
	req.Files, req.Artifact.Digest = []*bundle.File{read}, binding.Sum(artifact)
	r, trace, err := attest.Verify(t.Context(), req)
	switch {
	case err == nil && r != nil:
		return accepted
	case err == nil || r != nil:
		t.Errorf("a result %v with the error %v", r, err)
	}
	return failedLink(trace) + ": " + codes(t, err)
}

const accepted = "accepted"

// codes gives the codes of all refusals in an error, each once, sorted.
func codes(t testing.TB, err error) string {
	t.Helper()
	if !errors.Is(err, attest.ErrNotVerified) {
		t.Errorf("no refusal: %v", err)
	}
	out := map[string]bool{}
	for _, r := range refusal.All(err) {
		if !r.Code.Valid() || r.Want == "" || r.Next == "" {
			t.Errorf("refusal %+v", r)
		}
		out[string(r.Code)] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(out)), ", ")
}

// asking is the request of every row: the time, roots and trust file of a whole chain, a policy that accepts both builds.
func asking(t testing.TB) attest.Request {
	t.Helper()
	return attest.Request{
		Artifact: attest.Artifact{Name: "artifact"}, Policy: bothAllowed(t, "[register-replay, token]"), Roots: roots(t), Trust: trust(t),
		At: attesttest.Now().Add(time.Hour),
	}
}

// matrix collects the verdict of each row. It is safe for concurrent use.
type matrix struct {
	harmless map[string]string // why rows whose name begins so are rightly accepted

	mu   sync.Mutex
	rows map[string]string
}

func newMatrix(harmless map[string]string) *matrix {
	return &matrix{harmless: harmless, rows: map[string]string{}}
}

// add notes a row. A row that is accepted and has no reason is an attack that succeeded.
func (m *matrix) add(t testing.TB, name, verdict string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, twice := m.rows[name]; twice {
		t.Errorf("two rows %q", name)
	}
	m.rows[name] = verdict
	if verdict == accepted && m.reason(name) == "" {
		t.Errorf("ACCEPTED: %s", name)
	}
}

// reason gives the reason of the longest beginning of a name that has one.
func (m *matrix) reason(name string) string {
	best := ""
	for prefix := range m.harmless {
		if strings.HasPrefix(name, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	return m.harmless[best]
}

// check demands a row for each reason, and the verdicts of the golden file. UPDATE_GOLDEN=1 writes them, to be read
// before they are kept.
func (m *matrix) check(t testing.TB, file string) {
	t.Helper()
	var b strings.Builder
	unused := map[string]bool{}
	for _, why := range m.harmless {
		unused[why] = true
	}
	for _, name := range slices.Sorted(maps.Keys(m.rows)) {
		verdict := m.rows[name]
		if verdict == accepted {
			verdict += ": " + m.reason(name)
			delete(unused, m.reason(name))
		}
		fmt.Fprintf(&b, "%s | %s\n", name, verdict)
	}
	for why := range unused {
		t.Errorf("nothing is accepted for the reason that %s", why)
	}
	path := filepath.Join("testdata", "substitutions", file)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		fatal(t, os.MkdirAll(filepath.Dir(path), 0o755))
		fatal(t, os.WriteFile(path, []byte(b.String()), 0o600))
	}
	want, err := os.ReadFile(path)
	fatal(t, err)
	wanted, got := strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")
	for _, line := range wanted {
		if !slices.Contains(got, line) {
			t.Errorf("%s: no such row any more:\n%s", file, line)
		}
	}
	for _, line := range got {
		if !slices.Contains(wanted, line) {
			t.Errorf("%s: a row with another verdict, or a new one (UPDATE_GOLDEN=1 writes it):\n%s", file, line)
		}
	}
}

// leaf is one value of a JSON document, which may hold others, and the way to it.
type leaf struct {
	path  []any // keys and indices
	value any
}

func (l leaf) String() string {
	var b strings.Builder
	for _, step := range l.path {
		if _, index := step.(int); index {
			fmt.Fprintf(&b, "[%d]", step)
		} else {
			fmt.Fprintf(&b, ".%s", step)
		}
	}
	return strings.TrimPrefix(b.String(), ".")
}

// document decodes JSON, numbers as they stand.
func document(t testing.TB, b []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	fatal(t, dec.Decode(&v))
	return v
}

// encoded is a document's JSON, keys sorted.
func encoded(t testing.TB, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	fatal(t, enc.Encode(v))
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// values gives every value of a document, whole objects and arrays too, by its path.
func values(v any, path ...any) map[string]leaf {
	out := map[string]leaf{}
	add := func(step, inner any) { maps.Copy(out, values(inner, append(slices.Clone(path), step)...)) }
	switch v := v.(type) {
	case map[string]any:
		for key, inner := range v {
			add(key, inner)
		}
	case []any:
		for i, inner := range v {
			add(i, inner)
		}
	}
	if len(path) > 0 {
		l := leaf{path, v}
		out[l.String()] = l
	}
	return out
}

// with gives the document with the leaf's value at its path, or without what stands there if the value is nil.
func with(v any, l leaf) any {
	if len(l.path) == 0 {
		return l.value
	}
	rest := leaf{l.path[1:], l.value}
	switch step := l.path[0].(type) {
	case string:
		object, _ := v.(map[string]any)
		out := maps.Clone(object)
		if out == nil {
			out = map[string]any{}
		}
		if out[step] = with(out[step], rest); out[step] == nil {
			delete(out, step)
		}
		return out
	default:
		array, _ := v.([]any)
		i, _ := step.(int)
		out := slices.Clone(array)
		for len(out) <= i {
			out = append(out, nil)
		}
		if out[i] = with(out[i], rest); out[i] == nil {
			return slices.Delete(out, i, i+1)
		}
		return out
	}
}

// payloadOf gives the statement that a line carries.
func payloadOf(t testing.TB, line []byte) []byte {
	t.Helper()
	b, err := bundle.Parse(line)
	fatal(t, err)
	return b.Payload()
}
