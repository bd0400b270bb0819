// SPDX-License-Identifier: Apache-2.0

//go:build bench

package sandbox_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kettle/attest/image/build"
	"github.com/kettle/attest/runner/egress"
	"github.com/kettle/attest/runner/sandbox"
)

// How often each work is done with the sandbox and without, and which part of it each time, as its divisor: an emulated
// machine takes minutes for the whole. KETTLE_BENCH_ROUNDS and KETTLE_BENCH_PART say otherwise.
const (
	rounds = "15"
	part   = "1"
)

// What the sandbox with its gate may cost, as the ratio of the times.
const (
	goal      = 1.02 // the median
	goalUpper = 1.05 // the upper end of its interval
)

// TestBench compares, in one VM: a cold go build, make of 200 C files and 10,000 execs, in a sandbox with a gate and as
// the same user without them, one after the other, in rounds. It says the median of the ratios and its 95 % interval, and
// how long a sandbox takes to start and to end.
//
//	go test -tags bench -run TestBench -timeout 4h -v ./runner/sandbox
func TestBench(t *testing.T) {
	if os.Getenv(inGuest) != "" {
		bench(t)
		return
	}
	many := cmp.Or(os.Getenv("KETTLE_BENCH_ROUNDS"), rounds)
	divisor := cmp.Or(os.Getenv("KETTLE_BENCH_PART"), part)
	program := filepath.Join(t.TempDir(), "program")
	command(t, "go", "test", "-c", "-tags", "bench", "-trimpath", "-ldflags=-s -w", "-o", program, ".")
	m := &machine{name: "bench", memory: 4096, time: 4 * time.Hour}
	console := m.boot(t, benchRoot(t), program, []string{"set ROUNDS " + many, "set PART " + divisor, "run ^TestBench$", "timeout 4h"})
	if !strings.Contains(console, "\n--- PASS: TestBench ") {
		t.Error("the VM's part failed")
	}
	t.Log("\n" + console)
}

// benchRoot is the full root with compilers.
func benchRoot(t *testing.T) string {
	t.Helper()
	cache, err := build.CacheDir(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	base, err := build.Base(t.Context(), cache, build.FindMirror(t.Context(), os.Getenv), build.System{
		Profile: build.Docker, Packages: []string{"gcc", "libc6-dev", "make"},
	})
	if err != nil {
		t.Fatal(err)
	}
	tree := filepath.Join(t.TempDir(), "tree")
	command(t, "cp", "-al", base, tree)
	goroot := strings.TrimSpace(command(t, "go", "env", "GOROOT"))
	for _, part := range []string{"bin", "src", "pkg", "VERSION", "go.env"} {
		command(t, "cp", "-aL", filepath.Join(goroot, part), filepath.Join(tree, "usr/local/go", part))
	}
	if err := errors.Join(os.Symlink("../go/bin/go", filepath.Join(tree, "usr/local/bin/go")), os.MkdirAll(filepath.Join(tree, "scratch"), 0o755)); err != nil {
		t.Fatal(err)
	}
	addJob(t, tree)
	addScripts(t, tree)
	return pack(t, tree)
}

const benchScript = scriptsDir + "/bench.sh"

// bench does the rounds. Which of the two comes first changes from one to the next.
func bench(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("ROUNDS"))
	if err != nil || n < 1 {
		t.Fatalf("rounds: %v", err)
	}
	ratios := map[string][]float64{}
	var starts, ends []float64
	for i := range n {
		var boxed, bare map[string]float64
		both := []func(){
			func() {
				var start, end time.Duration
				boxed, start, end = inSandbox(t, "bench"+strconv.Itoa(i))
				starts, ends = append(starts, start.Seconds()), append(ends, end.Seconds())
			},
			func() { bare = withoutSandbox(t, "/scratch/bare"+strconv.Itoa(i)) },
		}
		both[i%2]()
		both[1-i%2]()
		for work, took := range boxed {
			ratios[work] = append(ratios[work], took/bare[work])
			t.Logf("round %d, %s: %.2f s with, %.2f s without, ratio %.3f", i+1, work, took, bare[work], took/bare[work])
		}
	}
	for _, work := range []string{"execs", "make", "go"} {
		median, low, high := interval(ratios[work])
		t.Logf("%s: median ratio %.3f, 95 %% interval %.3f to %.3f (goal %.2f, upper end %.2f): %t",
			work, median, low, high, goal, goalUpper, median <= goal && high <= goalUpper)
	}
	for name, times := range map[string][]float64{"start": starts, "end": ends} {
		median, low, high := interval(times)
		t.Logf("%s of a sandbox: median %.3f s, 95 %% interval %.3f to %.3f s", name, median, low, high)
	}
}

// interval gives the median and the 95 % interval of it that the order of the values alone allows: the ranks between
// which the median lies with that probability, whatever the distribution (a binomial one of the values below it).
func interval(values []float64) (median, low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	median = (sorted[(n-1)/2] + sorted[n/2]) / 2
	rank, below := 0, 0.0
	for k := range n / 2 {
		lg, _ := math.Lgamma(float64(n + 1))
		lk, _ := math.Lgamma(float64(k + 1))
		lnk, _ := math.Lgamma(float64(n - k + 1))
		if below += math.Exp(lg - lk - lnk - float64(n)*math.Ln2); below > 0.025 {
			break
		}
		rank = k + 1
	}
	return median, sorted[max(rank-1, 0)], sorted[n-1-max(rank-1, 0)]
}

func TestInterval(t *testing.T) {
	t.Parallel()
	var values []float64
	for i := range 15 {
		values = append(values, float64(15-i))
	}
	if median, low, high := interval(values); median != 8 || low != 4 || high != 12 { // tables of the sign test
		t.Errorf("got %v, %v to %v", median, low, high)
	}
}

// inSandbox does the work as kettled has it done: with the gate.
func inSandbox(t *testing.T, id string) (took map[string]float64, start, end time.Duration) {
	t.Helper()
	c := roomy(docker(id))
	c.Limits.Memory, c.Limits.CPUs = 2<<30, 64_000
	before := time.Now()
	r := loadArgs(t, c, []string{"/bin/bash", "-c", "cd && exec " + benchScript + " " + sandbox.RunnerRoot + "/bin/Runner.Listener " + os.Getenv("PART")})
	stop := openGate(t, r)
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	start = time.Since(before)
	if code, err := r.Wait(t.Context()); err != nil || code != 0 {
		t.Errorf("exit code %d, %v: %s", code, err, r.out)
	}
	before = time.Now()
	if err := r.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	end = time.Since(before)
	if err := os.RemoveAll(c.Scratch); err != nil {
		t.Fatal(err)
	}
	return times(t, r.out.String()), start, end
}

func openGate(t *testing.T, r running) (stop func()) {
	t.Helper()
	ns, err := r.NetNS()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	gate, err := egress.Open(t.Context(), ns, egress.Config{
		Rules: egress.Rules{Pinned: []string{"github.demo.test"}, After: egress.After{Mode: egress.None}},
		Limits: egress.Limits{
			Connections: 8, Rate: 100, Queries: 100, Bytes: 1 << 30, Hello: time.Minute, Dial: time.Minute, Idle: time.Minute,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- gate.Serve(ctx) }()
	return func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := gate.Close(); err != nil {
			t.Error(err)
		}
	}
}

// withoutSandbox does it as the same user, on the same disk.
func withoutSandbox(t *testing.T, dir string) map[string]float64 {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, sandbox.User, sandbox.User); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), benchScript, runnerDir+"/bin/Runner.Listener", os.Getenv("PART"))
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: sandbox.User, Gid: sandbox.User}}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	return times(t, out.String())
}

// times reads what the script says, in seconds.
func times(t *testing.T, said string) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(said) {
		var name string
		var microseconds float64
		if _, err := fmt.Sscanf(line, "took %s %f", &name, &microseconds); err == nil {
			all[name] = microseconds / 1e6
		}
	}
	if len(all) != 3 || !strings.Contains(said, "all is well") {
		t.Fatalf("it said:\n%s", said)
	}
	return all
}
