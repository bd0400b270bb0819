// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// session is what a person would see in a terminal: commands and what they print.
type session struct {
	dir  string            // where the commands run
	env  []string          // of the commands
	bin  map[string]string // command → program
	out  io.Writer
	text bytes.Buffer
}

// run prints and runs one command line and demands its exit code.
func (s *session) run(ctx context.Context, want int, line string) error {
	s.print("$ " + line + "\n")
	words := strings.Fields(line)
	cmd := exec.CommandContext(ctx, s.bin[words[0]], words[1:]...) //nolint:gosec // the demo's own command lines.
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.CombinedOutput()
	s.print(string(out))
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		return fmt.Errorf("running %s: %w", line, err)
	}
	if code != want {
		return fmt.Errorf("%s: exit code %d, want %d", line, code, want)
	}
	if want != 0 {
		s.print(fmt.Sprintf("$ echo $?\n%d\n", code))
	}
	s.print("\n")
	return nil
}

// comment prints a line that only explains.
func (s *session) comment(text string) { s.print("# " + text + "\n") }

func (s *session) print(text string) {
	s.text.WriteString(text)
	fmt.Fprint(s.out, text)
}

const (
	beginMark = "<!-- session:begin -->\n```console\n"
	endMark   = "```\n<!-- session:end -->"
)

// volatile is what differs between two runs: digests, keys, identifiers, times and sizes.
var volatile = regexp.MustCompile(`[0-9a-f]{12,}…?|\d+(\.\d+)? [KMG]iB|\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?Z?|runs/\d+|job/\d+|kettle-[0-9a-z-]+`)

// plain removes what differs between two runs.
func plain(s string) string { return volatile.ReplaceAllString(s, "…") }

// compare demands that the README shows this session.
func compare(readme, session string) error {
	shown, _, _, err := split(readme)
	if err != nil {
		return err
	}
	if plain(shown) != plain(session) {
		return fmt.Errorf("the session in %s is not what the programs print; run scripts/demo --update %s and look at the difference", readme, readme)
	}
	return nil
}

// rewrite puts this session into the README.
func rewrite(readme, session string) error {
	_, before, after, err := split(readme)
	if err != nil {
		return err
	}
	return os.WriteFile(readme, []byte(before+session+after), 0o644) //nolint:gosec // a public text.
}

func split(readme string) (shown, before, after string, err error) {
	text, err := os.ReadFile(filepath.Clean(readme))
	if err != nil {
		return "", "", "", fmt.Errorf("reading README: %w", err)
	}
	begin := strings.Index(string(text), beginMark)
	end := strings.Index(string(text), endMark)
	if begin < 0 || end < begin {
		return "", "", "", fmt.Errorf("%s has no session between its marks", readme)
	}
	begin += len(beginMark)
	return string(text[begin:end]), string(text[:begin]), string(text[end:]), nil
}
