// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/eventlog"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/secret"
)

// world is everything outside an environment. It records what happens in which order and checks the order of secrets
// as it goes.
type world struct {
	t *testing.T

	mu       sync.Mutex
	events   []string          // mu
	frozen   bool              // mu
	dead     bool              // mu
	register binding.Digest    // mu
	quotes   [][64]byte        // mu
	files    map[string][]byte // mu

	started      bool         // mu
	ended        time.Time    // mu: when the life had its ending
	journal      bytes.Buffer // mu
	registered   []string     // mu: names of runners
	registerErrs []error      // mu: of the tries, in order
	removeErrs   []error      // mu: likewise
	sight        Sight        // mu
	sightErr     error        // mu

	stay  map[string]bool // what does not return until letGo is closed
	letGo chan struct{}

	exited chan int

	packErr, startErr, identifyErr, allowErr, hashErr error
	holdErr, settleErr, diskErr                       error
	noSnapshot                                        bool
	freezeErr, thawErr, killErr, quoteErr             error
	conclusion                                        string
	freezeAfter                                       int                             // freezes that work
	slow                                              func(ctx context.Context) error // of identifying
	appraise                                          func(n int) (Self, error)       // of the n-th quote
	imageErr, admitErr                                error
	hang                                              string // file that the sink never takes
	spoil                                             func() // says something at the door
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, exited: make(chan int, 1), files: map[string][]byte{}, stay: map[string]bool{}, conclusion: "success", sight: SightIdle}
}

// linger stays at a place that the world was told to stay at.
func (w *world) linger(ctx context.Context, where string) {
	if w.stay[where] {
		select {
		case <-w.letGo:
		case <-ctx.Done():
		}
	}
}

// fail has the next so many calls fail.
func (w *world) fail(errs *[]error, err error, times int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*errs = append(*errs, slices.Repeat([]error{err}, times)...)
}

// Write implements [io.Writer]: the journal's file.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.journal.Write(p)
}

func (w *world) note(event string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, event)
}

func (w *world) saw(event string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.events {
		if e == event {
			n++
		}
	}
	return n
}

func (w *world) Quote(ctx context.Context, rd [64]byte) (Quote, error) {
	w.linger(ctx, "quote")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.quotes = append(w.quotes, rd)
	if len(w.quotes) > 2 && w.quoteErr != nil { // the probe and BOOT work
		return Quote{}, w.quoteErr
	}
	return Quote{evidence.Evidence{Kind: evidence.SNP, Report: rd[:], Endorsements: evidence.Endorsements{Leaf: []byte("certificate")}}}, nil
}

// VerifyImage finds the image good, and that nothing was made of this machine before.
func (w *world) VerifyImage(context.Context, Quote, time.Time) (Image, error) {
	w.note("verify image")
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.register.IsZero() {
		w.t.Error("the register is extended before the image is verified")
	}
	if w.imageErr != nil {
		return Image{}, w.imageErr
	}
	return Image{
		Files:      []statement.Subject{{Name: "initrd.cpio", Digest: statement.SHA256(binding.Sum([]byte("initrd")))}},
		Provenance: binding.Sum([]byte("provenance")), References: binding.Sum([]byte("references")), Policy: binding.Sum([]byte("policy")),
		Levels: []string{statement.BuildLevel(3)},
	}, nil
}

// Admit asks the environment for a quote of its request, as every dispatcher does.
func (w *world) Admit(ctx context.Context, e Applicant) ([]byte, error) {
	w.note("admit")
	if w.admitErr != nil {
		return nil, w.admitErr
	}
	signed, quoted, err := e.Quote(ctx, []byte(`{"request":1}`), binding.Digest{1}, binding.Digest{2})
	if err != nil {
		return nil, err
	}
	if b, err := bundle.Parse(signed); err != nil {
		return nil, err
	} else if _, err := b.Verify(must(evidence.Parse(quoted)).PublicKey); err != nil {
		return nil, err
	}
	if boot, bootEvidence := e.Boot(); binding.Sum(must(evidence.Parse(bootEvidence)).PublicKey) != e.Key() || len(boot) == 0 {
		return nil, errors.New("BOOT is of another environment")
	}
	return admittedLine(), nil
}

// admittedLine stands for a VSA-ENV: nothing here reads it.
func admittedLine() []byte { return []byte(`{"admitted":true}`) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (w *world) Extend(_ context.Context, d binding.Digest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.register = eventlog.Extend(w.register, d)
	return nil
}

func (w *world) Appraise(Quote, time.Time) (Self, error) {
	if w.appraise != nil {
		w.mu.Lock()
		n := len(w.quotes)
		w.mu.Unlock()
		return w.appraise(n)
	}
	return testSelf(), nil
}

func testSelf() Self {
	return Self{Instance: statement.Instance{
		Platform: "sim", ReportID: strings.Repeat("ab", 32), ChipID: strings.Repeat("cd", 64),
	}}
}

func (w *world) Register(ctx context.Context, name string) (Registration, error) {
	w.note("register")
	w.linger(ctx, "register")
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.Contains(w.journal.String(), name) {
		w.t.Error("GitHub is asked for a runner that is not in the journal")
	}
	var err error
	if len(w.registerErrs) > 0 {
		err, w.registerErrs = w.registerErrs[0], w.registerErrs[1:]
	}
	if err == nil || errors.Is(err, ErrTryAgain) { // the worst: it is there all the same
		w.registered = append(w.registered, name)
	}
	if err != nil {
		return Registration{}, err
	}
	return Registration{ID: int64(40 + len(w.registered)), Name: name, JIT: secret.New("jit")}, nil
}

func (w *world) Observe(context.Context, Registration) (Sight, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sight, w.sightErr
}

func (w *world) see(s Sight) { w.change(func() { w.sight = s }) }

func (w *world) change(what func()) { w.mu.Lock(); defer w.mu.Unlock(); what() }

func (w *world) Remove(ctx context.Context, r Registration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.note("remove")
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.removeErrs) > 0 {
		var err error
		if err, w.removeErrs = w.removeErrs[0], w.removeErrs[1:]; err != nil {
			return err
		}
	}
	w.registered = slices.DeleteFunc(w.registered, func(name string) bool { return name == r.Name })
	return nil
}

func (w *world) Pack(_ context.Context, journal []byte) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.started && !w.dead && w.killErr == nil {
		w.t.Error("packing the logs while the sandbox lives")
	}
	return append([]byte("packed "), journal...), w.packErr
}

// left are the runners that GitHub still has.
func (w *world) left() []string { w.mu.Lock(); defer w.mu.Unlock(); return slices.Clone(w.registered) }

func (w *world) Start(ctx context.Context, _ secret.String) error {
	w.note("start")
	w.linger(ctx, "start")
	w.set(&w.started, true)
	return w.startErr
}

func (w *world) Runtime() string    { return "crun 1.8.1" }
func (w *world) Exited() <-chan int { return w.exited }

func (w *world) Dispatched() { w.note("open") }
func (w *world) Flows() []statement.Flow {
	return []statement.Flow{
		{Host: "github.test", Port: 443, Protocol: "tls", Connections: 1, Sent: 7},
		{Host: "mirror.test", Port: 80, Protocol: "http", Connections: 2, Received: 9},
		{Host: "evil.test", Protocol: "dns", Refused: "not allowed", Connections: 3},
	}
}

func (w *world) Leftovers() *statement.Processes {
	return &statement.Processes{Count: 1, Names: []string{"sleep"}}
}

func (w *world) Changes(context.Context) (*statement.Disk, []byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.dead {
		w.t.Error("looking at the disk while the sandbox lives")
	}
	if w.diskErr != nil {
		return nil, nil, w.diskErr
	}
	list := []byte("{}\n")
	return &statement.Disk{Created: 1, Complete: true, List: binding.Sum(list)}, list, nil
}

func (w *world) Freeze(context.Context) error {
	w.set(&w.frozen, true)
	w.note("freeze")
	if w.freezeErr != nil && w.saw("freeze") > w.freezeAfter {
		return w.freezeErr
	}
	return nil
}

func (w *world) Thaw(context.Context) error {
	w.set(&w.frozen, false)
	w.note("thaw")
	if w.thawErr != nil && w.saw("thaw") > w.freezeAfter {
		return w.thawErr
	}
	return nil
}

func (w *world) Kill(ctx context.Context) error {
	w.note("kill")
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.killErr == nil {
		w.set(&w.dead, true)
	}
	return w.killErr
}

func (w *world) set(b *bool, v bool) { w.mu.Lock(); defer w.mu.Unlock(); *b = v }

func (w *world) Identify(ctx context.Context, q Question) (*Job, error) {
	w.note("identify")
	w.mu.Lock()
	frozen := w.frozen
	w.mu.Unlock()
	if !frozen {
		w.t.Error("identifying while the sandbox runs")
	}
	w.linger(ctx, "identify")
	if w.slow != nil {
		if err := w.slow(ctx); err != nil {
			return nil, err
		}
	}
	if q.Nonce.IsZero() || q.EnvironmentKey.IsZero() {
		w.t.Error("identify without nonce or environment key")
	}
	return testJob(), w.identifyErr
}

func (w *world) Conclusion(context.Context, statement.Facts) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conclusion == "" {
		return "", errors.New("unreachable")
	}
	return w.conclusion, nil
}

func (w *world) Allow(statement.Facts, time.Time) error { w.note("allow"); return w.allowErr }
func (w *world) Digest() binding.Digest                 { return binding.Sum([]byte("policy")) }

func (w *world) Settle(context.Context) error { w.note("settle"); return w.settleErr }

func (w *world) Hold(ctx context.Context, o Outputs) (Held, error) {
	w.note("hold")
	w.linger(ctx, "hold")
	if !w.still() {
		w.t.Error("holding outputs while the sandbox runs")
	}
	if w.holdErr != nil {
		return nil, w.holdErr
	}
	return held{w, o}, nil
}

func (w *world) HoldDead(_ context.Context, o Outputs) (Held, error) {
	w.note("hold dead")
	if !w.dead {
		w.t.Error("holding outputs of a dead sandbox while it lives")
	}
	return held{w, o}, nil
}

func (w *world) still() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.frozen || w.dead }

// held are outputs in the world.
type held struct {
	w *world
	o Outputs
}

func (h held) Snapshot() bool { return !h.w.noSnapshot }

func (h held) Hash(context.Context) ([]statement.Subject, error) {
	if h.w.still() == h.Snapshot() && !h.w.dead {
		h.w.t.Errorf("hashing with a snapshot %v while the sandbox stands still %v", h.Snapshot(), h.w.still())
	}
	h.w.mu.Lock()
	dead := h.w.dead
	h.w.mu.Unlock()
	if h.w.hashErr != nil && !dead {
		return nil, h.w.hashErr
	}
	return []statement.Subject{{Name: h.o.Paths[0], Digest: statement.SHA256(sha256.Sum256([]byte(h.o.Paths[0])))}}, nil
}

func (h held) Release() error { h.w.note("release"); return nil }

func (w *world) Put(ctx context.Context, _ binding.Digest, name string, data []byte) error {
	w.mu.Lock()
	hang := w.hang
	w.mu.Unlock()
	if name == hang {
		return context.DeadlineExceeded
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.files[name] = bytes.Clone(data)
	return nil
}

func (w *world) names() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for n := range maps.Keys(w.files) {
		out = append(out, n)
	}
	return out
}

func (w *world) agent(change func(*Config)) *Agent {
	w.t.Helper()
	c := Config{
		Prefix: "kettle-00112233-", Profile: "strict", Egress: statement.EgressAllow, Pinned: []string{"github.test"}, Configuration: binding.Sum([]byte("config")),
		Image: binding.Sum([]byte("root")), Software: map[string]string{"kettled": "test"},
		Register: time.Minute, Listen: 2 * time.Minute, Ghost: time.Minute, Idle: 10 * time.Minute, Dispatch: time.Minute, Job: time.Hour,
		Drain: 30 * time.Minute, Freeze: time.Minute,
	}
	if change != nil {
		change(&c)
	}
	a, err := New(c, ports(w, w))
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func ports(w *world, journal io.Writer) Ports {
	return Ports{
		Device: w, Appraiser: w, Image: w, Registrar: w, Sandbox: w, Identifier: w, Policy: w, Gate: w, Keeper: w, Sink: w, Logs: w,
		Journal: journal, Now: time.Now, Watch: func(e Entry, _ []byte) { w.enter(e) },
	}
}

// enter notes an entry of the journal, if it is of another state than the one before.
func (w *world) enter(e Entry) {
	if e.Runner == nil {
		w.note("state " + string(e.State))
	}
	if e.State.Ended() && e.State != Removed {
		w.change(func() { w.ended = time.Now() })
	}
}

func testJob() *Job {
	origins := map[string]statement.Origin{}
	for _, name := range []string{
		"server", "repository", "repositoryId", "repositoryOwnerId", "runId", "runAttempt", "jobId", "job", "workflowPath",
		"ref", "sha", "event", "runnerId", "runnerName",
	} {
		origins[name] = statement.FromGitHub
	}
	f := statement.Facts{
		Server: "https://github.test", Repository: "acme/widget", RepositoryID: "1", RepositoryOwnerID: "2", RunID: "77",
		RunAttempt: "1", JobID: "9001", Job: "build", WorkflowPath: ".github/workflows/release.yml", Ref: "refs/heads/main",
		SHA: strings.Repeat("a", 40), Event: "push", RunnerID: "41", RunnerName: "kettle-1",
		IdentitySource: statement.IdentityJobsAPI, JobMessage: binding.Sum([]byte("message")), Origins: origins,
	}
	return &Job{
		Facts: f, Workspace: "/home/runner/work",
		External: statement.ExternalParameters{
			Workflow: statement.Workflow{Ref: f.Ref, Repository: f.Server + "/" + f.Repository, Path: f.WorkflowPath},
			Job:      f.Job, Event: f.Event,
		},
		GitHub: statement.GitHubParameters{
			EventName: f.Event, RepositoryID: f.RepositoryID, RepositoryOwnerID: f.RepositoryOwnerID,
			RunnerEnvironment: "self-hosted", RunID: f.RunID, RunAttempt: f.RunAttempt, JobID: f.JobID, RunnerName: f.RunnerName,
		},
		Dependencies: []statement.ResourceDescriptor{{URI: "git+https://github.test/acme/widget", Digest: statement.DigestSet{"gitCommit": f.SHA}}},
		Origins:      map[string]statement.Origin{"externalParameters.workflow": statement.FromGitHub},
	}
}

func policyRefusal() error {
	return &refusal.Refusal{Link: "policy", Code: refusal.Policy, Want: "an allowed job", Got: "another"}
}

// verified checks every line of a bundle file: each quote binds a statement of its purpose, and the key that the
// evidence carries made the signature.
func verified(t *testing.T, data []byte) map[binding.Purpose]binding.Context {
	t.Helper()
	f, err := bundle.ReadFile(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out := map[binding.Purpose]binding.Context{}
	for _, ev := range f.Evidence {
		c, err := binding.Parse(ev.Collection.Binding)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, b := range f.Bundles {
			rd := [64]byte(ev.Collection.Report)
			if _, err := binding.Check(rd, b.Payload(), ev.Collection.Binding, c.Purpose); err != nil {
				continue
			}
			if _, err := b.Verify(ev.Collection.PublicKey); err != nil {
				t.Errorf("%s: %v", c.Purpose, err)
			}
			found = true
		}
		if !found {
			t.Errorf("no statement is bound by the evidence of purpose %s", c.Purpose)
		}
		out[c.Purpose] = c
	}
	return out
}
