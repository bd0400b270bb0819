// SPDX-License-Identifier: Apache-2.0

package main

import (
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
)

const home = "/home/runner"

// describe tells what a runner program would find.
func describe(code string) int {
	host, _ := os.Hostname()
	wd, _ := os.Getwd()
	groups, _ := os.Getgroups()
	fmt.Printf("uid %d gid %d groups %v\nhostname %s\ncwd %s\n", os.Getuid(), os.Getgid(), groups, host, wd)
	fmt.Println(strings.Join(os.Environ(), "\n"))
	note, _ := os.ReadFile("/run/kettle/note")
	fmt.Printf("note %s\n", note)
	if conn, err := net.Dial("unix", "/run/kettle/door.sock"); err == nil {
		text, _ := io.ReadAll(conn)
		fmt.Printf("door %s\n", text)
	}
	for _, name := range []string{"/etc/resolv.conf", "/etc/hosts", home + "/.profile"} {
		text, _ := os.ReadFile(name)
		fmt.Printf("%s %q\n", name, text)
	}
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
	for end := time.Now().Add(10 * time.Second); orphans() > 0 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if orphans() == 0 {
		fmt.Println("orphans reaped")
	}
	describeFiles()
	n, _ := strconv.Atoi(code)
	return n
}

func describeFiles() {
	if os.WriteFile(home+"/actions-runner/_diag", nil, 0o600) == nil {
		fmt.Println("runner root writable")
	}
	err := os.WriteFile("/usr/bin/catatonit", nil, 0o600)
	fmt.Println("image writable by overlay only:", errors.Unwrap(err))
	for _, name := range []string{"/tmp", "/var/tmp", "/var", home, "/var/lib/docker", "/var/lib/containers"} {
		var st unix.Stat_t
		var fs unix.Statfs_t
		if unix.Stat(name, &st) == nil && unix.Statfs(name, &fs) == nil {
			fmt.Printf("%s mode %o uid %d type %x\n", name, st.Mode, st.Uid, uint32(fs.Type))
		}
	}
	for _, name := range []string{"/dev/fuse", "/dev/net/tun"} {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		fmt.Println("open", name, err == nil)
		_ = f.Close()
	}
}

// orphans counts the processes that [spawn] has started, living or dead: a dead one keeps its name until it is reaped.
func orphans() (n int) {
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && string(text) == "exe\n" {
			n++
		}
	}
	return n
}

// spawn starts this program again and does not wait for it.
func spawn(args ...string) int {
	_, err := syscall.ForkExec("/proc/self/exe", append([]string{"Runner.Worker"}, args...), &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2},
	})
	return say(err)
}

func tick() int {
	for i := 0; ; i++ {
		_ = os.WriteFile("/tmp/counter", []byte(strconv.Itoa(i)), 0o600)
		if i == 0 {
			fmt.Println("ticking")
		}
	}
}

// daemons leaves processes behind: in sessions of their own, with names that a job would like to see printed.
func daemons(names []string) int {
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return say(err)
	}
	for _, name := range names {
		program := filepath.Join("/tmp", name)
		if err := os.WriteFile(program, text, 0o755); err != nil {
			return say(err)
		}
		cmd := exec.Command(program, "sleep")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			return say(err)
		}
	}
	fmt.Println("daemons left")
	return 3
}

// write puts a file into every place where a job may.
func write() int {
	for name, text := range map[string]string{
		home + "/actions-runner/_work/out": "of the workspace", "/tmp/out": "of the temporary folder", "/var/tmp/out": "of the overlay",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o600)); err != nil {
			return say(err)
		}
	}
	fmt.Println("written")
	time.Sleep(time.Hour)
	return 0
}

// listener has a child do to it what a job would.
func listener(how string) int {
	signal := map[string]unix.Signal{"stop": unix.SIGSTOP, "kill": unix.SIGKILL}[how]
	fmt.Println("listening")
	return say(unix.Kill(os.Getpid(), signal))
}

// serve answers one connection and stays.
func serve(address string) int {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return say(err)
	}
	fmt.Println("serving")
	for {
		conn, err := l.Accept()
		if err != nil {
			return say(err)
		}
		_, _ = conn.Write([]byte("served\n"))
		_ = conn.Close()
	}
}
