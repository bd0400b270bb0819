// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// attackVariable tells this program to be a sandbox: root of a user namespace that owns its network namespace.
const attackVariable = "GATEWAY_ATTACK"

// attacks run inside a sandbox whose wire is up. Each says what it gained, which should be nothing, and proves by
// something harmless that it was able to try.
func attacks() map[string]func(*report) {
	return map[string]func(*report){
		"readdress": readdress,
		"frames":    frames,
		"arp":       arp,
		"ping":      ping,
		"datagrams": datagrams,
		"version6":  version6,
		"netlink":   otherNamespace,
	}
}

// report collects what an attack says, a line each.
type report struct {
	out     io.Writer
	targets []string
}

func (r *report) gained(format string, args ...any) { r.say("gained", format, args...) }
func (r *report) broken(format string, args ...any) { r.say("broken", format, args...) }

// must demands what the attack needs in order to mean something.
func (r *report) must(err error) {
	if err != nil {
		r.broken("%v", err)
	}
}

func (r *report) say(kind, format string, args ...any) {
	_, _ = fmt.Fprintln(r.out, kind, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; "))
}

// attacker is the program inside. It starts once its wire is there.
func attacker(name string) int {
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return 1
	}
	attacks()[name](&report{os.Stdout, strings.Fields(line)})
	return 0
}

// sandbox is a sandbox at work.
type sandbox struct {
	namespace *os.File
	start     func(targets string) (said string, err error)
}

// sandboxFor starts this program as root of a user namespace of its own.
func sandboxFor(t *testing.T, attack string) sandbox {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), attackVariable+"="+attack)
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1 << 20, Size: 1 << 16}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, UidMappings: ids, GidMappings: ids, Credential: &syscall.Credential{}, Pdeathsig: syscall.SIGKILL,
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Start()
	if errors.Is(err, unix.EPERM) {
		t.Skipf("making a user namespace with many ids needs root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return sandbox{ns, func(targets string) (string, error) {
		if _, err := io.WriteString(in, targets+"\n"); err != nil {
			return "", err
		}
		err := cmd.Wait()
		return out.String(), err
	}}
}

// attack runs one and returns what the gateway's sockets saw.
func attack(t *testing.T, name string) []string {
	t.Helper()
	s := sandboxFor(t, name)
	g, visits := open(t, s.namespace)
	said, err := s.start("")
	if err != nil || said != "" {
		t.Errorf("%v:\n%s", err, said)
	}
	return settled(t, g, visits)
}

// Root of the sandbox gives itself other addresses and routes: every connection still ends in the gateway.
func TestAttackReaddress(t *testing.T) {
	t.Parallel()
	s := sandboxFor(t, "readdress")
	l, err := net.Listen("tcp4", "0.0.0.0:0") //nolint:noctx // at once.
	if err != nil {
		t.Fatal(err)
	}
	reached := make(chan bool, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_ = conn.Close()
		}
		reached <- err == nil
	}()
	own, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	targets := []string{"10.0.2.2:2222", "169.254.169.254:80"}
	for _, a := range own {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			targets = append(targets, netip.AddrPortFrom(p.Addr(), netip.MustParseAddrPort(l.Addr().String()).Port()).String())
		}
	}
	g, visits := open(t, s.namespace)
	said, err := s.start(strings.Join(targets, " "))
	if err != nil || said != "" {
		t.Errorf("%v:\n%s", err, said)
	}
	_ = l.Close()
	if <-reached {
		t.Error("the machine was reached")
	}
	var want []string
	for _, target := range targets {
		want = append(want, "tcp "+target)
	}
	if seen := settled(t, g, visits); !slices.Equal(seen, want) {
		t.Errorf("the gateway saw %q, want %q", seen, want)
	}
}

// Frames that no honest kernel sends: foreign sources, loopback and broadcast destinations, tags, IPv6.
func TestAttackFrames(t *testing.T) {
	t.Parallel()
	if seen := attack(t, "frames"); len(seen) > 0 {
		t.Errorf("the gateway saw %q", seen)
	}
}

// The gateway answers for its own address and no other.
func TestAttackARP(t *testing.T) {
	t.Parallel()
	attack(t, "arp")
}

// Nobody answers an echo request, at no address.
func TestAttackPing(t *testing.T) {
	t.Parallel()
	attack(t, "ping")
}

// UDP has port 53 and nothing else, QUIC neither.
func TestAttackDatagrams(t *testing.T) {
	t.Parallel()
	attack(t, "datagrams")
}

// Root of the sandbox switches IPv6 on again at its end.
func TestAttackIPv6(t *testing.T) {
	t.Parallel()
	if seen := attack(t, "version6"); len(seen) > 0 {
		t.Errorf("the gateway saw %q", seen)
	}
}

// The gateway's namespace has a number in the sandbox's, through which netlink could be asked to act there.
func TestAttackElsewhere(t *testing.T) {
	t.Parallel()
	attack(t, "netlink")
}
