// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	maxArtifactsFile = 1 << 20
	maxArtifacts     = 500
)

// subject is one artifact a step declared in $GITHUB_ARTIFACTS.
type subject struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Kind   string `json:"kind"` // file or oci
}

func (j *Job) artifactsEnabled() bool {
	return j.message.Flag("actions_runner_allow_artifacts_file") ||
		strings.EqualFold(j.environ["ACTIONS_RUNNER_ALLOW_ARTIFACTS_FILE"], "true") ||
		j.environ["ACTIONS_RUNNER_ALLOW_ARTIFACTS_FILE"] == "1"
}

// artifactsList is the content of $GITHUB_ARTIFACTS_LIST: what earlier steps declared, by name.
func (j *Job) artifactsList() []byte {
	list := struct {
		Version  int       `json:"version"`
		Subjects []subject `json:"subjects"`
	}{Version: 1, Subjects: []subject{}}
	for _, name := range slices.Sorted(maps.Keys(j.subjects)) {
		list.Subjects = append(list.Subjects, j.subjects[name])
	}
	data, err := json.Marshal(list)
	if err != nil { // three strings always encode
		return nil
	}
	return data
}

// processArtifacts adds what the step declared. A wrong line fails the step and adds nothing of it.
func (f *frame) processArtifacts(path string) error {
	if !f.job.artifactsEnabled() {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() == 0 {
		return err
	}
	if info.Size() > maxArtifactsFile {
		return fmt.Errorf("$GITHUB_ARTIFACTS file exceeds the maximum size of %d KiB (got %d KiB).", //nolint:revive,staticcheck // The real runner's words.
			maxArtifactsFile>>10, info.Size()>>10)
	}
	text, err := readCommandFile(path)
	if err != nil {
		return err
	}
	declared := map[string]subject{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		s, err := parseSubject(line, f.github.Text("workspace"))
		if err == nil {
			err = f.job.conflict(declared, s)
		}
		if err != nil {
			return fmt.Errorf("Invalid $GITHUB_ARTIFACTS entry on line %d: %w", i+1, err) //nolint:staticcheck // Likewise.
		}
		declared[s.Name] = s
	}
	before := len(f.job.subjects)
	maps.Copy(f.job.subjects, declared)
	if added := len(f.job.subjects) - before; added > 0 {
		f.output(fmt.Sprintf("Captured %d artifact subject(s) from this step (job total: %d).", added, len(f.job.subjects)))
	}
	return nil
}

func (j *Job) conflict(declared map[string]subject, s subject) error {
	for _, known := range []map[string]subject{declared, j.subjects} {
		if old, ok := known[s.Name]; ok {
			if old.Digest != s.Digest {
				return fmt.Errorf("Conflicting digest for artifact '%s': previously declared as '%s', now declared as '%s'.", //nolint:revive,staticcheck // Likewise.
					s.Name, old.Digest, s.Digest)
			}
			return nil
		}
	}
	if len(declared)+len(j.subjects) >= maxArtifacts {
		return fmt.Errorf("The job has exceeded the maximum of %d declared artifacts.", maxArtifacts) //nolint:revive,staticcheck // Likewise.
	}
	return nil
}

// parseSubject reads one line: a path, file://path, oci://name@digest or name@digest.
func parseSubject(line, workspace string) (subject, error) {
	if strings.Contains(line, "=") {
		return subject{}, errors.New("entries containing '=' are reserved and not permitted")
	}
	lower := strings.ToLower(line)
	switch {
	case strings.HasPrefix(lower, "file://"):
		return fileSubject(line[len("file://"):], workspace)
	case strings.HasPrefix(lower, "oci://"):
		s, ok := imageSubject(line[len("oci://"):])
		if !ok {
			return subject{}, errors.New("oci:// entries must include an @sha{256,384,512}:<hex> digest")
		}
		return s, nil
	case regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`).MatchString(line):
		return subject{}, errors.New("unsupported URI scheme")
	}
	if s, ok := imageSubject(line); ok {
		return s, nil
	}
	return fileSubject(line, workspace)
}

func imageSubject(text string) (subject, bool) {
	at := strings.LastIndex(text, "@")
	if at < 1 {
		return subject{}, false
	}
	algorithm, digits, ok := strings.Cut(strings.ToLower(text[at+1:]), ":")
	want := map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}[algorithm]
	if _, err := hex.DecodeString(digits); !ok || err != nil || len(digits) != want {
		return subject{}, false
	}
	return subject{Name: text[:at], Digest: algorithm + ":" + digits, Kind: "oci"}, true
}

func fileSubject(declared, workspace string) (subject, error) {
	if strings.TrimSpace(declared) == "" {
		return subject{}, errors.New("file:// entries must include a path")
	}
	path := declared
	if !filepath.IsAbs(path) {
		path = filepath.Join(workspace, path)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return subject{}, fmt.Errorf("file '%s' does not exist", declared)
	case info.IsDir():
		return subject{}, fmt.Errorf("'%s' is a directory, not a regular file", declared)
	case !info.Mode().IsRegular():
		return subject{}, fmt.Errorf("'%s' is not a regular file", declared)
	}
	file, err := os.Open(path) //nolint:gosec // The step names its artifacts.
	if err != nil {
		return subject{}, err
	}
	defer func() { _ = file.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return subject{}, fmt.Errorf("hashing artifact: %w", err)
	}
	return subject{Name: filepath.Base(path), Digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), Kind: "file"}, nil
}
