// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// machine is a process in PID and mount namespaces of its own.
type machine struct {
	control net.Conn
	done    chan struct{}
	cmd     *exec.Cmd
}

func (m *machine) Control() net.Conn     { return m.control }
func (m *machine) Done() <-chan struct{} { return m.done }
func (m *machine) Kill()                 { _ = m.cmd.Process.Kill() }

// patience is short where only what is left counts. Where each environment must end as it should, a busy machine gets more.
func patience() times {
	t := times{
		Register: 20 * time.Second, Listen: 12 * time.Second, Ghost: 5 * time.Second, Idle: 15 * time.Second, Dispatch: 10 * time.Second,
		Job: 25 * time.Second, Drain: 8 * time.Second,
	}
	if *jobs == 0 {
		t.Register, t.Listen, t.Dispatch, t.Job, t.Drain = time.Minute, 40*time.Second, 40*time.Second, 50*time.Second, 40*time.Second
	}
	return t
}

func (s *soak) start(j turn, dir string) (*machine, error) {
	text, err := json.Marshal(settings{
		Dir: dir, Label: label(j.n), Server: s.world.server, API: s.world.url, Host: s.world.host, Issuer: s.world.github.Issuer(), Sink: s.world.sinkURL + "/" + strconv.Itoa(j.n), Simulator: s.chips,
		Roots: string(s.world.ca.PEM()), Listener: s.programs.listener, Action: s.programs.action, Policy: fmt.Sprintf(jobsPolicy, s.world.server),
		Faults: j.plan.program, Clock: j.plan.clock, StayAt: j.plan.killAt + j.plan.drainAt + j.plan.cancelAt, Stay: j.plan.stay(), Times: patience(),
	})
	if err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer theirs.Close()
	defer ours.Close()
	m := &machine{done: make(chan struct{})}
	if m.control, err = net.FileConn(ours); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	m.cmd = exec.Command("/proc/self/exe")
	m.cmd.Env, m.cmd.Dir = append(os.Environ(), roleVariable+"="+string(text)), dir
	m.cmd.ExtraFiles, m.cmd.Stdout, m.cmd.Stderr = []*os.File{theirs}, log, log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(m.done)
		_ = m.cmd.Wait()
	}()
	return m, nil
}
