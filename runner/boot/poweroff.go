// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/image"
)

// maxSentence bounds what goes to the console, in bytes.
const maxSentence = 1000

const (
	// settle is how long the host gets to take what was written last to the console and the ports.
	settle = 50 * time.Millisecond
	// drained is how long it gets to take the sentence from the serial line. A host that takes nothing holds up no power-off.
	drained = time.Second
)

// PowerOff says one sentence on the serial line and turns the machine off. It does not return. The host reads the line:
// reason must hold nothing secret. Outside a booted VM it ends the process instead.
func PowerOff(reason string) {
	sentence := "kettled: " + oneLine(reason) + "; powering off\n"
	if !inVM() {
		_, _ = os.Stderr.WriteString(sentence) // nobody is left to tell.
		os.Exit(1)
	}
	if say(image.Serial, sentence) != nil {
		_, _ = os.Stderr.WriteString(sentence) // the kernel's console, wherever that is.
	}
	time.Sleep(settle)
	for {
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) // fails only without the right; PID 1 is told by the exit.
		if os.Getpid() != 1 {
			os.Exit(1)
		}
		time.Sleep(time.Second)
	}
}

// say writes to a serial line and waits, not for long, until it is sent. In a production image the line is no console: what
// it gives is this, and what comes in on it is read by nobody.
func say(path, sentence string) error {
	line, err := unix.Open(path, unix.O_WRONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the serial line: %w", err)
	}
	defer func() { _ = unix.Close(line) }() // what could be lost was waited for.
	n, err := unix.Write(line, []byte(sentence))
	if err != nil || n < len(sentence) {
		return errors.Join(fmt.Errorf("writing to the serial line: %d of %d bytes", n, len(sentence)), err)
	}
	for end := time.Now().Add(drained); time.Now().Before(end); time.Sleep(settle / 10) {
		if waiting, err := unix.IoctlGetInt(line, unix.TIOCOUTQ); err != nil || waiting == 0 {
			break
		}
	}
	return nil
}

// inVM reports whether this process is one of the three stages.
func inVM() bool {
	if os.Getpid() == 1 {
		return true
	}
	onRoot, err := rootIsImage("/")
	return err == nil && onRoot && os.Getppid() == 1
}

func sentence(err error) string {
	if err == nil {
		return "no reason was given"
	}
	return err.Error()
}

// oneLine keeps printable characters and turns everything else, line ends included, into single spaces.
func oneLine(text string) string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return ' '
	}, text)
	clean = strings.Join(strings.Fields(clean), " ")
	if len(clean) > maxSentence {
		clean = strings.ToValidUTF8(clean[:maxSentence], "") + "…"
	}
	return clean
}
