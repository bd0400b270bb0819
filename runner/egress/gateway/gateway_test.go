// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
)

func TestMain(m *testing.M) {
	if _, err := os.Stat(image.ModuleList); err == nil && os.Getpid() == 1 {
		guest(m)
	}
	if name := os.Getenv(attackVariable); name != "" {
		os.Exit(attacker(name)) //nolint:forbidigo // it is another program.
	}
	goleak.VerifyTestMain(m)
}

// namespaceFor makes an empty network namespace, or skips where that needs more than this user may.
func namespaceFor(t testing.TB) *os.File {
	t.Helper()
	ns, err := newNamespace()
	if errors.Is(err, unix.EPERM) {
		t.Skipf("making a network namespace needs root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return ns
}

// open opens a gateway that says to each connection where it wanted to go, and to each datagram.
func open(t testing.TB, sandbox *os.File) (*Gateway, *visits) {
	t.Helper()
	g, err := Open(t.Context(), sandbox)
	if err != nil {
		t.Fatal(err)
	}
	v := &visits{}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := g.Connections.Accept()
			if err != nil {
				return
			}
			v.add("tcp " + conn.LocalAddr().String())
			_, _ = fmt.Fprint(conn, conn.LocalAddr())
			_ = conn.Close()
		}
	})
	all.Go(func() {
		buf := make([]byte, 1500)
		for {
			_, control, from, err := g.Queries.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				v.add("udp " + control.Dst.String())
				_, _ = g.Queries.WriteTo([]byte(control.Dst.String()), &ipv4.ControlMessage{Src: control.Dst}, from)
			}
		}
	})
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
	})
	return g, v
}

type visits struct {
	mu   sync.Mutex
	seen []string
}

func (v *visits) add(what string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen = append(v.seen, what)
}

func (v *visits) all() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.seen...)
}

// last is a host that only [settled] asks for.
const last = "203.0.113.9"

// settled gives what the sockets saw, nothing of it still waiting: both hand out in the order of arrival, and the answer
// to a question from the gateway itself says that everything before it was taken.
func settled(t *testing.T, g *Gateway, v *visits) []string {
	t.Helper()
	for network, address := range map[string]string{"tcp": last + ":9", "udp": last + ":53"} {
		if _, err := ask(g.namespace, network, address); err != nil {
			t.Fatalf("asking the gateway from itself: %v", err)
		}
	}
	return slices.DeleteFunc(v.all(), func(what string) bool { return strings.Contains(what, " "+last) })
}

// ask connects from inside a namespace, says hello and reads the answer.
func ask(ns *os.File, network, address string) (answer string, err error) {
	err = within(ns, func() error {
		conn, err := net.DialTimeout(network, address, 2*time.Second)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := conn.Write([]byte("hello")); err != nil {
			return err
		}
		buf := make([]byte, 100)
		n, err := conn.Read(buf)
		answer = string(buf[:n])
		return err
	})
	return answer, err
}

func TestEveryConnectionArrives(t *testing.T) {
	t.Parallel()
	ns := namespaceFor(t)
	open(t, ns)
	for _, to := range []string{"100.96.0.1:1", "100.96.0.1:443", "198.18.0.1:443", "169.254.169.254:80", "10.0.2.2:65535", "8.8.8.8:53", "255.0.0.1:1"} {
		if got, err := ask(ns, "tcp", to); err != nil || got != to {
			t.Errorf("%s: got %q, %v", to, got, err)
		}
	}
	for _, to := range []string{"100.96.0.1:53", "8.8.8.8:53"} {
		if got, err := ask(ns, "udp", to); err != nil || got+":53" != to {
			t.Errorf("%s: got %q, %v", to, got, err)
		}
	}
}

func TestInside(t *testing.T) {
	t.Parallel()
	ns := namespaceFor(t)
	open(t, ns)
	err := within(ns, func() error {
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		if len(links) != 2 || links[0].Name != "lo" || links[1].Name != Inside || links[0].Flags&links[1].Flags&net.FlagUp == 0 {
			t.Errorf("got %+v", links)
		}
		addresses, err := net.InterfaceAddrs()
		if got := fmt.Sprint(addresses); got != "[127.0.0.1/8 100.96.0.2/30 ::1/128]" && got != "[127.0.0.1/8 ::1/128 100.96.0.2/30]" {
			t.Errorf("got %v", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// The settings are what they are meant to be, also where the machine's own values happen to be the same.
func TestSettings(t *testing.T) {
	t.Parallel()
	g, _ := open(t, namespaceFor(t))
	err := within(g.namespace, func() error {
		for _, s := range gatewaySettings() {
			got, err := os.ReadFile(filepath.Join("/proc/sys/net", s.name))
			if want := s.value; err != nil || strings.Join(strings.Fields(string(got)), " ") != want {
				t.Errorf("%s: got %q, %v, want %q", s.name, got, err, want)
			}
		}
		links, err := net.Interfaces()
		if len(links) != 2 {
			t.Errorf("the gateway has %+v", links)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// descriptors counts what is open.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// Not parallel: it counts the descriptors of the process.
//
//nolint:paralleltest // see above.
func TestCloseTakesEverythingAway(t *testing.T) {
	ns := namespaceFor(t)
	if _, err := ask(ns, "tcp", "8.8.8.8:53"); err == nil {
		t.Fatal("a new namespace has a way out")
	}
	before := descriptors(t)
	g, err := Open(t.Context(), ns)
	if err != nil {
		t.Fatal(err)
	}
	info, err := g.steering.program.Info()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := info.ID()
	if _, err := Open(t.Context(), ns); !errors.Is(err, unix.EEXIST) {
		t.Errorf("opened twice: %v", err)
	}
	for range 2 {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are left of %d", after, before)
	}
	err = within(ns, func() error {
		if _, err := net.InterfaceByName(Inside); err == nil {
			t.Errorf("%s is still there", Inside)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		p, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		_ = p.Close()
		if time.Now().After(end) {
			t.Fatalf("the program is still there: %v", err)
		}
	}
	if again, err := Open(t.Context(), ns); err != nil {
		t.Error(err)
	} else if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// The sandbox may have destroyed its end, or itself.
func TestCloseWithoutWire(t *testing.T) {
	t.Parallel()
	ns := namespaceFor(t)
	g, err := Open(t.Context(), ns)
	if err != nil {
		t.Fatal(err)
	}
	err = within(ns, func() error {
		link, err := netlink.LinkByName(Inside)
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	if err = errors.Join(err, g.Close()); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusal(t *testing.T) {
	t.Parallel()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	if g, err := Open(t.Context(), null); g != nil || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("got %v", err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	if Address() != netip.MustParseAddr("100.96.0.1") || SandboxAddress() != netip.MustParsePrefix("100.96.0.2/30") {
		t.Error(Address(), SandboxAddress())
	}
}

// BenchmarkWire measures the wire alone: one connection from the sandbox to the gateway's listener.
func BenchmarkWire(b *testing.B) {
	ns := namespaceFor(b)
	g, err := Open(b.Context(), ns)
	if err != nil {
		b.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() {
		for {
			conn, err := g.Connections.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, conn)
			_ = conn.Close()
		}
	})
	defer func() {
		_ = g.Close()
		server.Wait()
	}()
	var conn net.Conn
	if err := within(ns, func() (err error) { conn, err = net.Dial("tcp", "8.8.8.8:443"); return err }); err != nil { //nolint:noctx // at once.
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	block := make([]byte, 1<<20)
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		if _, err := conn.Write(block); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen measures how long a sandbox waits for its network.
func BenchmarkOpen(b *testing.B) {
	ns := namespaceFor(b)
	for b.Loop() {
		g, err := Open(b.Context(), ns)
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
