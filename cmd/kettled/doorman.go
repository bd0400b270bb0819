// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/door"
)

// level of the BuildEnv track that a response supports: level 1 asks for the image's own provenance, which is not part of
// the chain yet.
const level = "none"

// inside is what the sandbox calls the door's directory.
const inside = "/run/kettle"

// doorman translates between the door's messages and the agent.
type doorman struct {
	agent *runner.Agent
	logs  *logs
	dir   string // where responses are written, outside the sandbox
}

var _ door.Handler = doorman{}

// serve answers at the door until ctx ends. Only processes of the sandbox are answered.
func (d *frontDoor) serve(ctx context.Context, agent *runner.Agent, l *logs, contains func(pid int) (bool, error)) error {
	s := &door.Server{
		Handler: doorman{agent: agent, logs: l, dir: d.dir},
		Check: func(_ context.Context, p door.Peer) error {
			ours, err := contains(int(p.PID))
			if err == nil && !ours {
				err = errors.New("the process is not in the sandbox's cgroup")
			}
			return err
		},
		Spoiled: func(_ context.Context, why error) { agent.Spoil(why) },
	}
	return s.Serve(ctx, d.listener)
}

// Started implements [door.Handler].
func (d doorman) Started(ctx context.Context, s door.Started) error {
	c := runner.Claims{Values: s.Claims}
	if s.IDToken != nil {
		c.IDTokenURL, c.IDTokenRequest = s.IDToken.URL, s.IDToken.Token
		d.logs.hide(s.IDToken.Token)
	}
	return speak(d.agent.Started(ctx, c))
}

// Attest implements [door.Handler].
func (d doorman) Attest(ctx context.Context, a door.Attest) (door.Attested, error) {
	r, err := d.agent.Attest(ctx, runner.Outputs{
		Workspace: a.Workspace, Paths: a.Paths, Name: a.Name, Checksums: a.Checksums, Digest: a.Digest, ArtifactsList: a.ArtifactsList,
	})
	if err != nil {
		return door.Attested{}, speak(err)
	}
	return d.deliver(r)
}

// Status implements [door.Handler].
func (d doorman) Status(context.Context) (door.Status, error) {
	s := d.agent.Status()
	return door.Status{
		Phase: string(s.State), Platform: s.Platform, Runner: s.Runner, BuildID: s.BuildID, Workspace: s.Workspace, Responses: s.Responses,
	}, nil
}

// speak makes every error a refusal that the job can read. What went wrong inside kettled stays inside.
func speak(err error) error {
	if r := (*refusal.Refusal)(nil); err == nil || errors.As(err, &r) {
		return err
	}
	return (&refusal.Refusal{
		Link: "environment", Code: refusal.Missing, Want: "an environment that can answer", Got: "an internal failure",
		Next: "ask the operator of the runner for the machine's console and journal",
	}).Because(err)
}

// deliver writes a response where the job can read and not change it.
func (d doorman) deliver(r *runner.Response) (door.Attested, error) {
	name := filepath.Join("out", strconv.Itoa(r.Sequence))
	dir := filepath.Join(d.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil { //nolint:gosec // for the job to read.
		return door.Attested{}, speak(fmt.Errorf("delivering the response: %w", err))
	}
	for file, data := range map[string][]byte{
		"bundle.intoto.jsonl": r.Bundle, "statement.json": r.Statement, "checksums.txt": checksums(r.Subjects),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o644); err != nil { //nolint:gosec // for the job to read.
			return door.Attested{}, speak(fmt.Errorf("delivering the response: %w", err))
		}
	}
	out := path.Join(inside, name)
	a := door.Attested{
		Sequence: r.Sequence, Dir: out, Bundle: path.Join(out, "bundle.intoto.jsonl"), Statement: path.Join(out, "statement.json"),
		Checksums: path.Join(out, "checksums.txt"), SubjectCount: len(r.Subjects), Platform: r.Platform, BuilderID: r.BuilderID,
		BuildID: r.BuildID, Level: level, Identity: identity(r.Facts), IdentitySource: r.Facts.IdentitySource,
		Measurement: hex.EncodeToString(r.Measurement[:]), EnvironmentKey: r.EnvironmentKey.String(), StatementKey: r.StatementKey.String(),
	}
	for _, s := range r.Subjects {
		a.Subjects = append(a.Subjects, door.Subject{Name: s.Name, Digest: s.Digest["sha256"]})
	}
	return a, nil
}

// checksums lists the subjects as sha256sum does. Names hold no newline: the hasher refuses such.
func checksums(subjects []statement.Subject) []byte {
	var b strings.Builder
	for _, s := range subjects {
		fmt.Fprintf(&b, "%s  %s\n", s.Digest["sha256"], s.Name)
	}
	return []byte(b.String())
}

// identity names the workflow that ran.
func identity(f statement.Facts) string {
	return fmt.Sprintf("%s/%s/%s@%s", f.Server, f.Repository, f.WorkflowPath, f.Ref)
}
