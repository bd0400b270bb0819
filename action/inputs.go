// SPDX-License-Identifier: Apache-2.0

package action

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/door"
)

// maxChecksums bounds checksums that are given as text, as actions/attest does for its file.
const maxChecksums = 512 << 10

// inputs are the action's inputs.
type inputs struct {
	workspace  string
	temp       string
	paths      []string
	name       string
	checksums  string
	digest     string
	artifacts  string
	repository string
	api        string
	Token      secret.String // exported, so that fmt redacts it
	store      bool
	summary    bool
}

// inputs reads the inputs and refuses combinations that say two things.
func (p *Program) inputs() (inputs, error) {
	w := p.workflow()
	in := inputs{
		workspace: p.Getenv("GITHUB_WORKSPACE"), temp: p.Getenv("RUNNER_TEMP"), name: w.GetInput("subject_name"),
		checksums: w.GetInput("subject_checksums"), digest: w.GetInput("subject_digest"),
		repository: p.Getenv("GITHUB_REPOSITORY"), api: p.Getenv("GITHUB_API_URL"), Token: secret.New(w.GetInput("github_token")),
	}
	var err error
	if in.paths, err = list(w.GetInput("subject_path")); err != nil {
		return in, err
	}
	if in.store, err = boolean(w.GetInput("github_attestation"), "github-attestation"); err != nil {
		return in, err
	}
	if in.summary, err = boolean(w.GetInput("show_summary"), "show-summary"); err != nil {
		return in, err
	}
	if !filepath.IsAbs(in.workspace) {
		return in, usagef("GITHUB_WORKSPACE must be an absolute path; attest runs as a step of a workflow")
	}
	return in, in.choose(p.Getenv("GITHUB_ARTIFACTS_LIST"))
}

// choose checks that one kind of subject is named, and falls back to the runner's list of artifacts.
func (in *inputs) choose(artifacts string) error {
	kinds := 0
	for _, set := range []bool{len(in.paths) > 0, in.checksums != "", in.digest != ""} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return usagef("exactly one of subject-path, subject-checksums and subject-digest can be given, not %d", kinds)
	case in.digest != "" && in.name == "":
		return usagef("subject-digest needs subject-name: the file that has this digest")
	case in.checksums != "" && in.name != "":
		return usagef("subject-name has no meaning with subject-checksums: each line has its name")
	case kinds == 0 && artifacts == "":
		return usagef("name what to attest: subject-path, subject-checksums or subject-digest")
	case kinds == 0:
		in.artifacts = artifacts
	}
	return nil
}

// list reads paths: one a line, or separated by commas, a path with a comma in double quotes.
func list(s string) ([]string, error) {
	var paths []string
	r := csv.NewReader(strings.NewReader(s))
	r.FieldsPerRecord, r.TrimLeadingSpace, r.LazyQuotes = -1, true, true
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return paths, nil
		}
		if err != nil {
			return nil, usagef("subject-path is no list of paths")
		}
		for _, f := range fields {
			if f = strings.TrimSpace(f); f != "" {
				paths = append(paths, f)
			}
		}
	}
}

func boolean(s, name string) (bool, error) {
	switch strings.ToLower(s) {
	case "", "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, usagef("%s is true or false, not %.32q", name, s)
}

// request makes the request for kettled. Checksums that were given as text go into a file, which cleanUp removes: the
// door carries names only.
func (in inputs) request() (a door.Attest, cleanUp func(), err error) {
	a = door.Attest{
		Workspace: in.workspace, Paths: in.paths, Name: in.name, Digest: in.digest, ArtifactsList: in.artifacts,
	}
	cleanUp = func() {}
	if in.checksums == "" {
		return a, cleanUp, nil
	}
	a.Checksums = in.checksums
	if !filepath.IsAbs(a.Checksums) {
		a.Checksums = filepath.Join(in.workspace, a.Checksums)
	}
	if _, err := os.Stat(a.Checksums); err == nil || !strings.ContainsAny(in.checksums, " \n") {
		return a, cleanUp, nil
	}
	if a.Checksums, err = writeChecksums(in.temp, in.checksums); err != nil {
		return a, cleanUp, err
	}
	return a, func() { _ = os.Remove(a.Checksums) }, nil
}

func writeChecksums(dir, text string) (string, error) {
	if len(text) > maxChecksums {
		return "", usagef("subject-checksums is longer than %d KiB: write it into a file and name the file", maxChecksums>>10)
	}
	f, err := os.CreateTemp(dir, "kettle-checksums-*")
	if err != nil {
		return "", fmt.Errorf("writing the checksums: %w", err)
	}
	_, err = f.WriteString(strings.TrimRight(text, "\n") + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("writing the checksums: %w", err)
	}
	return f.Name(), nil
}
