// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func unixDial(address string) (net.Conn, error) { return net.Dial("unix", address) }

func (a *attacker) network() {
	for name, family := range map[string]int{"AF_VSOCK": unix.AF_VSOCK, "AF_ALG": unix.AF_ALG, "AF_XDP": unix.AF_XDP} {
		_, err := unix.Socket(family, unix.SOCK_STREAM, 0)
		a.try("socket "+name, err)
	}
	a.strictly("socket AF_PACKET", func() error {
		_, err := unix.Socket(unix.AF_PACKET, unix.SOCK_STREAM, 0)
		return err
	})
	a.wideFamilies()
	for _, address := range []string{"169.254.169.254:80", "10.0.2.2:80", "10.0.2.100:443", "1.1.1.1:53", "[fd00::1]:80"} {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		a.try("connect "+address, err)
	}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if i.Name != "lo" && i.Name != "eth0" && os.Getenv("NESTED") == "" {
			a.try("see interface "+i.Name, nil)
		}
	}
	a.strictly("take an interface down", down)
}

// wideFamilies hides the family of a socket below bits that the kernel does not look at. Only the filter answers
// EAFNOSUPPORT to all of them: the kernel would ask a packet socket for CAP_NET_RAW first.
func (a *attacker) wideFamilies() {
	families := map[string]uintptr{
		"AF_VSOCK": unix.AF_VSOCK, "AF_ALG": unix.AF_ALG, "AF_XDP": unix.AF_XDP, "AF_RDS": unix.AF_RDS, "AF_TIPC": unix.AF_TIPC,
	}
	if a.strict {
		families["AF_PACKET"] = unix.AF_PACKET
	}
	for name, family := range families {
		for _, upper := range []uintptr{0, 1 << 32, 1 << 63, 0xffffffff << 32} {
			err := call(unix.SYS_SOCKET, upper|family, unix.SOCK_RAW, 0)
			if !errors.Is(err, unix.EAFNOSUPPORT) {
				fmt.Printf("socket %#x passed the filter: %v\n", upper|family, err)
				err = nil
			}
			a.try(fmt.Sprintf("socket %s as %#x", name, upper|family), err)
		}
	}
}

// down needs CAP_NET_ADMIN (netdevice(7)).
func down() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var request [40]byte
	copy(request[:], "lo")
	return call(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
}

// namespaces makes new ones and enters kettled's.
func (a *attacker) namespaces() {
	for name, flag := range map[string]uintptr{"user": unix.CLONE_NEWUSER, "mount": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET, "pid": unix.CLONE_NEWPID} {
		a.strictly("clone a "+name+" namespace", func() error {
			_, err := syscall.ForkExec("/proc/self/exe", []string{"job", "exit"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Cloneflags: flag}})
			return err
		})
	}
	for _, kind := range []string{"user", "mnt", "net", "pid", "ipc", "uts", "cgroup"} {
		name := "/proc/" + a.supervisor + "/ns/" + kind
		mine, _ := os.Readlink("/proc/self/ns/" + kind)
		other, err := os.Readlink(name)
		if err == nil && other == mine {
			err = errors.New("it is the sandbox's own") // the number is another process here
		}
		if err == nil {
			err = enter(name)
		}
		a.try("enter the "+kind+" namespace of kettled's number", err)
	}
	uidMap, _ := os.ReadFile("/proc/self/uid_map")
	err := fmt.Errorf("map %v", strings.Fields(string(uidMap)))
	if fields := strings.Fields(string(uidMap)); len(fields) != 3 || fields[1] == "0" && os.Getenv("NESTED") == "" {
		err = nil
	}
	a.try("be the machine's root", err)
}

func enter(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.Setns(fd, 0)
}

// dial reads what a server says, or is glad when one listens on a path.
func dial(address string) int {
	network, rest := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, rest = "unix", path
	}
	var conn net.Conn
	var err error
	for range 50 { // the server may still be starting
		if conn, err = net.Dial(network, rest); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil || network == "unix" {
		fmt.Println("dialled", address, err)
		return map[bool]int{true: 0, false: 1}[err == nil]
	}
	text, err := io.ReadAll(conn)
	fmt.Printf("dialled %s: %q\n", address, text)
	return say(err)
}

// privileged does what a privileged container can be asked for.
func privileged() int {
	if err := os.MkdirAll("/m", 0o755); err != nil {
		return say(err)
	}
	for _, kind := range []string{"tmpfs", "proc", "sysfs"} {
		if err := unix.Mount(kind, "/m", kind, 0, ""); err != nil {
			return say(fmt.Errorf("mounting %s: %w", kind, err))
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "CapEff") {
			fmt.Print("privileged with ", line)
		}
	}
	return say(err)
}
