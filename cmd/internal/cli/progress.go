// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"time"
)

// redraw is the least time between two drawings of a progress line.
const redraw = 100 * time.Millisecond

// Progress is one line on the error stream that says what goes on. Where that is no terminal it is silent. It is not
// safe for concurrent use.
type Progress struct {
	w      io.Writer
	colour bool
	drawn  bool
	last   time.Time
}

// Progress starts a progress line. The caller ends it with [Progress.Done].
func (s *IO) Progress() *Progress {
	p := &Progress{w: io.Discard, colour: s.errColour}
	if s.errTTY {
		p.w = s.Err
	}
	return p
}

// Say shows a text, at most ten times a second.
func (p *Progress) Say(format string, args ...any) {
	if now := time.Now(); now.Sub(p.last) >= redraw {
		p.last, p.drawn = now, true
		fmt.Fprintf(p.w, "\r\x1b[K%s", paint(p.colour, Dim, Clean(fmt.Sprintf(format, args...))))
	}
}

// Done clears the line.
func (p *Progress) Done() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}

// Bytes gives a number of bytes in words.
func Bytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for ; value >= unit && prefix < 4; prefix++ {
		value /= unit
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[prefix])
}
