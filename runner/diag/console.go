// SPDX-License-Identifier: Apache-2.0

package diag

import "sync"

// Console is a writer that keeps the beginning and the end of what was written, in bounded memory, and knows how much it
// has let go of. It never fails and never waits for anything but another writer, so that nobody can hold up the runner
// program, or kettled's log, by writing much. It is safe for concurrent use. The zero value keeps nothing.
type Console struct {
	headMost, tailMost int

	mu    sync.Mutex
	total int64  // mu
	head  []byte // mu
	ring  []byte // mu: the last bytes; from next on when full
	next  int    // mu
}

// NewConsole keeps about the first head and the last tail bytes. A number below 1 keeps none.
func NewConsole(head, tail int) *Console {
	c := &Console{}
	if head > 0 {
		c.headMost = head + margin
	}
	if tail > 0 {
		c.tailMost = tail + margin
	}
	return c
}

// Write implements [io.Writer]. It keeps no reference to p.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total += int64(len(p))
	if room := c.headMost - len(c.head); room > 0 {
		c.head = append(c.head, p[:min(room, len(p))]...)
	}
	last := p[max(0, len(p)-c.tailMost):]
	if room := c.tailMost - len(c.ring); room > 0 {
		n := min(room, len(last))
		c.ring = append(c.ring, last[:n]...)
		last = last[n:]
	}
	for len(last) > 0 {
		n := copy(c.ring[c.next:], last)
		last, c.next = last[n:], (c.next+n)%c.tailMost
	}
	return len(p), nil
}

// Total is how many bytes were written.
func (c *Console) Total() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// text copies what is kept.
func (c *Console) text() text {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := text{size: c.total}
	t.head = append(t.head, c.head...)
	t.tail = append(append(t.tail, c.ring[c.next:]...), c.ring[:c.next]...)
	if known := int64(len(t.head) + len(t.tail)); known >= c.total { // they meet
		t.head = append(t.head, t.tail[known-c.total:]...)
		t.tail = t.head
	}
	return t
}
