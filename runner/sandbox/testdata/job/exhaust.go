// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// exhaust takes as much of one thing as it gets, says how that ended, and stays.
func exhaust(what string) int {
	attempt, ok := map[string]func() error{
		"processes": forks, "memory": memory, "shared-memory": sharedMemory, "disk": disk, "inodes": inodes, "cpu": cpu,
		"writes": writes, "groups": manyGroups,
	}[what]
	if !ok {
		return 2
	}
	fmt.Println("end of", what+":", attempt())
	time.Sleep(time.Hour)
	return 0
}

func forks() error {
	for range 5000 {
		if _, err := syscall.ForkExec("/proc/self/exe", []string{"fork", "sleep"}, &syscall.ProcAttr{}); err != nil {
			return err
		}
	}
	return nil
}

func memory() error {
	const step = 16 << 20
	for range 64 {
		mem, err := unix.Mmap(-1, 0, step, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		for i := 0; i < step; i += 4096 {
			mem[i] = 1
		}
	}
	return nil
}

func sharedMemory() error {
	f, err := os.Create("/dev/shm/file")
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for range 1024 {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return nil
}

// disk allocates every block and then every scrap of one.
func disk() error {
	for i, size := 0, int64(64<<20); size >= 4096; i++ {
		f, err := os.Create(filepath.Join(home, "fill"+strconv.Itoa(i)))
		if err == nil {
			err = errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, size), f.Close())
		}
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			return err
		}
		if err != nil {
			size /= 2
		}
	}
	return os.WriteFile("/tmp/more", make([]byte, 1<<20), 0o600)
}

// inodes makes empty files until there is no place for one more.
func inodes() error {
	if err := disk(); !errors.Is(err, unix.ENOSPC) {
		return err
	}
	for i := range 100_000 {
		if err := os.WriteFile(filepath.Join("/tmp", "inode"+strconv.Itoa(i)), nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// cpu burns until one second of its own time has passed, and says how long that took.
func cpu() error {
	begin := time.Now()
	for {
		var used unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
			return err
		}
		if used.Utime.Sec+used.Stime.Sec >= 1 {
			return fmt.Errorf("one second took %d ms", time.Since(begin).Milliseconds())
		}
	}
}

// writes puts some MiB on the disk, and says how long that took.
func writes() error {
	begin := time.Now()
	f, err := os.OpenFile(filepath.Join(home, "written"), os.O_WRONLY|os.O_CREATE|unix.O_DIRECT, 0o600)
	if err != nil {
		return err
	}
	block, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	for range 6 {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return fmt.Errorf("six MiB took %d ms", time.Since(begin).Milliseconds())
}

func manyGroups() error {
	for i := range 10_000 {
		if err := os.Mkdir("/sys/fs/cgroup/g"+strconv.Itoa(i), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// dividedGroups moves processes into groups of the job's own, one below the other, some of them frozen by the job.
func dividedGroups() int {
	group := "/sys/fs/cgroup"
	for i := range 4 {
		group += "/nested"
		if err := os.Mkdir(group, 0o755); err != nil {
			return say(err)
		}
		pid, err := syscall.ForkExec("/proc/self/exe", []string{"nested", "sleep"}, &syscall.ProcAttr{Env: os.Environ()})
		if err != nil {
			return say(err)
		}
		if err := os.WriteFile(group+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0o600); err != nil {
			return say(err)
		}
		if i == 3 {
			if err := os.WriteFile(group+"/cgroup.freeze", []byte("1"), 0o600); err != nil {
				return say(err)
			}
		}
	}
	err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory +pids"), 0o600)
	if err == nil {
		err = os.Mkdir("/sys/fs/cgroup/limited", 0o755)
	}
	if err == nil {
		err = os.WriteFile("/sys/fs/cgroup/limited/pids.max", []byte("7"), 0o600)
	}
	if err != nil {
		return say(err)
	}
	fmt.Println("divided")
	time.Sleep(time.Hour)
	return 0
}

// execs runs a program many times, one after the other.
func execs(times, program string) int {
	n, err := strconv.Atoi(times)
	for i := 0; i < n && err == nil; i++ {
		var pid int
		if pid, err = syscall.ForkExec(program, []string{program}, &syscall.ProcAttr{}); err == nil {
			_, err = syscall.Wait4(pid, nil, 0, nil)
		}
	}
	return say(err)
}
