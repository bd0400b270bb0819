// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/dispatch"
	"github.com/kettle/attest/image/launch"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner/config"
	"github.com/kettle/attest/runner/github"
	"github.com/kettle/attest/runner/job/pinned"
	"github.com/kettle/attest/runner/scaleset"
)

// placeFlags say where at GitHub, with which credential, and where on this host.
type placeFlags struct {
	state, settings, credential string
	forwards                    []string
}

func (f *placeFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.state, "state", "", "folder for what is kept of each machine; it is made if need be (required)")
	flags.StringVar(&f.settings, "settings", "", "folder of the image's configuration: config.yaml and what it names (required)")
	flags.StringVar(&f.credential, "credential", "", "file with a token, or a GitHub App as JSON; nobody else may read it (required)")
	flags.StringArrayVar(&f.forwards, "forward", nil,
		"GUEST=HOST: what the machine reaches at an endpoint of 10.0.2.0/24 goes to one of this host; may be repeated")
	required(cmd, "state", "settings", "credential")
}

// place is GitHub, as the image's configuration and the operator's credential reach it.
type place struct {
	config   *config.Config
	client   *github.Client
	target   dispatch.Target
	secret   secret.String
	app      bool // the credential is a GitHub App
	forwards []launch.Forward
}

// open reads the configuration and the credential. Nothing is sent yet.
func (f *placeFlags) open() (*place, error) {
	text, err := os.ReadFile(filepath.Join(f.settings, "config.yaml"))
	if err != nil {
		return nil, cli.Usagef("--settings: %w", err)
	}
	p := &place{}
	if p.config, err = config.Parse(text); err != nil {
		return nil, cli.Usagef("--settings: %w", err)
	}
	if p.forwards, err = parseForwards(f.forwards); err != nil {
		return nil, err
	}
	var credential github.Credential
	if p.secret, credential, err = readCredential(f.credential); err != nil {
		return nil, err
	}
	p.app = credential.App != nil
	roots, err := f.roots(p.config.GitHub.Roots)
	if err != nil {
		return nil, err
	}
	g := p.config.GitHub
	p.target = dispatch.Target{APIURL: g.APIURL, Scope: g.Scope, Target: g.Target}
	p.client, err = github.New(github.Config{
		URL: g.URL, APIURL: g.APIURL, Scope: github.Scope(g.Scope), Target: g.Target, RunnerGroup: g.RunnerGroup, Labels: g.Labels,
		Hosts: pinned.Hosts(g.Hosts), Credential: credential, Roots: roots, Dial: p.dial,
	})
	if err != nil {
		return nil, cli.Usagef("--settings, --credential: %w", err)
	}
	return p, nil
}

// given is the credential that a machine gets from its launcher: none where the image's configuration has it admitted.
func (p *place) given() secret.String {
	if p.config.Credential.From != config.FromLauncher {
		return secret.String{}
	}
	return p.secret
}

// roots gives the private authorities of the configuration; nil means the system's.
func (f *placeFlags) roots(names []string) (*x509.CertPool, error) {
	if len(names) == 0 {
		return nil, nil //nolint:nilnil // nil means the system's.
	}
	pool := x509.NewCertPool()
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(f.settings, name)) //nolint:gosec // a plain file name, checked by config.
		if err != nil {
			return nil, cli.Usagef("--settings: %w", err)
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, cli.Usagef("--settings: %s holds no certificate", name)
		}
	}
	return pool, nil
}

// dial reaches a host as the machine does: where the configuration resolves it to an address that is forwarded, it goes
// there.
func (p *place) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if fixed, ok := p.config.Network.Resolve[host]; ok {
		addr = net.JoinHostPort(fixed, port)
		for _, f := range p.forwards {
			if f.Guest.String() == addr {
				addr = f.Host.String()
			}
		}
	}
	return dialer.DialContext(ctx, network, addr)
}

func parseForwards(words []string) ([]launch.Forward, error) {
	var out []launch.Forward
	for _, word := range words {
		guest, host, _ := strings.Cut(word, "=")
		from, err := netip.ParseAddrPort(guest)
		to, hostErr := netip.ParseAddrPort(host)
		if err != nil || hostErr != nil {
			return nil, cli.Usagef("--forward %q: want two endpoints, as in 10.0.2.100:443=127.0.0.1:8443", word)
		}
		out = append(out, launch.Forward{Guest: from, Host: to})
	}
	return out, nil
}

// reaper makes the reaper of a place.
func (p *place) reaper(limits dispatch.Limits) *dispatch.Reaper {
	r := &dispatch.Reaper{Registry: p.client, Target: p.target, Limits: limits, Metrics: dispatch.NewMetrics(p.target)}
	if p.config.GitHub.Registrar == "scale-set" {
		r.Sets = sets{p.client}
	}
	return r
}

// sets are the scale sets of a place.
type sets struct{ client *github.Client }

// Discard implements [dispatch.ScaleSets].
func (s sets) Discard(ctx context.Context, name string) error {
	return scaleset.Discard(ctx, scaleset.Config{GitHub: s.client, Name: name, Owner: name, Version: "kettle-dispatch"})
}

// listen takes the address of --listen, which is one of loopback unless the operator says otherwise.
func listen(ctx context.Context, addr string, expose bool) (net.Listener, error) {
	if addr == "" {
		return nil, nil //nolint:nilnil // none was asked for.
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, cli.Usagef("--listen: %w", err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return nil, cli.Usagef("--listen %q: want an IP address and a port, as in 127.0.0.1:9464", addr)
	}
	if !ip.IsLoopback() && !expose {
		return nil, cli.Usagef("--listen %q is not of loopback: whoever reaches it sees names of runners; add --expose if that is wanted", addr)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("listening on --listen: %w", err)
	}
	return l, nil
}
