// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// screen shows progress on standard error: one line for each finished step, with its time.
type screen struct {
	out   io.Writer
	begin time.Time
	mu    sync.Mutex
}

// step runs do and says how long it took.
func (s *screen) step(what string, do func() error) error {
	begin := time.Now()
	err := do()
	mark := "✓"
	if err != nil {
		mark = "✗"
	}
	s.say("%s %s (%.1f s)", mark, what, time.Since(begin).Seconds())
	return err
}

// say prints one line with the time since the start.
func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "%6.1fs  %s\n", time.Since(s.begin).Seconds(), fmt.Sprintf(format, args...))
}
