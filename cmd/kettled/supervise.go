// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/boot"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/config"
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
	remote := m.config.Image.Bundle != config.BundlePartition
	if remote { // nothing is sent that the host does not know
		if err := network.Up(ctx); err != nil {
			return err
		}
	}
	own, err := verifySelf(ctx, m, env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, own.close()) }()
	l.phase(ctx, "self-verified", boot.Uptime())
	if !remote {
		if err := network.Up(ctx); err != nil {
			return err
		}
	}
	given, err := l.given(ctx, m.config.Credential.From)
	if err != nil {
		return err
	}
	e, err := compose(ctx, env, m, own, given)
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

// given is what the launcher gives this environment.
type given struct {
	credential github.Credential // none where the machine has to be admitted
	prefix     string            // of the runner's names
	secret     secret.String
}

// given waits for the launcher's word: the prefix of the runner's names, and the registration credential (a token as it is,
// or a GitHub App as JSON) exactly where the measured configuration takes it from a launcher. A credential that comes this
// way to a machine which has to be admitted is an attempt to get around that.
func (l *launcher) given(ctx context.Context, from string) (given, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	a, err := l.guest.Admission(ctx)
	if err != nil {
		return given{}, err
	}
	if (from == config.FromLauncher) == a.Credential.Empty() {
		return given{}, fmt.Errorf("the image's configuration takes its credential from %s, and the launcher acts otherwise", from)
	}
	g := given{prefix: a.Prefix, secret: a.Credential}
	if !a.Credential.Empty() {
		g.credential, err = github.ParseCredential(a.Credential)
	}
	return g, err
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
