// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/collect"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/boot"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/config"
	"github.com/kettle/attest/runner/github"
	"github.com/kettle/attest/runner/job/pinned"
	"github.com/kettle/attest/runner/sandbox"
	"github.com/kettle/attest/runner/scaleset"
	"github.com/kettle/attest/runner/sink"
)

// dispatchTime bounds T0, in which GitHub may take a minute to show which job the runner has. The sandbox stands still
// meanwhile, and its hold on the job is renewed by nobody: GitHub gives a job up after ten minutes.
const dispatchTime = 2 * time.Minute

// environment is everything that one run of kettled is composed of.
type environment struct {
	agent   runner.Config
	ports   runner.Ports
	logs    *logs
	journal *os.File
	alarms  []runner.Alarm // that were raised before there was an agent
	own     *own           // what this machine found about itself
	service *service
	github  *github.Client
	sets    *scaleset.Registrar // nil unless the configuration wants scale sets
	sandbox *jail
	gate    *gate
	door    *frontDoor
}

// compose makes the adapters and hands them to the ports that they serve. On an error nothing is left behind.
func compose(ctx context.Context, env *boot.Environment, m *measured, own *own, given given) (e *environment, err error) {
	e = &environment{logs: newLogs(), own: own, service: new(service)}
	e.logs.hide(given.secret)
	if app := given.credential.App; app != nil {
		e.logs.hide(app.PrivateKey)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close(context.WithoutCancel(ctx)))
			e = nil
		}
	}()
	if err := e.begin(ctx); err != nil {
		return nil, err
	}
	if err := e.enclose(ctx, m, given.prefix); err != nil {
		return nil, err
	}
	made, err := readSoftware()
	if err != nil {
		return nil, err
	}
	e.age(ctx, made)
	e.agent = configure(env, m.config, made, given.prefix+"-")
	if err := e.fill(m); err != nil {
		return nil, err
	}
	return e, e.entrust(ctx, m, given)
}

// entrust reaches GitHub with the credential that the launcher gave, or has the environment ask for one once it is quoted.
func (e *environment) entrust(ctx context.Context, m *measured, given given) error {
	use := func(ctx context.Context, c github.Credential) error { return e.connect(ctx, m, c, given.prefix) }
	if m.config.Credential.From == config.FromLauncher {
		return use(ctx, given.credential)
	}
	client, err := newClient(m, given.prefix, e.own.bundle, e.logs.logger())
	if err != nil {
		return err
	}
	e.ports.Admission = &applicant{client: client, use: use, hide: e.logs.hide, log: e.logs.logger()}
	return nil
}

// configure says what the measured configuration says about one environment.
func configure(env *boot.Environment, c *config.Config, made *software, prefix string) runner.Config {
	t := c.Timeouts
	return runner.Config{
		Prefix: prefix, Profile: c.Sandbox.Profile, Egress: egressMode(c.Egress.After.Mode), Pinned: c.GitHub.Hosts, Configuration: c.Digest(),
		Image: binding.Digest(env.CommandLine.Root.RootHash), Software: made.versions, Packages: made.packages,
		Register: t.Register, Listen: t.Listen, Ghost: t.Ghost, Idle: t.Idle, Dispatch: dispatchTime, Job: t.Job, Drain: t.Drain,
		Freeze: c.Sandbox.Limits.FreezeTime,
	}
}

// journalFile is the journal, and the mark that this environment was used. It lies in kettled's own memory.
const journalFile = "/run/kettle-journal.jsonl"

// begin makes sure that nothing has lived here before, and makes the journal.
func (e *environment) begin(ctx context.Context) (err error) {
	if err := runner.Recover(ctx, journalFile, e.service, time.Now); err != nil {
		return err
	}
	e.journal, err = runner.CreateJournalFile(journalFile)
	return err
}

// age says when the runner program is about to be too old for GitHub.
func (e *environment) age(ctx context.Context, made *software) {
	age, err := made.runner.Age(time.Now())
	switch {
	case err != nil:
		e.logs.logger().WarnContext(ctx, "age of the runner program unknown", slog.Any("error", err))
		e.alarms = append(e.alarms, runner.Alarm(channel.ClockWrong))
	case age.Alarm != "":
		e.logs.logger().WarnContext(ctx, "age of the runner program", slog.String("warning", age.Sentence))
		e.alarms = append(e.alarms, runner.Alarm(age.Alarm))
	}
}

// connect makes the client of GitHub, and what asks it which job this is.
func (e *environment) connect(ctx context.Context, m *measured, credential github.Credential, prefix string) (err error) {
	c := m.config
	e.github, err = github.New(github.Config{
		URL: c.GitHub.URL, APIURL: c.GitHub.APIURL, Scope: github.Scope(c.GitHub.Scope), Target: c.GitHub.Target,
		RunnerGroup: c.GitHub.RunnerGroup, Labels: c.GitHub.Labels, Hosts: pinned.Hosts(c.GitHub.Hosts), Credential: credential, Roots: m.githubCA,
		Minted: func(token secret.String) { e.logs.hide(token) },
	})
	if err != nil {
		return err
	}
	for _, w := range e.github.Warnings() {
		e.logs.logger().WarnContext(ctx, "credential", slog.String("warning", w))
		e.alarms = append(e.alarms, runner.Alarm(channel.PATCredential))
	}
	var registrar runner.Registrar = e.github
	if c.GitHub.Registrar == "scale-set" {
		e.sets, err = scaleset.New(scaleset.Config{GitHub: e.github, Name: prefix, Owner: prefix, Version: revision(), Log: e.logs.logger()})
		if err != nil {
			return err
		}
		registrar = e.sets
	}
	home, err := e.sandbox.home()
	if err != nil {
		return err
	}
	identifier, err := newIdentifier(m, e.github, e.sets, home)
	if err != nil {
		return err
	}
	e.service.open(registrar, identifier)
	return nil
}

// doorDir lies in kettled's own memory: a job that fills its disk does not keep answers from it.
const doorDir = "/run/kettle-door"

// enclose makes the job's disk, its sandbox, and the two ways out of that: the door and the gate.
func (e *environment) enclose(ctx context.Context, m *measured, name string) (err error) {
	disk, err := makeScratch(ctx, m.config.Sandbox)
	if err != nil {
		return err
	}
	if sandbox.Profile(m.config.Sandbox.Profile) == sandbox.Strict {
		if err := boot.ForbidUserNamespaces(); err != nil {
			return err
		}
	}
	if e.door, err = openDoor(doorDir); err != nil {
		return err
	}
	if e.gate, err = newGate(m.config); err != nil {
		return err
	}
	e.sandbox, err = newJail(ctx, m, name, disk, e)
	return err
}

// fill hands the adapters to the ports that they serve.
func (e *environment) fill(m *measured) error {
	c := m.config
	store, err := sink.Open(c.Sink.URL, m.sinkCA)
	if err != nil {
		return err
	}
	keeper, err := newKeeper(e.sandbox.box.Volumes(), c.Sandbox.Limits)
	if err != nil {
		return err
	}
	e.logs.home = e.sandbox.home
	e.ports = runner.Ports{
		Device: e.own.device, Appraiser: e.own.appraiser, Image: e.own,
		Registrar: e.service, Sandbox: e.sandbox, Identifier: e.service,
		Policy: jobPolicy{m.policy}, Gate: e.gate, Keeper: keeper, Sink: store,
		Logs: e.logs, Journal: e.journal, Now: time.Now, Log: e.logs.logger(),
	}
	return nil
}

// run lives the environment's life; the door is open and the launcher is told as long.
func (e *environment) run(ctx context.Context, l *launcher) error {
	report := newReport(l.guest)
	e.ports.Watch = report.entry
	agent, err := runner.New(e.agent, e.ports)
	if err != nil {
		return err
	}
	for _, a := range e.alarms {
		agent.Raise(ctx, a)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return e.door.serve(groupCtx, agent, e.logs, e.sandbox.contains) })
	group.Go(func() error { return e.gate.serve(groupCtx) })
	telling, told := context.WithCancel(context.WithoutCancel(ctx)) // until the life is over, whatever ends it
	var talk sync.WaitGroup
	talk.Go(func() { report.send(telling, agent.Status) })
	talk.Go(func() { obey(telling, l.guest, agent.Drain, e.logs.logger()) })
	group.Go(func() error {
		defer cancel()
		return agent.Run(groupCtx)
	})
	err = group.Wait()
	told()
	talk.Wait()
	return err
}

// closeTime bounds what is done when the life is over.
const closeTime = 2 * time.Minute

// close lets go of everything, in the opposite order. The machine powers off next; what matters is that no process of
// the sandbox is left when the last words are said.
func (e *environment) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	var errs []error
	if e.sandbox != nil {
		errs = append(errs, e.sandbox.close(ctx))
	}
	if e.door != nil {
		errs = append(errs, e.door.close())
	}
	if e.sets != nil {
		errs = append(errs, e.sets.Close(ctx))
	}
	if e.github != nil {
		e.github.Close()
	}
	if e.journal != nil {
		errs = append(errs, e.journal.Close())
	}
	return errors.Join(errs...)
}

// openDevice opens the first allowed platform that this machine has. A platform whose device fails ends the search: what
// makes it fail must not choose a lesser one.
func openDevice(ctx context.Context, allowed []string) (*collect.Device, error) {
	var errs []error
	for _, platform := range allowed {
		d, err := collect.Open(ctx, platform)
		if err == nil {
			return d, nil
		}
		errs = append(errs, err)
		if !errors.Is(err, collect.ErrUnsupported) {
			break
		}
	}
	return nil, fmt.Errorf("opening the secure processor: %w", errors.Join(errs...))
}

// makeScratch makes the job's disk and gives its block device.
func makeScratch(ctx context.Context, c config.Sandbox) (device string, err error) {
	return boot.MakeScratch(ctx, boot.Scratch{
		Place: boot.Place(c.Scratch), Dir: image.ScratchDir, Mkfs: image.MakeXFS, Bytes: c.Limits.DiskMiB << 20,
		JobMemory: c.Limits.MemoryMiB << 20,
	})
}

// egressMode says in provenance what the configuration says.
func egressMode(mode string) statement.EgressMode {
	return map[string]statement.EgressMode{
		"none": statement.EgressNone, "allow": statement.EgressAllow, "audit": statement.EgressAudit,
	}[mode]
}

// network translates the configuration's network. Its shape was checked with the configuration.
func network(c config.Network) (boot.Network, error) {
	n := boot.Network{Interface: "eth0", Hosts: map[string]netip.Addr{}}
	var err error
	if n.Address, err = netip.ParsePrefix(c.Address); err != nil {
		return n, fmt.Errorf("reading network.address: %w", err)
	}
	if c.Gateway != "" {
		if n.Gateway, err = netip.ParseAddr(c.Gateway); err != nil {
			return n, fmt.Errorf("reading network.gateway: %w", err)
		}
	}
	for _, server := range c.Servers {
		addr, err := netip.ParseAddr(server)
		if err != nil {
			return n, fmt.Errorf("reading network.nameServers: %w", err)
		}
		n.Resolvers = append(n.Resolvers, addr)
	}
	for host, addr := range c.Resolve {
		if n.Hosts[host], err = netip.ParseAddr(addr); err != nil {
			return n, fmt.Errorf("reading network.resolve: %w", err)
		}
	}
	return n, nil
}

// frontDoor is the directory that the sandbox sees read-only as /run/kettle, with the door's socket in it.
type frontDoor struct {
	dir      string
	listener *net.UnixListener
}

// openDoor makes the directory and the socket. Everyone in the sandbox may knock; whom to answer is decided by cgroup.
func openDoor(dir string) (*frontDoor, error) {
	if err := os.MkdirAll(filepath.Join(dir, "out"), 0o711); err != nil { //nolint:gosec // the sandbox reads through it.
		return nil, fmt.Errorf("making the door: %w", err)
	}
	path := filepath.Join(dir, "door.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("opening the door: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // the peer is checked by its cgroup.
		return nil, errors.Join(fmt.Errorf("opening the door: %w", err), l.Close())
	}
	return &frontDoor{dir: dir, listener: l}, nil
}

func (d *frontDoor) close() error {
	if err := d.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("closing the door: %w", err)
	}
	return nil
}
