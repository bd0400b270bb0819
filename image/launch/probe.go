// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probeTime is how long a guest under KVM gets to say its first word; a working one needs a fraction of a second.
const probeTime = 4 * time.Second

// ErrNoKVM says that a guest does not run under KVM here.
var ErrNoKVM = errors.New("no guest runs under KVM here")

// kvmProbe remembers what this process has found out, for a probe takes seconds and the machine does not change under
// it. Its mutex guards it; nothing else is kept between launches.
var kvmProbe struct {
	sync.Mutex
	known bool
	works bool
}

// choose settles the acceleration.
func choose(ctx context.Context, c *Config, qemu, kernel, firmware string) (Acceleration, error) {
	if c.Acceleration == TCG {
		return TCG, nil
	}
	works := probeOnce(ctx, qemu, kernel, firmware)
	switch {
	case works:
		return KVM, nil
	case c.Acceleration == KVM:
		return "", ErrNoKVM
	default:
		return TCG, nil
	}
}

func probeOnce(ctx context.Context, qemu, kernel, firmware string) bool {
	kvmProbe.Lock()
	defer kvmProbe.Unlock()
	if !kvmProbe.known {
		kvmProbe.works = probe(ctx, qemu, kernel, firmware) == nil
		kvmProbe.known = ctx.Err() == nil
	}
	return kvmProbe.works
}

// probe boots the kernel alone under KVM until it says its version. Nested machines exist where the device opens, real
// mode runs, and every kernel hangs.
func probe(ctx context.Context, qemu, kernel, firmware string) error {
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("probing KVM: %w", err)
	}
	if err := device.Close(); err != nil {
		return fmt.Errorf("probing KVM: %w", err)
	}
	return bootsWith(ctx, qemu, []string{
		"-accel", "kvm", "-cpu", "host", "-machine", "q35,smm=off", "-m", "256M", "-nodefaults", "-no-user-config",
		"-no-reboot", "-display", "none", "-serial", "stdio", "-bios", firmware, "-kernel", kernel,
		"-append", "console=ttyS0 earlyprintk=serial panic=-1",
	})
}

// bootsWith waits for the kernel's first line on standard output.
func bootsWith(ctx context.Context, qemu string, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, qemu, args...) //nolint:gosec // our own arguments.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("probing KVM: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("probing KVM: %w", err)
	}
	spoke := readUntil(output, []byte("Linux version"))
	cancel()
	_ = cmd.Wait() // it was killed on purpose.
	if !spoke {
		return fmt.Errorf("probing KVM: the kernel said nothing within %v", probeTime)
	}
	return nil
}

// readUntil reports whether word comes before the stream ends.
func readUntil(stream io.Reader, word []byte) bool {
	var seen []byte
	buffer := make([]byte, 4096)
	for {
		n, err := stream.Read(buffer)
		seen = append(seen, buffer[:n]...)
		if bytes.Contains(seen, word) {
			return true
		}
		if err != nil {
			return false
		}
		seen = seen[max(0, len(seen)-len(word)):]
	}
}
