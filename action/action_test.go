// SPDX-License-Identifier: Apache-2.0

package action

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/door"
)

// hostile are names that try to get out of a cell, a line, a comment or the diagram.
func hostile() []string {
	return []string{
		"a|b", "a\nb", "`x`", "</code><script>", "[x](https://evil.test)", "![i](https://evil.test/i.png)", "@everyone #1", "www.evil.test",
		"::error::x", `"] --> evil["`, "```", "&#60;b&#62;", "\u202egnp.exe", "\x1b[31m", "a\\|b", "<!--", "%%{init}%%", "\xff\xfe", "https://evil.test",
	}
}

func reply(names ...string) *door.Attested {
	r := &door.Attested{
		Sequence: 2, Bundle: "/run/kettle/out/2/b.jsonl", Platform: "snp", BuilderID: "https://b.example", BuildID: "https://x.example", Level: "L2",
		Identity: "acme/widget", IdentitySource: "jobs-api", Measurement: strings.Repeat("ab", 48), StatementKey: strings.Repeat("cd", 32),
		SubjectCount: len(names),
	}
	for i, n := range names {
		r.Subjects = append(r.Subjects, door.Subject{Name: n, Digest: fmt.Sprintf("%064x", i)})
	}
	return r
}

// row is what a line of the summary's tables may look like: cells that begin and end with code, without Markdown's signs.
var row = regexp.MustCompile(`^\| (<code>[A-Za-z0-9 &#;]*</code>|[A-Za-z -]+) \| (<code>[A-Za-z0-9 &#;]*</code>|see the checksums file) \|$`)

func checkSummary(t *testing.T, text string) {
	t.Helper()
	diagram := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "```"):
			diagram = !diagram
		case diagram:
			if strings.Count(line, `"`)%2 != 0 || strings.ContainsAny(line, "`;%") {
				t.Errorf("diagram line %q", line)
			}
		case strings.HasPrefix(line, "|") && line != "| | |" && line != "|---|---|" && line != "| Subject | SHA-256 |" && !strings.HasPrefix(line, "| … "):
			if !row.MatchString(line) {
				t.Errorf("table line %q", line)
			}
		}
	}
	if diagram {
		t.Error("the diagram does not end")
	}
}

// TestAttackSummary attests files with hostile names: whatever they are called, they stay in their cells.
func TestAttackSummary(t *testing.T) {
	t.Parallel()
	for _, name := range hostile() {
		r := reply(name)
		r.Identity, r.BuildID, r.Platform = name, name, name
		text := summary(r, storage{reason: name})
		checkSummary(t, text)
		tables, _, _ := strings.Cut(text, "```mermaid") // a diagram links nothing
		if strings.Contains(tables, "evil.test") || strings.ContainsAny(text, "\u202e\x1b") ||
			strings.Contains(text, "&#8238;") || strings.Contains(text, "&#27;") { // a reference to a sign is that sign to a browser
			t.Errorf("%q got through", name)
		}
	}
}

// TestAttackLog has errors and answers that hold foreign text printed by a step. None of it is a workflow command, moves
// the cursor, or makes a line of its own.
func TestAttackLog(t *testing.T) {
	t.Parallel()
	hostile := append(hostile(),
		"##[add-path]/evil", "x ##[set-output name=a]b", "###[error]x", "::add-mask::a", "  ::set-output name=a::b", "\n::error::x", "%0A::error::x",
		"\r::warning::x", "a\u2028::error::x", "::stop-commands::x")
	for _, text := range hostile {
		refused := &refusal.Refusal{Link: "outputs", Code: refusal.Policy, Want: text, Got: text, Next: text}
		var out strings.Builder
		p := &Program{Out: &out, Getenv: func(name string) string { return map[string]string{"GITHUB_ACTIONS": "true"}[name] }}
		p.say("%s", text)
		_ = p.Run(t.Context(), []string{text})
		p.workflow().Errorf("%s", oneLine(explain(refused)))
		for _, line := range strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n") {
			command := strings.HasPrefix(line, "::error")
			if !command && (strings.HasPrefix(strings.TrimSpace(line), "::") || strings.Contains(line, "##[")) || strings.ContainsFunc(line, unicode.IsControl) {
				t.Errorf("%q printed the line %q", text, line)
			}
		}
		if n := strings.Count(out.String(), "\n"); n != 3 {
			t.Errorf("%q printed %d lines", text, n)
		}
	}
}

func FuzzSummary(f *testing.F) {
	for _, n := range hostile() {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, name string) {
		checkSummary(t, summary(reply(name, name), storage{id: name}))
		checkSummary(t, summary(reply(name), storage{}))
	})
}

func TestSummary(t *testing.T) {
	t.Parallel()
	names := make([]string, maxRows+3)
	for i := range names {
		names[i] = fmt.Sprintf("f%d", i)
	}
	r := reply(names...)
	r.SubjectCount += 900
	text := summary(r, storage{id: "4711"})
	for _, want := range []string{
		"… and 903 more", "1003 artifacts", "CPU vendor root", "measured abababababab…", "<code>4711</code>", "kettled asked GitHub",
	} {
		if !strings.Contains(text, want) && !strings.Contains(text, code(want)) && want != "kettled asked GitHub" {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if strings.Contains(text, "WARNING") || !strings.Contains(summary(&door.Attested{Platform: simulated}, storage{}), "[!WARNING]") {
		t.Error("the warning about the simulator stands in the wrong place")
	}
	if !strings.Contains(summary(reply("w.tgz"), storage{}), `artifact["w.tgz<br/>sha256 000000000000…"]`) {
		t.Error("one subject is not named in the picture")
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"":                        nil,
		"\n , \n":                 nil,
		"a":                       {"a"},
		"a, b\n c\r\nd,":          {"a", "b", "c", "d"},
		"\"a,b\"\nc":              {"a,b", "c"},
		"dist/**\n!dist/*.tmp":    {"dist/**", "!dist/*.tmp"},
		"with blank.txt\nit's ok": {"with blank.txt", "it's ok"},
	} {
		got, err := list(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", in, d)
		}
	}
}

func TestAttestationsURL(t *testing.T) {
	t.Parallel()
	if got, err := attestationsURL("https://ghes.example/api/v3/", "acme/widget"); err != nil || got != "https://ghes.example/api/v3/repos/acme/widget/attestations" {
		t.Errorf("got %s, %v", got, err)
	}
	for _, tc := range [][2]string{
		{"http://api.example", "a/b"}, {"https://u:p@api.example", "a/b"}, {"api.example", "a/b"}, {"", "a/b"}, {"https://api.example?x", "a/b"},
		{"https://api.example", "a"}, {"https://api.example", "a/b/c"}, {"https://api.example", "a/.."}, {"https://api.example", "/b"},
	} {
		if got, err := attestationsURL(tc[0], tc[1]); err == nil {
			t.Errorf("%v: %s", tc, got)
		}
	}
}

func TestProvenanceLine(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/b"
	for _, content := range []string{"", "{}\n", "not JSON\n", `{"dsseEnvelope":{"payload":"e30="}}` + "\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if line, err := provenanceLine(path); err == nil {
			t.Errorf("%q: %s", content, line)
		}
	}
	if _, err := provenanceLine(path + "x"); err == nil {
		t.Error("read a file that is not there")
	}
}

func TestLongChecksums(t *testing.T) {
	t.Parallel()
	in := inputs{workspace: "/w", temp: t.TempDir(), checksums: strings.Repeat("0  a\n", maxChecksums)}
	if _, _, err := in.request(); err == nil {
		t.Fatal("accepted")
	}
}

func TestTokenIsNotPrinted(t *testing.T) {
	t.Parallel()
	if s := fmt.Sprintf("%+v", inputs{Token: secret.New("t0ken")}); strings.Contains(s, "t0ken") {
		t.Fatal(s)
	}
}

// TestMetadata holds action.yml to its rules: inputs reach the program by environment only, and nothing is downloaded.
func TestMetadata(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../action.yml")
	if err != nil {
		t.Fatal(err)
	}
	var meta struct {
		Inputs  map[string]struct{ Description string }
		Outputs map[string]struct{ Value string }
		Runs    struct {
			Using string
			Steps []struct {
				ID, Shell, Run, Uses string
				Env                  map[string]string
			}
		}
		Branding map[string]string
	}
	if err := yaml.Unmarshal(raw, &meta); err != nil {
		t.Fatal(err)
	}
	if meta.Runs.Using != "composite" || len(meta.Runs.Steps) != 2 || meta.Branding["icon"] == "" {
		t.Fatalf("got %+v", meta)
	}
	check, step := meta.Runs.Steps[0], meta.Runs.Steps[1]
	if check.Uses != "" || len(check.Env) != 0 || strings.Contains(check.Run, "${{") || !strings.Contains(check.Run, "if [ ! -x /usr/lib/kettle/kettle-action ]") {
		t.Errorf("a shell that earlier steps can poison does more than look: %+v", check)
	}
	if step.Uses != "" || step.Shell != "/usr/lib/kettle/kettle-action attest --script {0}" || strings.Contains(step.Run, "${{") {
		t.Errorf("step %+v", step)
	}
	for input := range meta.Inputs {
		name := "INPUT_" + strings.ToUpper(strings.ReplaceAll(input, "-", "_"))
		if step.Env[name] != "${{ inputs."+input+" }}" {
			t.Errorf("input %s reaches the program as %q", input, step.Env[name])
		}
		if !strings.Contains(usage, name) {
			t.Errorf("--help does not tell of %s", name)
		}
	}
	for output, o := range meta.Outputs {
		if o.Value != "${{ steps."+step.ID+".outputs."+output+" }}" || !strings.Contains(usage, output) {
			t.Errorf("output %s: %q", output, o.Value)
		}
	}
	if len(step.Env) != len(meta.Inputs) || len(meta.Outputs) != 4 {
		t.Error("inputs and outputs do not match")
	}
}
