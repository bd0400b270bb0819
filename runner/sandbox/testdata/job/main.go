// SPDX-License-Identifier: Apache-2.0

// Job is what runs in the sandboxes of the tests, as the runner program or as whatever it starts. Its first argument says
// what to do; what it prints is what the tests read. It is built static.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 {
		return 2
	}
	rest := args[1:]
	switch args[0] {
	case "describe":
		return describe(rest[0])
	case "attack":
		return attack(rest)
	case "tick":
		return tick()
	case "exhaust":
		return exhaust(rest[0])
	case "daemons":
		return daemons(rest)
	case "write":
		return write()
	case "listener":
		return listener(rest[0])
	case "groups":
		return dividedGroups()
	case "serve":
		return serve(rest[0])
	case "dial":
		return dial(rest[0])
	case "privileged":
		return privileged()
	case "write-here":
		return say(os.WriteFile(rest[0], []byte("from a container\n"), 0o644))
	case "sleep":
		time.Sleep(time.Hour)
	case "orphan": // leaves a child behind, which ends later
		return spawn("exit")
	case "root":
		return asRoot(rest)
	case "uid":
		_ = unix.Setuid(0)
		fmt.Println(map[bool]string{true: "suid root", false: "suid no"}[os.Geteuid() == 0])
	case "execs":
		return execs(rest[0], rest[1])
	case "say":
		fmt.Println(rest)
	case "exit":
		time.Sleep(10 * time.Millisecond)
	}
	return 0
}

// asRoot does the rest as the sandbox's root, through the set-user-ID program.
func asRoot(args []string) int {
	if os.Geteuid() != 0 {
		cmd := exec.Command("/usr/bin/as-root", append([]string{"root"}, args...)...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return say(cmd.Run())
	}
	if err := errors.Join(syscall.Setgid(0), syscall.Setuid(0)); err != nil {
		return say(err)
	}
	return run(args)
}

// say prints err and gives an exit code.
func say(err error) int {
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}
