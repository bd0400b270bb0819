// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// maxSentence bounds what goes to the console, in bytes.
const maxSentence = 1000

// settle is how long the host gets to take what was written last to the console and the ports.
const settle = 50 * time.Millisecond

// PowerOff says one sentence on the console and turns the machine off. It does not return. The host reads the console:
// reason must hold nothing secret. Outside a booted VM it ends the process instead.
func PowerOff(reason string) {
	_, _ = os.Stderr.WriteString("kettled: " + oneLine(reason) + "; powering off\n") // nobody is left to tell.
	if !inVM() {
		os.Exit(1)
	}
	_ = unix.IoctlSetInt(int(os.Stderr.Fd()), unix.TCSBRK, 1) // drains the serial line; what is no terminal needs none.
	time.Sleep(settle)
	for {
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) // fails only without the right; PID 1 is told by the exit.
		if os.Getpid() != 1 {
			os.Exit(1)
		}
		time.Sleep(time.Second)
	}
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
