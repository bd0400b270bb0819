// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// output is what the runner program prints around one job.
const output = "\n√ Connected to GitHub\n\nCurrent runner version: '2.336.0'\n2026-11-22 04:05:06Z: Listening for Jobs\n" +
	"2026-11-22 04:05:07Z: Running job: build (linux)\n2026-11-22 04:06:07Z: Job build (linux) completed with result: Succeeded\n" +
	"An error occurred: Not found\nRunner update in progress, do not shutdown runner.\nExiting...\r\n2026-11-22 04:05:07Z: Runner reconnected.\n" +
	"The runner no longer exists on the server. Cleaning up local configuration.\n"

func watched(t *testing.T, step int, text string) []string {
	t.Helper()
	var copied bytes.Buffer
	var seen []string
	w := NewWatch(&copied, func(h Hint, line string) { seen = append(seen, string(h)+"|"+line) })
	for rest := text; rest != ""; {
		n := min(step, len(rest))
		if got, err := w.Write([]byte(rest[:n])); got != n || err != nil {
			t.Fatalf("wrote %d of %d: %v", got, n, err)
		}
		rest = rest[n:]
	}
	if copied.String() != text {
		t.Errorf("passed on %q", copied.String())
	}
	return seen
}

func TestWatch(t *testing.T) {
	t.Parallel()
	want := strings.Join([]string{
		"connected|√ Connected to GitHub", "version|Current runner version: '2.336.0'",
		"listening|2026-11-22 04:05:06Z: Listening for Jobs", "job|2026-11-22 04:05:07Z: Running job: build (linux)",
		"completed|2026-11-22 04:06:07Z: Job build (linux) completed with result: Succeeded", "error|An error occurred: Not found",
		"update|Runner update in progress, do not shutdown runner.", "exiting|Exiting...",
		"reconnected|2026-11-22 04:05:07Z: Runner reconnected.",
		"gone|The runner no longer exists on the server. Cleaning up local configuration.",
	}, "\n")
	for _, step := range []int{1, 2, 3, 7, 64, len(output)} {
		if got := strings.Join(watched(t, step, output), "\n"); got != want {
			t.Errorf("in steps of %d: got\n%s", step, got)
		}
	}
}

func TestNoHint(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"", "Listening for Jobs", "2026-11-22 04:05:06Z: Listening for Jobs now", "x2026-11-22 04:05:06Z: Listening for Jobs",
		"2026-11-22 04:05:06Z: √ Connected to GitHub", "√ Connected to GitHub and more", "Running job: x", "2026-11-22 04:05:06Z: Job x failed",
		"2026-11-22 04:05:06Z: ", "exiting...",
	} {
		if got := watched(t, 5, line+"\n"); len(got) > 0 {
			t.Errorf("%q: got %q", line, got)
		}
	}
	if got := watched(t, 9, "√ Connected to GitHub"); len(got) > 0 {
		t.Errorf("without an end: got %q", got)
	}
}

// TestAttackOutput writes what a job can write: escapes that terminals obey, endless lines, no ends, floods.
func TestAttackOutput(t *testing.T) {
	t.Parallel()
	const listening = "2026-11-22 04:05:06Z: Listening for Jobs"
	for name, tc := range map[string]struct{ text, want string }{
		"escapes":         {"\x1b[2J\x1b]0;title\x07An error occurred: \x1b[31mred\x1b[0m\u202e\u0000\n", "error|An error occurred: red"},
		"long line":       {strings.Repeat("x", maxLine) + listening + "\n" + listening + "\n", "listening|" + listening},
		"long known line": {"An error occurred: " + strings.Repeat("é", maxText) + "\n", "error|An error occurred: " + strings.Repeat("é", maxText-19) + "…"},
		"not UTF-8":       {"An error occurred: \xff\xfea\xc3\n", "error|An error occurred: a"},
		"carriage return": {"An error occurred: a\rb\n", "error|An error occurred: ab"},
	} {
		for _, step := range []int{1, 1 << 20} {
			if got := strings.Join(watched(t, step, tc.text), "\n"); got != tc.want {
				t.Errorf("%s: got %q", name, got)
			}
		}
	}
	if got := watched(t, 1000, strings.Repeat(listening+"\n", 2*maxSeen)); len(got) != maxSeen {
		t.Errorf("a flood: %d hints", len(got))
	}
	w := NewWatch(nil, nil)
	for range 1 << 10 {
		_, _ = w.Write(bytes.Repeat([]byte{'x'}, 1<<10))
	}
	if cap(w.line) > 2*maxLine {
		t.Errorf("holds %d bytes of an endless line", cap(w.line))
	}
}

type broken struct{}

func (broken) Write(p []byte) (int, error) { return len(p) / 2, errors.New("no room") }

func TestWatchKeepsLooking(t *testing.T) {
	t.Parallel()
	count := 0
	w := NewWatch(broken{}, func(Hint, string) { count++ })
	if n, err := w.Write([]byte(output)); n != len(output)/2 || err == nil {
		t.Errorf("got %d, %v", n, err)
	}
	if count != 10 {
		t.Errorf("saw %d lines", count)
	}
}

func FuzzWatch(f *testing.F) {
	f.Add(output, 3)
	f.Add("\x1b[2J2026-11-22 04:05:06Z: Listening for Jobs\r\n", 1)
	f.Fuzz(func(t *testing.T, text string, step int) {
		var whole, parts []string
		look := func(to *[]string) *Watch {
			return NewWatch(nil, func(h Hint, line string) {
				if utf8.RuneCountInString(line) > maxText+1 || strings.ContainsAny(line, "\x1b\n\r\x00\u202e") {
					t.Errorf("%s: %q", h, line)
				}
				*to = append(*to, string(h)+line)
			})
		}
		_, _ = look(&whole).Write([]byte(text))
		w := look(&parts)
		step = max(1, step%97)
		for rest := []byte(text); len(rest) > 0; {
			n := min(step, len(rest))
			_, _ = w.Write(rest[:n])
			rest = rest[n:]
		}
		if strings.Join(whole, "\n") != strings.Join(parts, "\n") {
			t.Errorf("in steps of %d: got %q, want %q", step, parts, whole)
		}
	})
}
