// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
)

// handover is the environment variable in which one process tells the next what it found.
const handover = "KETTLE_BOOT"

// searchPath is the PATH of the supervisor; a kernel gives PID 1 none worth having.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Phase is one part of the boot. Start counts from the moment the kernel's clock began.
type Phase struct {
	Name     string        `json:"name"`
	Start    time.Duration `json:"start"`
	Duration time.Duration `json:"duration"`
}

// Environment is what the supervisor finds. It exists only on a verified root.
type Environment struct {
	CommandLine image.CommandLine // the measured command line
	Config      []byte            // the exact bytes of [image.ConfigFile], of the digest on the command line
	Phases      []Phase           // in order; the first is the kernel's own start
}

// state is the handover between the processes. It never leaves the VM and holds nothing secret.
type state struct {
	Phases []Phase `json:"phases"`
}

// Enter goes through the stages described in the package comment and returns in the supervisor only. In the first two
// processes it does not return: it executes the next stage or powers off. An error comes back only where this process
// is not part of a boot at all, or where the supervisor cannot read what was verified before.
func Enter(ctx context.Context) (*Environment, error) {
	onRoot, err := rootIsImage("/")
	switch {
	case err != nil:
		return nil, err
	case os.Getpid() == 1 && !onRoot:
		PowerOff("boot stopped: " + sentence(firstStage(ctx)))
	case os.Getpid() == 1:
		PowerOff(sentence(secondStage(ctx)))
	case os.Getppid() != 1 || !onRoot || os.Getenv(handover) == "":
		return nil, errors.New("entering the boot: this process is neither PID 1 nor started by it on a verified root")
	}
	return thirdStage()
}

// thirdStage protects this process, in which the keys will be, and reads again what stage one has verified; command line
// and configuration cannot have changed since.
func thirdStage() (*Environment, error) {
	if err := errors.Join(hide(), lockMemory(), allowFiles(), survives(oomScore)); err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal([]byte(os.Getenv(handover)), &s); err != nil {
		return nil, fmt.Errorf("reading the boot handover: %w", err)
	}
	if err := os.Unsetenv(handover); err != nil {
		return nil, fmt.Errorf("reading the boot handover: %w", err)
	}
	line, err := readCommandLine("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	config, err := readConfig(image.ConfigFile, line.Config)
	if err != nil {
		return nil, err
	}
	return &Environment{CommandLine: line, Config: config, Phases: s.Phases}, nil
}

// stopwatch turns the kernel's clock into phases.
type stopwatch struct {
	phases []Phase
	last   time.Duration
}

// lap ends the phase that began with the one before.
func (w *stopwatch) lap(name string) {
	now := Uptime()
	w.phases = append(w.phases, Phase{Name: name, Start: w.last, Duration: now - w.last})
	w.last = now
}

// Uptime is the time since the kernel started.
func Uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// environ is the whole environment of the next stage. A crash tells its reason to the console and not the program's
// state, for the host reads it.
func (s state) environ() ([]string, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("writing the boot handover: %w", err)
	}
	return []string{"PATH=" + searchPath, "HOME=/", "GOTRACEBACK=none", handover + "=" + string(text)}, nil
}
