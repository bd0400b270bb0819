// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tpmTime is how long swtpm gets to end after QEMU has.
const tpmTime = 2 * time.Second

// tpm is the swtpm of one VM.
type tpm struct {
	cmd       *exec.Cmd
	complaint tail
	ended     chan struct{} // closed when it is gone
	err       error         // how it ended; read after ended
}

// newTPM prepares swtpm: its only connection is a descriptor that QEMU has the other end of, its state a new folder.
func newTPM(s *staged, control *os.File) (*tpm, error) {
	path, err := exec.LookPath("swtpm")
	if err != nil {
		return nil, fmt.Errorf("finding swtpm (package swtpm): %w", err)
	}
	state := filepath.Join(s.folder, "tpm")
	if err := os.Mkdir(state, 0o700); err != nil {
		return nil, fmt.Errorf("making the TPM's folder: %w", err)
	}
	const first = 3 // of the descriptors in ExtraFiles
	t := &tpm{ended: make(chan struct{})}
	t.cmd = exec.Command(path, "socket", "--tpm2", "--tpmstate", "dir="+state, "--ctrl", fmt.Sprintf("type=unixio,clientfd=%d", first), "--terminate") //nolint:gosec,noctx // end ends it.
	t.cmd.Dir, t.cmd.ExtraFiles, t.cmd.Stderr = s.folder, []*os.File{control}, &t.complaint
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	t.cmd.WaitDelay = tpmTime
	return t, nil
}

// start starts it on the thread of the caller, whose end would end it.
func (t *tpm) start() error {
	if err := t.cmd.Start(); err != nil {
		return fmt.Errorf("starting swtpm: %w", err)
	}
	go func() {
		defer close(t.ended)
		t.err = t.cmd.Wait()
	}()
	return nil
}

// end ends it once QEMU is gone, and reports a TPM that had stopped before its machine did.
func (t *tpm) end() error {
	if t.cmd.Process == nil {
		return nil
	}
	select {
	case <-t.ended: // it follows QEMU, or went before it
	case <-time.After(tpmTime):
		_ = unix.Kill(-t.cmd.Process.Pid, unix.SIGKILL)
		<-t.ended
		return nil
	}
	var exit *exec.ExitError
	if errors.As(t.err, &exit) {
		return fmt.Errorf("running swtpm: %w: %s", t.err, &t.complaint)
	}
	return t.err
}
