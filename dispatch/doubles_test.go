// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
	"github.com/kettle/attest/runner/github"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func target() Target {
	return Target{APIURL: "https://api.github.com", Scope: "repo", Target: "acme/widget"}
}

// registry is a GitHub in memory. Each call takes the next fault; nil is none.
type registry struct {
	mu      sync.Mutex
	last    int64
	runners map[int64]github.Runner
	faults  []error
	calls   int
	hidden  int              // so many listings do not show what is there
	asked   []string         // names that were looked for without an id
	busy    map[string]int   // a name is busy for so many tries
	listed  func(n int)      // called at each listing
	by      map[int64]string // who removed it
}

func newRegistry() *registry {
	r := &registry{runners: map[int64]github.Runner{}, busy: map[string]int{}, by: map[int64]string{}, last: 20}
	r.register("someone-else")
	r.register("kettle-ffffffffffffffff-00000001") // of another environment
	return r
}

func (r *registry) register(name string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	r.runners[r.last] = github.Runner{ID: r.last, Name: name}
	return r.last
}

func (r *registry) fault() error {
	r.calls++
	if len(r.faults) == 0 {
		return nil
	}
	err := r.faults[0]
	r.faults = r.faults[1:]
	return err
}

// Runners implements [Registry]. It is lax about the prefix: the reaper has to look itself.
func (r *registry) Runners(ctx context.Context, _ string) ([]github.Runner, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(ctx.Err(), r.fault()); err != nil {
		return nil, err
	}
	if r.listed != nil {
		r.listed(r.calls)
	}
	var out []github.Runner
	if r.hidden > 0 {
		r.hidden--
		return out, nil
	}
	for _, g := range r.runners {
		out = append(out, g)
	}
	return out, nil
}

// Remove implements [Registry].
func (r *registry) Remove(ctx context.Context, reg runner.Registration) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := errors.Join(ctx.Err(), r.fault()); err != nil {
		return err
	}
	if r.busy[reg.Name] > 0 {
		r.busy[reg.Name]--
		return runner.ErrBusy
	}
	if reg.ID == 0 {
		r.asked = append(r.asked, reg.Name)
	}
	for id, g := range r.runners {
		if id == reg.ID || reg.ID == 0 && g.Name == reg.Name {
			r.by[id] = reg.Name
			delete(r.runners, id)
		}
	}
	return nil
}

func (r *registry) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, g := range r.runners {
		out = append(out, g.Name)
	}
	slices.Sort(out)
	return out
}

// untouched demands that nobody else's runner was removed.
func (r *registry) untouched(t *testing.T) {
	t.Helper()
	if got := r.names(); !slices.Equal(got, []string{"kettle-ffffffffffffffff-00000001", "someone-else"}) {
		t.Errorf("GitHub lists %v", got)
	}
}

// machine is a VM that is a goroutine.
type machine struct {
	host, inside net.Conn
	done         chan struct{}
	once         sync.Once
	stubborn     bool // does not end when it is killed
}

func newMachine() *machine {
	host, inside := net.Pipe()
	return &machine{host: host, inside: inside, done: make(chan struct{})}
}

func (m *machine) Control() net.Conn     { return m.host }
func (m *machine) Done() <-chan struct{} { return m.done }

// Kill ends the VM as a power cut does: in the middle of whatever it says.
func (m *machine) Kill() {
	if !m.stubborn {
		m.powerOff()
	}
}

func (m *machine) powerOff() {
	m.once.Do(func() {
		_ = m.inside.Close()
		close(m.done)
	})
}

// guest speaks the VM's side.
type guest struct {
	*channel.Guest
	t      *testing.T
	ctx    context.Context //nolint:containedctx // of the test.
	prefix string
	seq    int
	last   binding.Digest
}

func newGuest(t *testing.T, m *machine) *guest {
	return &guest{t: t, Guest: channel.NewGuest(m.inside), ctx: t.Context()}
}

func (g *guest) say(m channel.Message) {
	if err := g.Send(g.ctx, m); err != nil && !gone(err) {
		g.t.Errorf("the guest could not say %T: %v", m, err)
	}
}

func gone(err error) bool { return errors.Is(err, io.ErrClosedPipe) }

// hello begins, and gives false when there is no credential.
func (g *guest) hello() bool {
	g.say(channel.Hello{Program: "kettled"})
	a, err := g.Admission(g.ctx)
	if err != nil {
		return false
	}
	if a.Credential.Reveal() != "ghp_operator" {
		g.t.Error("another credential arrived")
	}
	g.prefix = a.Prefix
	return true
}

// line makes the next line of the journal.
func (g *guest) line(s runner.State, named *runner.Named) string {
	e := runner.Entry{Seq: g.seq, At: time.Now().UTC(), State: s, Runner: named, Previous: g.last}
	line, err := json.Marshal(e)
	if err != nil {
		g.t.Error(err)
	}
	g.seq, g.last = g.seq+1, binding.Sum(line)
	return string(line)
}

func (g *guest) enter(s runner.State, named *runner.Named) {
	seq := int64(g.seq)
	g.say(channel.Journal{Seq: seq, Line: g.line(s, named)})
}

// life is the honest order of states.
func life() []runner.State {
	return []runner.State{
		runner.Boot, runner.Registering, runner.Listening, runner.Claimed, runner.Running, runner.Responding, runner.Running,
		runner.Finished, runner.Removed,
	}
}

// live goes through n states of a life, with a runner at GitHub as an honest guest has it.
func (g *guest) live(r *registry, n int) {
	var named *runner.Named
	for _, s := range life()[:n] {
		switch s {
		case runner.Registering:
			named = &runner.Named{Name: g.prefix + "-0000000a"}
			g.enter(s, named) // before GitHub is asked
			named.ID = r.register(named.Name)
		case runner.Removed:
			if err := r.Remove(g.ctx, runner.Registration{ID: named.ID, Name: named.Name}); err != nil {
				g.t.Error(err)
			}
		}
		g.enter(s, named)
	}
}

// bench is a session with its doubles.
type bench struct {
	t        *testing.T
	state    string
	registry *registry
	machine  *machine
	reaper   *Reaper
	folder   *Folder
	session  *Session
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, state: t.TempDir(), registry: newRegistry(), machine: newMachine()}
	b.reaper = &Reaper{Registry: b.registry, Target: target(), Limits: DefaultLimits(), Metrics: NewMetrics(target())}
	var err error
	if b.folder, err = CreateFolder(b.state, target()); err != nil {
		t.Fatal(err)
	}
	b.session, err = New(Config{Folder: b.folder, Machine: b.machine, Credential: secret.New("ghp_operator"), Reaper: b.reaper})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// run lets the VM do something while the session runs.
func (b *bench) run(vm func(g *guest)) (*Record, error) {
	b.t.Helper()
	var group sync.WaitGroup
	group.Go(func() { vm(newGuest(b.t, b.machine)) })
	record, err := b.session.Run(b.t.Context())
	group.Wait()
	if closing := b.folder.Close(); closing != nil {
		b.t.Error(closing)
	}
	if record != nil {
		kept, err := readRecord(b.folder.path)
		if err != nil || kept.Rounds != record.Rounds || kept.Gone.IsZero() || kept.Environment != b.folder.environment {
			b.t.Errorf("kept %+v: %v", kept, err)
		}
	}
	return record, err
}

// series gives the value of one line of the metrics; "" when there is none.
func series(t *testing.T, m *Metrics, begin string) string {
	t.Helper()
	for line := range strings.SplitSeq(exposition(t, m), "\n") {
		if rest, ok := strings.CutPrefix(line, begin); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func found(id int64, name string) github.Runner { return github.Runner{ID: id, Name: name} }
