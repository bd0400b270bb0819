// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/kettle/attest/internal/stubrunner/message"
)

const (
	maxSummary  = 1 << 20
	maxFileRead = 64 << 20
)

// fileCommand is one of the files a step can write to.
type fileCommand struct {
	name    string // property of the github context
	prefix  string
	process func(ctx context.Context, path string) error
}

func plain(process func(path string) error) func(context.Context, string) error {
	return func(_ context.Context, path string) error { return process(path) }
}

// commandFiles are the files of one step, in the folder _temp/_runner_file_commands.
type commandFiles struct {
	frame  *frame
	files  []fileCommand
	suffix string
}

func (f *frame) openFiles() (*commandFiles, error) {
	c := &commandFiles{frame: f, suffix: uuid.NewString(), files: []fileCommand{
		{"path", "add_path_", plain(f.processPath)},
		{"env", "set_env_", plain(f.processEnv)},
		{"step_summary", "step_summary_", f.processSummary},
		{"state", "save_state_", plain(f.processState)},
		{"output", "set_output_", plain(f.processOutput)},
		{"artifacts", "artifacts_", plain(f.processArtifacts)},
		{"artifacts_list", "artifacts_list_", func(context.Context, string) error { return nil }}, // written by the runner only
	}}
	dir := c.dir()
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // As the real runner's folder.
		return nil, fmt.Errorf("creating file command folder: %w", err)
	}
	for _, file := range c.files {
		var content []byte
		if file.name == "artifacts_list" && f.job.artifactsEnabled() {
			content = f.job.artifactsList()
		}
		path := filepath.Join(dir, file.prefix+c.suffix)
		if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // As the real runner's files.
			return nil, fmt.Errorf("creating file command: %w", err)
		}
		f.github.Set(file.name, path)
	}
	return c, nil
}

func (c *commandFiles) dir() string {
	return filepath.Join(c.frame.job.config.temp(), "_runner_file_commands")
}

// process reads the files after the step's process has ended.
func (c *commandFiles) process(ctx context.Context) {
	for _, file := range c.files {
		err := file.process(ctx, filepath.Join(c.dir(), file.prefix+c.suffix))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			c.frame.error(fmt.Sprintf("Unable to process file command '%s' successfully.", file.name))
			c.frame.error(err.Error())
			c.frame.command = message.Failed
		}
	}
}

func readCommandFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileRead {
		return "", errors.New("the file is not regular or too large")
	}
	text, err := os.ReadFile(path) //nolint:gosec // A file of our own folder.
	return string(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))), err
}

func (f *frame) processPath(path string) error {
	text, err := readCommandFile(path)
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			continue
		}
		f.job.paths = slices.DeleteFunc(f.job.paths, func(p string) bool { return p == line })
		f.job.paths = append(f.job.paths, line)
	}
	return nil
}

func (f *frame) processEnv(path string) error {
	return f.eachPair(path, func(name, value string) {
		if strings.EqualFold(name, "NODE_OPTIONS") {
			f.error("Can't store NODE_OPTIONS output parameter using '$GITHUB_ENV' command.")
			return
		}
		f.job.env.Set(name, value)
		f.env.Set(name, value)
	})
}

func (f *frame) processState(path string) error {
	return f.eachPair(path, func(name, value string) { f.state[name] = value })
}

func (f *frame) processOutput(path string) error { return f.eachPair(path, f.setOutput) }

func (f *frame) eachPair(path string, set func(name, value string)) error {
	text, err := readCommandFile(path)
	if err != nil {
		return err
	}
	pairs, err := parsePairs(text)
	for _, p := range pairs { // those before a fault count, as in the real runner
		set(p.name, p.value)
	}
	return err
}

// pair is one NAME=VALUE or NAME<<DELIMITER entry.
type pair struct{ name, value string }

func parsePairs(text string) ([]pair, error) {
	var out []pair
	for text != "" {
		line, rest, _ := strings.Cut(text, "\n")
		text = rest
		if line == "" {
			continue
		}
		equals, heredoc := strings.Index(line, "="), strings.Index(line, "<<")
		switch {
		case equals >= 0 && (heredoc < 0 || equals < heredoc):
			out = append(out, pair{line[:equals], line[equals+1:]})
		case heredoc >= 0:
			p, rest, err := parseHeredoc(line, text)
			if err != nil {
				return out, err
			}
			text = rest
			out = append(out, p)
		default:
			return out, fmt.Errorf("Invalid format '%s'", line) //nolint:staticcheck // The real runner's words.
		}
	}
	return out, nil
}

func parseHeredoc(line, text string) (pair, string, error) {
	name, delimiter, _ := strings.Cut(line, "<<")
	if name == "" || delimiter == "" {
		return pair{}, "", fmt.Errorf("Invalid format '%s'. Name must not be empty and delimiter must not be empty", line) //nolint:staticcheck // The real runner's words.
	}
	var lines []string
	for {
		if text == "" {
			return pair{}, "", fmt.Errorf("Invalid value. Matching delimiter not found '%s'", delimiter) //nolint:staticcheck // The real runner's words.
		}
		next, rest, newline := strings.Cut(text, "\n")
		if next == delimiter {
			return pair{name, strings.Join(lines, "\n")}, rest, nil
		}
		if !newline {
			return pair{}, "", errors.New("Invalid value. EOF marker missing new line.") //nolint:revive,staticcheck // The real runner's words.
		}
		lines = append(lines, next)
		text = rest
	}
}

// processSummary uploads the step's summary with secrets masked.
func (f *frame) processSummary(ctx context.Context, path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() == 0 {
		return err
	}
	if info.Size() > maxSummary {
		f.error(fmt.Sprintf("$GITHUB_STEP_SUMMARY upload aborted, supports content up to a size of %dk, got %dk.",
			maxSummary>>10, info.Size()>>10))
		return nil
	}
	text, err := readCommandFile(path)
	if err != nil || f.job.results == nil {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = f.log.mask(strings.TrimSuffix(line, "\r"))
	}
	upload := []byte(strings.Join(lines, "\n") + "\n")
	if err := f.job.results.UploadSummary(ctx, f.id, upload); err != nil {
		f.job.config.Trace.Error("JobServerQueue", err) // a lost summary does not fail the step
	}
	return nil
}
