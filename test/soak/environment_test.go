// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/door"
	"github.com/kettle/attest/runner/github"
	"github.com/kettle/attest/runner/job"
	"github.com/kettle/attest/runner/job/pinned"
	"github.com/kettle/attest/runner/sink"
)

// settings are what an environment is started with.
type settings struct {
	Dir       string // its own
	Label     string // of its runner
	Server    string // URL
	API       string // URL
	Host      string // of both, with port
	Issuer    string
	Sink      string
	Simulator string // folder of the simulated processor's root
	Roots     string // PEM
	Listener  string // program
	Action    string // program
	Policy    string
	Faults    string // of the runner program
	StayAt    string // state that it stays in for a while
	Stay      time.Duration
	Clock     time.Duration // how far this environment's clock is ahead
	Times     times
}

// times are the timeouts of a soak: short, since what they wait for is near.
type times struct{ Register, Listen, Ghost, Idle, Dispatch, Job, Drain time.Duration }

// environment is the guest.
func environment(text []byte) error {
	var s settings
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	conn, err := net.FileConn(os.NewFile(3, "control"))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx := context.Background()
	guest := channel.NewGuest(conn)
	if err := guest.Send(ctx, channel.Hello{Program: "soak"}); err != nil {
		return err
	}
	given, err := guest.Admission(ctx)
	if err != nil {
		return err
	}
	outcome := "the job has ended"
	if err := live(ctx, s, guest, given); err != nil {
		outcome = err.Error()
	}
	return guest.Send(ctx, channel.End{Outcome: channel.Printable(outcome, 900)})
}

// live composes an agent and runs it.
func live(ctx context.Context, s settings, guest *channel.Guest, given channel.Admission) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.Roots))
	now := func() time.Time { return time.Now().Add(s.Clock) }
	hosts := pinned.Hosts{s.Host}
	client, err := github.New(github.Config{
		URL: s.Server, APIURL: s.API, Scope: github.Repo, Target: "acme/widget", RunnerGroup: 1, Labels: []string{s.Label},
		Hosts: hosts, Credential: github.Credential{Token: given.Credential}, Roots: pool,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	store, err := sink.Open(s.Sink, pool)
	if err != nil {
		return err
	}
	rules, err := policy.Parse([]byte(s.Policy))
	if err != nil {
		return err
	}
	chip, err := newChip(s.Simulator)
	if err != nil {
		return err
	}
	journal, err := runner.CreateJournalFile(filepath.Join(s.Dir, "guest-journal.jsonl"))
	if err != nil {
		return err
	}
	defer journal.Close()
	group, err := newProcesses(s)
	if err != nil {
		return err
	}
	identifier, err := newIdentifier(s, client, pool, now)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	entries := make(chan channel.Message, 1024)
	t := s.Times
	agent, err := runner.New(runner.Config{
		Prefix: given.Prefix + "-", Profile: "strict", Egress: statement.EgressNone, Pinned: []string{s.Host},
		Configuration: binding.Sum([]byte("soak")), Software: map[string]string{"kettled": "soak"},
		Register: t.Register, Listen: t.Listen, Ghost: t.Ghost, Idle: t.Idle, Dispatch: t.Dispatch, Job: t.Job, Drain: t.Drain, Freeze: 10 * time.Second,
	}, runner.Ports{
		Device: chip, Appraiser: chip, Image: taken{}, Registrar: client, Sandbox: group, Identifier: identifier, Policy: judge{rules}, Gate: open{}, Keeper: group,
		Sink: store, Logs: packer{}, Journal: journal, Now: now, Log: log,
		Watch: func(e runner.Entry, line []byte) { s.watch(e, line, entries) },
	})
	if err != nil {
		return err
	}
	return serve(ctx, s, guest, agent, entries)
}

// watch tells the launcher, and stays in the state that something is to happen in until it had the time to.
func (s settings) watch(e runner.Entry, line []byte, entries chan<- channel.Message) {
	entries <- channel.Journal{Seq: int64(e.Seq), Line: string(line)}
	entries <- channel.Status{State: string(e.State)}
	if string(e.State) == s.StayAt && e.Runner == nil {
		time.Sleep(s.Stay)
	}
}

func newIdentifier(s settings, client *github.Client, pool *x509.CertPool, now func() time.Time) (runner.Identifier, error) {
	hosts := pinned.Hosts{s.Host}
	http, err := pinned.Client(pinned.Config{Hosts: hosts, Roots: pool})
	if err != nil {
		return nil, err
	}
	tokens, err := job.NewIssuer(s.Issuer, hosts, http)
	if err != nil {
		return nil, err
	}
	return job.New(job.Config{
		Server: s.Server, Target: "acme/widget", Issuer: s.Issuer, API: client, Tokens: tokens, Now: now, Wait: 5 * time.Second,
		OpenLog: func(context.Context) (io.ReadCloser, error) {
			found, err := filepath.Glob(filepath.Join(s.Dir, "root/_diag/Worker_*.log"))
			if err != nil || len(found) != 1 {
				return nil, fmt.Errorf("opening the worker's log: %d, %w", len(found), err)
			}
			return os.Open(found[0])
		},
	})
}

// serve runs the agent, the door, and both directions of the channel.
func serve(ctx context.Context, s settings, guest *channel.Guest, agent *runner.Agent, entries chan channel.Message) error {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(s.Dir, "door.sock"), Net: "unix"})
	if err != nil {
		return err
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := make(chan struct{})
	go func() {
		defer close(told)
		for m := range entries {
			_ = guest.Send(context.WithoutCancel(ctx), m)
		}
	}()
	go func() {
		for {
			if _, err := guest.Next(ctx); err != nil {
				return
			}
			agent.Drain()
		}
	}()
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		d := &door.Server{
			Handler: doorman{agent, s.Dir}, Check: func(context.Context, door.Peer) error { return nil },
			Spoiled: func(_ context.Context, why error) { agent.Spoil(why) },
		}
		return d.Serve(groupCtx, listener)
	})
	group.Go(func() error {
		defer cancel()
		return agent.Run(groupCtx)
	})
	err = group.Wait()
	close(entries)
	<-told
	return err
}

// doorman answers kettle-action.
type doorman struct {
	agent *runner.Agent
	dir   string
}

func (d doorman) Started(ctx context.Context, s door.Started) error {
	c := runner.Claims{Values: s.Claims}
	if s.IDToken != nil {
		c.IDTokenURL, c.IDTokenRequest = s.IDToken.URL, s.IDToken.Token
	}
	return d.agent.Started(ctx, c)
}

func (d doorman) Attest(ctx context.Context, a door.Attest) (door.Attested, error) {
	r, err := d.agent.Attest(ctx, runner.Outputs{Workspace: a.Workspace, Paths: a.Paths})
	if err != nil {
		return door.Attested{}, err
	}
	out := filepath.Join(d.dir, fmt.Sprintf("out-%d", r.Sequence))
	if err := os.Mkdir(out, 0o755); err != nil {
		return door.Attested{}, err
	}
	answer := door.Attested{
		Sequence: r.Sequence, Dir: out, Bundle: filepath.Join(out, "bundle"), Statement: filepath.Join(out, "statement"),
		Checksums: filepath.Join(out, "checksums"), SubjectCount: len(r.Subjects), Platform: r.Platform, BuilderID: r.BuilderID, BuildID: r.BuildID,
		Level: "none", Identity: r.Facts.Repository, IdentitySource: r.Facts.IdentitySource, Measurement: hex.EncodeToString(r.Measurement[:]),
		EnvironmentKey: r.EnvironmentKey.String(), StatementKey: r.StatementKey.String(),
	}
	for _, s := range r.Subjects {
		answer.Subjects = append(answer.Subjects, door.Subject{Name: s.Name, Digest: s.Digest["sha256"]})
	}
	return answer, errors.Join(
		os.WriteFile(answer.Bundle, r.Bundle, 0o600), os.WriteFile(answer.Statement, r.Statement, 0o600), os.WriteFile(answer.Checksums, nil, 0o600),
	)
}

func (d doorman) Status(context.Context) (door.Status, error) {
	return door.Status{}, errors.New("nobody asks here")
}

// judge is the policy of jobs.
type judge struct{ *policy.Policy }

func (j judge) Allow(f statement.Facts, at time.Time) error { return j.Jobs().Allow(f, at) }

// open is a gate that everything is on this side of.
type open struct{}

func (open) Dispatched()             {}
func (open) Flows() []statement.Flow { return nil }

// packer packs the journal alone.
type packer struct{}

func (packer) Pack(_ context.Context, journal []byte) ([]byte, error) { return journal, nil }

// taken takes the image for the right one: a process of this test has none.
type taken struct{}

// VerifyImage implements [runner.ImageVerifier].
func (taken) VerifyImage(context.Context, runner.Quote, time.Time) (runner.Image, error) {
	some := binding.Sum([]byte("soak"))
	return runner.Image{
		Files: []statement.Subject{{Name: "initrd.cpio", Digest: statement.SHA256(some)}}, Provenance: some, References: binding.Sum([]byte("values")), Policy: some,
		Levels: []string{statement.BuildLevel(0)},
	}, nil
}
