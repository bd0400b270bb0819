// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Timings are the moments of one launch; a zero time has not come.
type Timings struct {
	Staged  time.Time // copies made, launch digest known
	Started time.Time // QEMU runs
	Message time.Time // the guest's first byte on the control port
	Ended   time.Time // QEMU has ended
}

// VM is a started machine. Its methods may be called from any goroutine.
type VM struct {
	digest  [48]byte
	accel   Acceleration
	control net.Conn
	kill    context.CancelFunc
	done    chan struct{} // closed when everything of the launch is gone
	err     error         // why it ended; read after done

	mu      sync.Mutex
	timings Timings // guarded by mu
}

// Start measures and starts a VM. It runs until the guest powers off, ctx ends or [VM.Kill] is called; in each case
// [VM.Wait] must be called to the end.
func Start(ctx context.Context, c Config) (*VM, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("starting the VM: %w", err)
	}
	if err := c.absolute(); err != nil {
		return nil, fmt.Errorf("starting the VM: %w", err)
	}
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s, err := stage(&c)
	if err != nil {
		return nil, fmt.Errorf("starting the VM: %w", err)
	}
	vm := &VM{digest: s.digest, done: make(chan struct{})}
	vm.note(func(t *Timings) { t.Staged = time.Now() })
	if err := vm.start(ctx, &c, s, log); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the VM: %w", err), s.remove())
	}
	return vm, nil
}

func (vm *VM) start(ctx context.Context, c *Config, s *staged, log *slog.Logger) error {
	var processor Processor
	var err error
	if c.Hardware != nil {
		err = Supported(ctx, c.Hardware.Platform)
	} else if processor, err = c.NewProcessor(s.digest); err != nil {
		err = fmt.Errorf("making the secure processor: %w", err)
	}
	if err != nil {
		return err
	}
	qemu, err := FindQEMU()
	if err != nil {
		return err
	}
	socat := ""
	if len(c.Forwards) > 0 {
		if socat, err = exec.LookPath("socat"); err != nil {
			return fmt.Errorf("finding socat: %w", err)
		}
	}
	if vm.accel, err = accelerate(ctx, c, s, qemu); err != nil {
		return err
	}
	wires, err := newWires(c.Console, c.UKI != nil)
	if err != nil {
		return err
	}
	p := &process{wires: wires, processor: processor, staged: s, complaint: &tail{}, log: log}
	if c.UKI != nil {
		if p.tpm, err = newTPM(s, wires.tpm); err != nil {
			wires.closeGuest()
			wires.closeHost()
			return err
		}
	}
	ctx, vm.kill = context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, qemu, arguments(c, s, vm.accel, socat)...) //nolint:gosec // our own arguments.
	cmd.Dir = s.folder
	cmd.ExtraFiles = wires.guest
	cmd.Stderr = p.complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	vm.control = &firstByte{Conn: wires.control, seen: func() { vm.note(func(t *Timings) { t.Message = time.Now() }) }}
	p.cmd = cmd
	started := make(chan error, 1)
	go vm.run(ctx, p, started)
	return <-started
}

// accelerate settles the acceleration. Firmware that boots from a disk is not tried with a kernel alone.
func accelerate(ctx context.Context, c *Config, s *staged, qemu string) (Acceleration, error) {
	if c.Hardware != nil {
		return KVM, nil
	}
	firmware := s.path("firmware")
	if c.UKI != nil && c.Acceleration != TCG {
		var err error
		if firmware, err = FindFirmware(); err != nil {
			return "", err
		}
	}
	return choose(ctx, c, qemu, s.path("kernel"), firmware)
}

// process is what one launch owns until it ends.
type process struct {
	cmd       *exec.Cmd
	wires     *wires
	processor Processor
	staged    *staged
	tpm       *tpm // nil where the machine has none
	complaint *tail
	log       *slog.Logger
}

// start starts QEMU, and its TPM before it.
func (p *process) start() error {
	if p.tpm != nil {
		if err := p.tpm.start(); err != nil {
			return err
		}
	}
	return p.cmd.Start()
}

// end ends what QEMU's end leaves. The forwards' processes share its group; their streams are closed already.
func (p *process) end() error {
	if p.cmd.Process != nil {
		_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
	}
	if p.tpm == nil {
		return nil
	}
	return p.tpm.end()
}

// run starts QEMU and stays with it. The thread is locked because a parent death signal (PR_SET_PDEATHSIG) is sent
// when the starting thread ends, not the process.
func (vm *VM) run(ctx context.Context, p *process, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.start()
	p.wires.closeGuest()
	if err != nil {
		vm.kill()
		p.wires.closeHost()
		err = errors.Join(err, p.end())
		close(vm.done)
		started <- err
		return
	}
	vm.note(func(t *Timings) { t.Started = time.Now() })
	p.log.InfoContext(ctx, "vm started", "pid", p.cmd.Process.Pid, "acceleration", string(vm.accel))
	started <- nil

	served := make(chan struct{})
	go func() {
		defer close(served)
		if p.processor == nil { // hardware
			return
		}
		// The stream ends with QEMU; what the guest sent wrongly is answered to the guest, not here.
		if err := p.processor.Serve(ctx, p.wires.quote); err != nil && ctx.Err() == nil && !errors.Is(err, io.EOF) {
			p.log.WarnContext(ctx, "quote port ended", "error", err)
		}
	}()
	err = p.cmd.Wait()
	tpmErr := p.end()
	vm.note(func(t *Timings) { t.Ended = time.Now() })
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("running the VM: %w", context.Cause(ctx))
	case err != nil:
		err = fmt.Errorf("running the VM: %w: %s", err, p.complaint)
	default:
		err = tpmErr
	}
	vm.kill()
	<-served
	_ = p.wires.quote.Close() // QEMU's end is gone.
	vm.err = errors.Join(err, p.staged.remove())
	close(vm.done)
}

// LaunchDigest is what the simulated secure processor measured, and means nothing on hardware.
func (vm *VM) LaunchDigest() [48]byte { return vm.digest }

// Acceleration is KVM or TCG.
func (vm *VM) Acceleration() Acceleration { return vm.accel }

// Control is the launcher's end of the control port and the caller's to close. It ends with the VM; what the guest sent
// before is still read first.
func (vm *VM) Control() net.Conn { return vm.control }

// Done is closed when the VM has ended and nothing of it is left.
func (vm *VM) Done() <-chan struct{} { return vm.done }

// Wait returns when the VM has ended and nothing of it is left: nil when the guest powered off, an error that matches
// the context's when it was killed.
func (vm *VM) Wait() error {
	<-vm.done
	return vm.err
}

// Kill ends the VM at once. [VM.Wait] says when it is over.
func (vm *VM) Kill() { vm.kill() }

// Timings gives the moments so far.
func (vm *VM) Timings() Timings {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return vm.timings
}

func (vm *VM) note(set func(*Timings)) {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	set(&vm.timings)
}

// firstByte tells when the first byte was read.
type firstByte struct {
	net.Conn
	once sync.Once
	seen func()
}

// Read implements [net.Conn].
func (f *firstByte) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	if n > 0 {
		f.once.Do(f.seen)
	}
	return n, err
}

// tail keeps the end of QEMU's complaints.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements [io.Writer].
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 2000
	t.text = append(t.text, p...)
	if len(t.text) > most {
		t.text = t.text[len(t.text)-most:]
	}
	return len(p), nil
}

// String gives what was kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
