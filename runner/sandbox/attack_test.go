// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/sandbox"
)

// variant is a way to run the job that attacks.
type variant struct {
	name, runtime, user string
	config              func(string) sandbox.Config
}

var variants = []variant{
	{"strict-root", crun, "root", strict}, {"docker-root", crun, "root", docker}, {"strict-runner", crun, "runner", strict},
	{"docker-runner", crun, "runner", docker}, {"strict-runc-root", runc, "root", strict}, {"docker-runc-root", runc, "root", docker},
}

// reports holds what each variant's job said; it tries everything at once, and the tests read their parts.
var reports = struct {
	mu   sync.Mutex
	said map[string]string
}{said: map[string]string{}}

// outside is what kettled has and the job looks for.
type outside struct {
	socket net.Listener
	key    int
}

// expose makes an abstract socket and a key of kettled's own. The key is in the session keyring of one thread, from which
// the sandbox is made.
func expose(t *testing.T) outside {
	t.Helper()
	runtime.LockOSThread() // the thread ends with the test
	l, err := net.Listen("unix", "@kettled-outside")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if _, err := unix.KeyctlJoinSessionKeyring("kettled"); err != nil {
		t.Fatal(err)
	}
	key, err := unix.AddKey("user", "kettled", []byte(secret), unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		t.Fatal(err)
	}
	return outside{l, key}
}

// report gives what the variant's job said.
func (v variant) report(t *testing.T, area string) string {
	t.Helper()
	reports.mu.Lock()
	defer reports.mu.Unlock()
	if said, ok := reports.said[v.name]; ok {
		return said
	}
	if os.Getpid() == 1 {
		area = "all"
	} // a mutant runs one test; what reaches its aim in another area, such as the end of the disk, would spoil the next one
	o := expose(t)
	c := v.config("attack-" + v.name)
	c.Runtimes = []string{v.runtime}
	profile := string(c.Profile)
	args := []string{"attack", area, profile, strconv.Itoa(os.Getpid()), strconv.Itoa(o.key)}
	if v.user == "root" {
		args = append([]string{"root"}, args...)
	}
	r := run(t, c, args...)
	r.until(t, "attack over")
	if err := r.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	reports.said[v.name] = r.out.String()
	return r.out.String()
}

// attempts demands that everything that the job tried in this area was denied, as whoever it ran.
func attempts(t *testing.T, area string, least int) {
	t.Helper()
	if !in(t, small) {
		return
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			said := v.report(t, area)
			if uid := map[string]string{"runner": "1001", "root": "0"}[v.user]; !strings.Contains(said, "uid "+uid+"\n") {
				t.Errorf("not as %s:\n%s", v.user, said)
			}
			denied(t, said, area, least)
		})
	}
}

// denied reads the lines of one area.
func denied(t *testing.T, said, area string, least int) {
	t.Helper()
	n := 0
	var lines strings.Builder
	for line := range strings.Lines(said) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) < 3 || fields[1] != area {
			continue
		}
		if fields[0] == "REACHED" {
			t.Errorf("reached: %s", fields[2])
			continue
		}
		n++
		fmt.Fprintf(&lines, "%s: %s\n", fields[2], fields[3])
	}
	if n < least {
		t.Errorf("%d attempts, want %d at least:\n%s", n, least, lines.String())
	}
	t.Logf("%d denied", n)
}

func TestAttackSupervisor(t *testing.T) { attempts(t, "supervisor", 10) }
func TestAttackDevices(t *testing.T)    { attempts(t, "devices", 70) }
func TestAttackMounts(t *testing.T)     { attempts(t, "mounts", 50) }
func TestAttackCalls(t *testing.T)      { attempts(t, "calls", 36) }
func TestAttackKernel(t *testing.T)     { attempts(t, "kernel", 40) }
func TestAttackNetwork(t *testing.T)    { attempts(t, "network", 25) }
func TestAttackOwnGroup(t *testing.T)   { attempts(t, "groups", 40) }
func TestAttackClock(t *testing.T)      { attempts(t, "clock", 4) }
func TestAttackKeys(t *testing.T)       { attempts(t, "keys", 7) }
func TestAttackNamespaces(t *testing.T) { attempts(t, "namespaces", 8) }
func TestAttackDiskCalls(t *testing.T)  { attempts(t, "disk", 16) }

// What a job leaves behind ends with the sandbox, and is counted. Its names cannot draw on anybody's terminal.
func TestAttackOutlive(t *testing.T) {
	if !in(t, small) {
		return
	}
	for _, c := range []sandbox.Config{strict("outlive"), docker("outlive-d")} {
		r := run(t, c, "daemons", "gradle", "a\x1b[2Jb\nc", "a-name-longer-than-fifteen")
		if code := func() int { code, _ := r.Wait(t.Context()); return code }(); code != 3 {
			t.Errorf("exit code %d", code)
		}
		pids, err := daemonPIDs(r)
		if err != nil || len(pids) < 3 {
			t.Errorf("they do not run: %v, %v", pids, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := r.Kill(ctx); err != nil {
			t.Fatal(err)
		}
		n, left := r.Leftovers()
		if got := fmt.Sprint(left); n != 3 || !strings.Contains(got, " gradle ") || !strings.Contains(got, " a?[2Jb?c ") && !strings.Contains(got, `a?[2Jb\nc`) || !strings.Contains(got, " a-name-longer-t]") {
			t.Errorf("left %d: %q", n, got)
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
				t.Errorf("process %d is still there: %v", pid, err)
			}
		}
	}
}

// daemonPIDs are all processes of the sandbox, as the machine counts them.
func daemonPIDs(r running) ([]int, error) {
	var pids []int
	for _, group := range []string{"box", "box/init"} {
		raw, err := os.ReadFile(r.group(group + "/cgroup.procs"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for word := range strings.FieldsSeq(string(raw)) {
			pid, err := strconv.Atoi(word)
			if err != nil {
				return nil, err
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// A job that stops or kills the runner program ends or delays itself: kettled can freeze and kill it as before.
func TestAttackListener(t *testing.T) {
	if !in(t, small) {
		return
	}
	r := run(t, strict("listener-kill"), "listener", "kill")
	if code := r.wait(t); code != 128+int(unix.SIGKILL) {
		t.Errorf("exit code %d", code)
	}
	r = run(t, docker("listener-stop"), "listener", "stop")
	r.until(t, "listening")
	for _, step := range []func() error{
		func() error { return r.Freeze(t.Context()) }, func() error { return r.Thaw(t.Context()) }, func() error { return r.Kill(t.Context()) },
	} {
		if err := step(); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-r.Done():
	default:
		t.Error("killed and not done")
	}
}

// Whoever is root inside may claim any exit code, and gains nothing by it.
func TestAttackExitCode(t *testing.T) {
	if !in(t, small) {
		return
	}
	for id, tc := range map[string]struct {
		claim string
		code  int
		fails bool
	}{
		"claim": {"7\n", 7, false}, "claim-none": {"\n", 0, true}, "claim-long": {"99999999\n", 0, true}, "claim-text": {"\x1b[2J", 0, true},
	} {
		r := load(t, strict(id), "sleep")
		if err := os.WriteFile("/run/state-"+id+"/init/end", []byte(tc.claim), 0o600); err != nil {
			t.Fatal(err)
		}
		code, err := r.Wait(t.Context())
		if code != tc.code || (err != nil) != tc.fails {
			t.Errorf("%q: got %d, %v", tc.claim, code, err)
		}
		if err := r.Kill(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
