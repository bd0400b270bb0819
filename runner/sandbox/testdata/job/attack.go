// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// attacker tries everything once and reports each attempt as a line: what came of it, the area, the attempt, the error.
type attacker struct {
	strict     bool
	area       string
	supervisor string // kettled's process id outside
	key        string // the serial number of a key of kettled's
}

// attack tries everything, as whoever runs it.
func attack(args []string) int {
	fmt.Println("uid", os.Getuid())
	a := attacker{strict: args[1] == "strict", supervisor: args[2], key: args[3]}
	for _, part := range []struct {
		area string
		run  func()
	}{
		{"supervisor", a.processes}, {"devices", a.devices}, {"mounts", a.mounts}, {"calls", a.calls}, {"kernel", a.kernelFiles},
		{"network", a.network}, {"groups", a.groups}, {"clock", a.clock}, {"keys", a.keys}, {"namespaces", a.namespaces}, {"disk", a.disk},
	} {
		if a.area = part.area; args[0] == "all" || args[0] == a.area {
			part.run()
		}
	}
	fmt.Println("attack over")
	return 0
}

func (a *attacker) try(name string, err error) {
	if err == nil {
		fmt.Printf("REACHED\t%s\t%s\n", a.area, name)
		return
	}
	fmt.Printf("denied\t%s\t%s\t%v\n", a.area, name, err)
}

// strictly tries what the docker profile allows: it stays inside the sandbox there.
func (a *attacker) strictly(name string, attempt func() error) {
	if a.strict {
		a.try(name, attempt())
	}
}

func call(number uintptr, args ...uintptr) error {
	var all [6]uintptr
	copy(all[:], args)
	if _, _, errno := syscall.RawSyscall6(number, all[0], all[1], all[2], all[3], all[4], all[5]); errno != 0 {
		return errno
	}
	return nil
}

// readable is nil when at least one byte can be read.
func readable(name string) error {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		names, err := f.Readdirnames(1)
		if len(names) > 0 {
			return nil
		}
		return err
	}
	n, err := f.Read(make([]byte, 16))
	if n > 0 {
		return nil
	}
	return err
}

// writable is nil when name can be opened for writing and is not the null device, which masks it.
func writable(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3) {
		return errors.New("masked by the null device")
	}
	return nil
}

// holds is nil when the file holds the text.
func holds(name, text string) error {
	raw, err := os.ReadFile(name)
	if err == nil && !strings.Contains(string(raw), text) {
		err = errors.New("not in it")
	}
	return err
}
