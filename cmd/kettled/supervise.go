// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/boot"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/github"
)

// patience bounds what must happen before the runner is registered, and the last words after.
const patience = 30 * time.Second

// supervise runs the environment to its end and gives the sentence to power off with.
func supervise(ctx context.Context, env *boot.Environment) string {
	l, err := dial(ctx)
	if err != nil {
		return "kettled stopped: " + err.Error()
	}
	defer l.close()
	for _, p := range env.Phases {
		l.phase(ctx, "boot-"+p.Name, p.Start+p.Duration)
	}
	outcome := "The job has ended and its record is delivered."
	if err := live(ctx, env, l); err != nil {
		outcome = "kettled stopped: " + err.Error()
	}
	l.end(ctx, outcome)
	return outcome
}

// live composes the environment from the measured configuration and runs it.
func live(ctx context.Context, env *boot.Environment, l *launcher) (err error) {
	m, err := load(env.Config)
	if err != nil {
		return err
	}
	network, err := network(m.config.Network)
	if err != nil {
		return err
	}
	if err := network.Up(ctx); err != nil {
		return err
	}
	admission, err := l.admission(ctx)
	if err != nil {
		return err
	}
	e, err := compose(ctx, env, m, admission)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close(context.WithoutCancel(ctx))) }()
	return e.run(ctx, l)
}

// launcher is the channel to whoever started this machine. It carries the credential in and progress out; losing it
// does not stop a job.
type launcher struct {
	port  *os.File
	guest *channel.Guest
}

func dial(ctx context.Context) (*launcher, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	port, err := boot.OpenPort(ctx, image.ControlPort)
	if err != nil {
		return nil, err
	}
	l := &launcher{port: port, guest: channel.NewGuest(port)}
	if err := l.guest.Send(ctx, channel.Hello{Program: "kettled"}); err != nil {
		return nil, errors.Join(err, port.Close())
	}
	return l, nil
}

func (l *launcher) close() { _ = l.port.Close() } // the machine powers off next

// admission is what the launcher gives this environment.
type admission struct {
	credential github.Credential
	prefix     string // of the runner's names
	secret     secret.String
}

// admission waits for the registration credential: a token as it is, or a GitHub App as JSON.
func (l *launcher) admission(ctx context.Context) (admission, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	given, err := l.guest.Admission(ctx)
	if err != nil {
		return admission{}, err
	}
	credential, err := github.ParseCredential(given.Credential)
	return admission{credential: credential, prefix: given.Prefix, secret: given.Credential}, err
}

// phase and end tell the launcher how far this machine is. It may have gone; the journal has the same.
func (l *launcher) phase(ctx context.Context, name string, elapsed time.Duration) {
	_ = l.guest.Send(ctx, channel.Phase{Name: name, Elapsed: elapsed})
}

func (l *launcher) end(ctx context.Context, outcome string) {
	_ = l.guest.Send(ctx, channel.End{Outcome: channel.Printable(outcome, mostOutcome)})
}

// mostOutcome keeps an outcome within what the channel carries, in bytes.
const mostOutcome = 900
