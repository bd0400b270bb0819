// SPDX-License-Identifier: Apache-2.0

package sandbox_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/sandbox"
)

// payload is the job: it runs inside the sandbox as the runner program.
func payload(args []string) int {
	if len(args) == 0 {
		return 2
	}
	switch args[0] {
	case "describe":
		return describe(args[1])
	case "escape":
		return escapeAs(args[1], args[2])
	case "tick":
		for i := 0; ; i++ {
			_ = os.WriteFile("/tmp/counter", []byte(strconv.Itoa(i)), 0o600)
			if i == 0 {
				fmt.Println("ticking")
			}
		}
	case "limits":
		return forkUntilStopped()
	case "memory":
		return allocate()
	case "build":
		return produce()
	case "connect":
		return connect(args[1:])
	case "sleep":
		time.Sleep(time.Hour)
	case "orphan": // leaves a child behind, which ends later
		_, _ = syscall.ForkExec("/proc/self/exe", []string{"Runner.Listener", "exit"}, &syscall.ProcAttr{})
	case "uid":
		_ = unix.Setuid(0)
		fmt.Println(map[bool]string{true: "suid root", false: "suid no"}[os.Geteuid() == 0])
	case "exit":
		time.Sleep(10 * time.Millisecond)
	}
	return 0
}

func describe(code string) int {
	host, _ := os.Hostname()
	wd, _ := os.Getwd()
	fmt.Printf("uid %d gid %d\nhostname %s\ncwd %s\n", os.Getuid(), os.Getgid(), host, wd)
	fmt.Println(strings.Join(os.Environ(), "\n"))
	note, _ := os.ReadFile("/run/kettle/note")
	fmt.Printf("note %s\n", note)
	if conn, err := net.Dial("unix", "/run/kettle/door.sock"); err == nil {
		text, _ := io.ReadAll(conn)
		fmt.Printf("door %s\n", text)
	}
	ips, _ := net.LookupHost("github.demo.test")
	fmt.Println("github.demo.test is", strings.Join(ips, ","))
	cg, _ := os.ReadFile("/proc/self/cgroup")
	fmt.Printf("cgroup %s", cg)
	ifs, _ := net.Interfaces()
	for _, i := range ifs {
		fmt.Println("interfaces", i.Name)
	}
	suid := exec.Command("/usr/bin/as-root", "uid")
	suid.Stdout = os.Stdout
	_ = suid.Run()
	_ = exec.Command("/proc/self/exe", "orphan").Run()
	time.Sleep(200 * time.Millisecond)
	if zombies() == 0 {
		fmt.Println("orphans reaped")
	}
	if os.WriteFile(sandbox.RunnerRoot+"/_diag", nil, 0o600) == nil {
		fmt.Println("runner root writable")
	}
	err := os.WriteFile("/usr/bin/crun", nil, 0o600)
	fmt.Println("image writable by overlay only:", errors.Unwrap(err))
	n, _ := strconv.Atoi(code)
	return n
}

// connect says what TLS servers of these names answer.
func connect(names []string) int {
	for _, name := range names {
		conn, err := tls.Dial("tcp", name+":443", &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the gate is tested, not TLS.
		if err != nil {
			fmt.Println(name, "refused:", err)
			continue
		}
		answer, err := io.ReadAll(conn)
		fmt.Println(name, "says", string(answer), err, conn.Close())
	}
	return 0
}

func zombies() int {
	n := 0
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		if text, err := os.ReadFile(s); err == nil && strings.Contains(string(text), ") Z ") {
			n++
		}
	}
	return n
}

func forkUntilStopped() int {
	for range 1000 {
		if _, err := syscall.ForkExec("/proc/self/exe", []string{"Runner.Listener", "sleep"}, &syscall.ProcAttr{}); err != nil {
			fmt.Println("forks stopped:", err)
			time.Sleep(time.Hour)
		}
	}
	fmt.Println("never stopped")
	return 1
}

func allocate() int {
	const step = 16 << 20
	for range 64 {
		mem, err := unix.Mmap(-1, 0, step, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return 1
		}
		for i := 0; i < step; i += 4096 {
			mem[i] = 1
		}
	}
	fmt.Println("allocated 1 GiB")
	return 0
}

func produce() int {
	ws := sandbox.RunnerRoot + "/_work/w/w"
	err := errors.Join(os.MkdirAll(ws+"/dist", 0o755),
		os.WriteFile(ws+"/dist/one.txt", []byte("one"), 0o600),
		os.WriteFile(ws+"/dist/two.txt", []byte("two"), 0o600),
		os.Symlink("/etc/shadow", ws+"/link"), unix.Mkfifo(ws+"/fifo", 0o600),
		os.WriteFile(ws+"/sparse", nil, 0o600), os.Truncate(ws+"/sparse", 16<<20))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("built")
	time.Sleep(time.Hour)
	return 0
}
