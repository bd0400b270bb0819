// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/egress/gateway"
)

// worldVariable says that this program already runs in a network namespace of its own, whose only wire is to the world
// of the tests.
const worldVariable = "EGRESS_WORLD"

// TestMain runs the tests in namespaces of their own: the gate dials and asks name servers as it always does, and
// everything that leaves arrives in the tests' world.
func TestMain(m *testing.M) {
	outside.own = os.Getenv(worldVariable) != ""
	worker := slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "-test.fuzzworker") })
	if !outside.own && !worker && os.Geteuid() == 0 {
		os.Exit(again()) //nolint:forbidigo // the tests ran in the other program.
	}
	_ = os.Unsetenv(worldVariable) // a program that a test starts has no part in it
	code := m.Run()
	outside.close()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code) //nolint:forbidigo // as testing does.
}

// again runs this program in new network and mount namespaces.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:noctx // it gets its signals from go test.
	cmd.Env = append(os.Environ(), worldVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT)
	runtime.LockOSThread() // the child's life hangs on this thread
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// world is everything that kettled can reach: every IPv4 address and port, and one name server.
type world struct {
	own     bool // this program has namespaces of its own
	once    sync.Once
	err     error
	gateway *gateway.Gateway
	running sync.WaitGroup

	mu      sync.Mutex
	names   map[string]func() []netip.Addr
	serve   map[netip.AddrPort]func(net.Conn)
	asked   []string         // questions that reached the name server
	reached []netip.AddrPort // connections
	open    map[net.Conn]bool
	next    netip.Addr
}

var outside world

// theWorld opens the world at its first use.
func theWorld(t testing.TB) *world {
	t.Helper()
	if !outside.own {
		t.Skip("making network namespaces needs root")
	}
	outside.once.Do(func() { outside.err = outside.begin() })
	if outside.err != nil {
		t.Fatal(outside.err)
	}
	return &outside
}

func (w *world) begin() error {
	w.names, w.serve, w.open = map[string]func() []netip.Addr{}, map[netip.AddrPort]func(net.Conn){}, map[net.Conn]bool{}
	w.next = netip.MustParseAddr("93.184.0.1")
	own, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return err
	}
	defer func() { _ = own.Close() }()
	if w.gateway, err = gateway.Open(context.Background(), own); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	for file, text := range map[string]string{
		"/etc/resolv.conf": "nameserver " + gateway.Address().String() + "\nsearch search.test\noptions timeout:1\n", "/etc/hosts": "127.0.0.1 localhost\n",
	} {
		temp, err := os.CreateTemp("", "egress")
		if err != nil {
			return err
		}
		_, err = temp.WriteString(text)
		err = errors.Join(err, temp.Close(), unix.Mount(temp.Name(), file, "", unix.MS_BIND, ""), os.Remove(temp.Name()))
		if err != nil {
			return err
		}
	}
	w.running.Go(w.answer)
	w.running.Go(w.accept)
	return nil
}

func (w *world) close() {
	if w.gateway == nil {
		return
	}
	_ = w.gateway.Close()
	w.mu.Lock()
	for c := range w.open {
		_ = c.Close()
	}
	w.mu.Unlock()
	w.running.Wait()
}

func (w *world) accept() {
	for {
		conn, err := w.gateway.Connections.Accept()
		if err != nil {
			return
		}
		to := conn.LocalAddr().(*net.TCPAddr).AddrPort() //nolint:forcetypeassert // it is one.
		w.mu.Lock()
		w.reached = append(w.reached, to)
		serve := w.serve[to]
		w.open[conn] = true
		w.mu.Unlock()
		w.running.Go(func() {
			if serve != nil {
				serve(conn)
			}
			_ = conn.Close()
			w.mu.Lock()
			delete(w.open, conn)
			w.mu.Unlock()
		})
	}
}

// answer is the name server.
func (w *world) answer() {
	buf := make([]byte, 4096)
	for {
		n, control, from, err := w.gateway.Queries.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		var m dnsmessage.Message
		if err != nil || m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		w.mu.Lock()
		w.asked = append(w.asked, q.Name.String())
		find := w.names[strings.TrimSuffix(q.Name.String(), ".")]
		w.mu.Unlock()
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		if find == nil {
			m.RCode = dnsmessage.RCodeNameError
		} else {
			for _, a := range find() {
				head := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}
				switch {
				case a.Is4() && q.Type == dnsmessage.TypeA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
				case a.Is6() && q.Type == dnsmessage.TypeAAAA:
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
				}
			}
		}
		if out, err := m.Pack(); err == nil {
			_, _ = w.gateway.Queries.WriteTo(out, &ipv4.ControlMessage{Src: control.Dst}, from)
		}
	}
}

// host puts a name with an address of its own into the world and gives the address.
func (w *world) host(t testing.TB, name string) netip.Addr {
	t.Helper()
	w.mu.Lock()
	a := w.next
	w.next = a.Next()
	w.mu.Unlock()
	w.resolve(t, name, func() []netip.Addr { return []netip.Addr{a} })
	return a
}

func (w *world) resolve(t testing.TB, name string, find func() []netip.Addr) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.names[name] != nil {
		t.Fatalf("%s is another test's", name)
	}
	w.names[name] = find
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.names, name)
	})
}

// listen serves an address of the world.
func (w *world) listen(a netip.Addr, port uint16, serve func(net.Conn)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serve[netip.AddrPortFrom(a, port)] = serve
}

// was says whether anything connected to an address.
func (w *world) was(a netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.reached, func(r netip.AddrPort) bool { return r.Addr() == a })
}

// heard says whether a question contains a text.
func (w *world) heard(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.asked, func(q string) bool { return strings.Contains(strings.ToLower(q), text) })
}

// echoes sends back what it gets.
func echoes(c net.Conn) { _, _ = io.Copy(c, c) }
