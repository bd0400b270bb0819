// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/cmd/internal/commands"
	"github.com/kettle/attest/dispatch"
)

// runFlags are the flags of run as written.
type runFlags struct {
	placeFlags
	image, simulator, listen, log, metrics string
	memory, cpus                           int
	expose, json                           bool
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run --image DIR --settings DIR --simulator DIR --credential FILE --state DIR",
		Short: "Start one machine for one job and stay with it",
		Long: `run starts the image in a machine of its own, which registers itself at GitHub as an ephemeral runner. Where the
configuration says credential.from: launcher, run gives it the credential; otherwise the machine has to be admitted (see
kettle-dispatch admit), and run keeps the credential for tidying up. It stays until the machine has ended: after its one job, or without one after the configuration's
idle time. Whichever way the machine ends, run then has GitHub list its runners, removes what is there, and asks again.

There is no launcher for TEE hardware yet. The machine runs in QEMU, and --simulator names the root of the secure
processor that run plays itself. Who can read that folder can forge every quote.

What is kept of each machine, in a folder of its own below --state:

  launch.json    the prefix of its runners' names, chosen by run, written before the machine starts
  journal.jsonl  its journal, each line checked against the one before
  console.log    its serial console
  reaped.json    how it ended, what GitHub listed then, and when it listed nothing any more

The first SIGINT or SIGTERM drains: a machine without a job ends, one with a job ends after it or when the
configuration's timeouts.drain is over. The second ends the machine at once; the third gives up, and kettle-dispatch
reap has to remove what is left.

--listen answers /metrics, /healthz and /status, on loopback. The credential never appears in arguments, environment,
log or output.`,
		Example: `  # The image, made before with scripts/build-image --settings settings --runner runner --output out/image
  kettle-dispatch run --image out/image --settings settings --simulator sim --credential token --state /var/lib/kettle

  # As a service
  kettle-dispatch run … --listen 127.0.0.1:9464 --log json --json`,
		Args: cobra.NoArgs,
		RunE: a.Does(func(cmd *cobra.Command, _ []string) error { return a.runOne(cmd.Context(), &f) }),
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.image, "image", "", "folder of the image, with its image.json (required)")
	flags.StringVar(&f.simulator, "simulator", "", "folder of the simulated secure processor's root (required)")
	flags.IntVar(&f.memory, "memory", 3072, "the machine's memory in MiB")
	flags.IntVar(&f.cpus, "cpus", 1, "the machine's processors")
	flags.StringVar(&f.listen, "listen", "", "address for /metrics, /healthz and /status, as 127.0.0.1:9464")
	flags.BoolVar(&f.expose, "expose", false, "let --listen name an address that others can reach")
	flags.StringVar(&f.metrics, "metrics-file", "", "write the metrics to this file at the end, for a collector of text files")
	flags.StringVar(&f.log, "log", "off", "log on the error stream: off, text or json")
	flags.BoolVar(&f.json, "json", false, "print the closing record as JSON")
	required(cmd, "image", "simulator")
	return cmd
}

// sweepTime bounds what a new launcher spends on what older ones have left.
const sweepTime = 30 * time.Second

// runOne runs one machine.
func (a *app) runOne(ctx context.Context, f *runFlags) (err error) {
	signals := make(chan os.Signal, 3)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := ctx.Err(); err != nil { // one came before they were counted
		return err
	}
	p, err := f.open()
	if err != nil {
		return err
	}
	defer p.client.Close()
	m, err := f.described(p)
	if err != nil {
		return err
	}
	reaper := p.reaper(a.limits)
	if reaper.Logger, err = logger(a.io.Err, f.log); err != nil {
		return err
	}
	listener, err := listen(ctx, f.listen, f.expose)
	if err != nil {
		return err
	}
	if listener != nil {
		defer listener.Close()
	}
	a.sweep(ctx, f, reaper)
	if f.metrics != "" {
		defer func() { err = errors.Join(err, reaper.Metrics.WriteFile(f.metrics)) }()
	}
	folder, err := dispatch.CreateFolder(f.state, p.target)
	if err != nil {
		return err
	}
	ctx, give := context.WithCancel(context.WithoutCancel(ctx)) // a signal is not the end: they are counted
	defer give()
	vm, err := a.start(ctx, f, p, m, folder)
	if err != nil {
		return errors.Join(err, folder.Discard())
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	session, err := dispatch.New(dispatch.Config{Folder: folder, Machine: vm, Credential: p.given(), Reaper: reaper})
	if err != nil {
		vm.Kill()
		return errors.Join(err, vm.Wait(), vm.Control().Close())
	}
	return a.follow(ctx, f, watched{vm: vm, session: session, folder: folder, listener: listener, signals: signals, give: give})
}

// sweep reaps what older launchers have left, as far as that takes little time. The reap command is for the rest.
func (a *app) sweep(ctx context.Context, f *runFlags, r *dispatch.Reaper) {
	quick := *r
	quick.Limits.Patience, quick.Limits.Busy = sweepTime, sweepTime
	ctx, cancel := context.WithTimeout(ctx, 2*sweepTime)
	defer cancel()
	found, err := quick.Recover(ctx, f.state)
	if err = errors.Join(err, found.Err()); err != nil {
		r.Logger.WarnContext(ctx, "older environments not reaped", "error", err)
		fmt.Fprintf(a.io.Err, "kettle-dispatch: of older machines, %s\n", cli.CleanLines(err.Error()))
	}
}

// watched is a machine that runs, with all that belongs to it.
type watched struct {
	vm       machine
	session  *dispatch.Session
	folder   *dispatch.Folder
	listener net.Listener
	signals  <-chan os.Signal
	give     context.CancelFunc
}

// follow stays with the machine to its end and says how it was.
func (a *app) follow(ctx context.Context, f *runFlags, w watched) error {
	serving, stop := context.WithCancel(ctx)
	wait, err := w.session.Serve(serving, w.listener)
	if err != nil {
		w.session.Kill() // it has no credential yet; what follows ends and reaps it
		wait = func() {}
	}
	var group sync.WaitGroup
	group.Go(func() { obey(serving, w) })
	group.Go(func() { a.watch(serving, w.session) })
	record, runErr := w.session.Run(ctx)
	stop()
	group.Wait()
	wait()
	w.vm.Kill() // no harm to one that has ended
	vmErr := w.vm.Wait()
	if vmErr != nil && !errors.Is(vmErr, context.Canceled) && (record == nil || record.How == dispatch.Died) {
		err = errors.Join(err, vmErr)
	}
	if runErr != nil {
		return errors.Join(err, remote(runErr))
	}
	return errors.Join(err, a.conclude(f, w, record))
}

// obey does what signals ask: drain, end the machine, give up.
func obey(ctx context.Context, w watched) {
	for _, do := range []func(){w.session.Drain, w.session.Kill, w.give} {
		select {
		case <-w.signals:
			do()
		case <-ctx.Done():
			return
		}
	}
}

// watch shows on a terminal how the machine stands.
func (a *app) watch(ctx context.Context, s *dispatch.Session) {
	progress := a.io.Progress()
	defer progress.Done()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		progress.Say("%s", oneLine(s.Status(), time.Now()))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// conclude says how the machine ended.
func (a *app) conclude(f *runFlags, w watched, r *dispatch.Record) error {
	var err error
	if f.json {
		err = commands.WriteJSON(a.io.Out, r)
	} else {
		removed := "none left"
		if r.Removed > 0 {
			removed += fmt.Sprintf("; %d removed by the launcher", r.Removed)
		}
		_, err = fmt.Fprintf(a.io.Out, "environment  %s %s: %s\nstate        %s\njournal      %d lines, %s\nrunners      %s\n",
			r.Environment, r.How, cli.Clean(r.Outcome), cli.Clean(cmp.Or(string(r.Journal.State), "-")), r.Journal.Lines,
			filepath.Join(w.folder.Path(), "journal.jsonl"), removed)
	}
	switch r.How {
	case dispatch.Ended, dispatch.Drained:
		return err
	case dispatch.Killed:
		return errors.Join(err, fmt.Errorf("the machine was ended: %w", context.Canceled))
	}
	return errors.Join(err, fmt.Errorf("the machine %s: %s; look at its console, %s", r.How, strings.TrimSuffix(r.Outcome, "."), w.folder.Console()))
}
