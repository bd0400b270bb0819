// SPDX-License-Identifier: Apache-2.0

package changes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/beneath"
)

// maxPath is what the kernel resolves in one call: PATH_MAX without its terminator.
const maxPath = unix.PathMax - 1

// collector compares two layers.
type collector struct {
	config       Config
	limits       Limits
	end          time.Time
	upper, lower int

	entries int  // names looked at in this part
	queued  int  // bytes of the paths that this part put aside
	short   bool // a bound was met in this part
	pairs   []pair
	bounds  map[Bound]bool
	lines   []line
	listed  int // bytes of them
	result  *Changes
}

func (c *collector) bound(b Bound) { c.bounds[b], c.short = true, true }

// begin begins a part of the work.
func (c *collector) begin() { c.entries, c.queued, c.short = 0, 0, false }

// step is asked before every name.
func (c *collector) step(ctx context.Context) error {
	if err := c.time(ctx); err != nil {
		return err
	}
	if c.entries++; c.entries > c.limits.Entries {
		c.bound(BoundEntries)
		return errBound
	}
	return nil
}

func (c *collector) time(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("listing changes: %w", err)
	}
	if time.Now().After(c.end) {
		c.bound(BoundTime)
		return errBound
	}
	return nil
}

// enqueue adds a folder to those to be walked.
func (c *collector) enqueue(queue []string, dir string) []string {
	switch {
	case len(dir) > maxPath:
		c.bound(BoundDepth)
	case c.queued+len(dir) > c.limits.ListBytes:
		c.bound(BoundList)
	default:
		c.queued += len(dir)
		return append(queue, dir)
	}
	return queue
}

// survive notes an error of the disk and goes on without what it hid. Nobody writes here any more, so that an error about
// a path is one of the disk too.
func (c *collector) survive(err error) error {
	if err == nil || errors.Is(err, errBound) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	c.bound(BoundUnreadable)
	return nil
}

// names reads a folder, in order.
func (c *collector) names(ctx context.Context, d *beneath.Dir) ([]string, error) {
	var names []string
	for {
		entries, err := d.Next()
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		if err := c.time(ctx); err != nil {
			return nil, err
		}
		for _, e := range entries {
			names = append(names, e.Name)
		}
		if c.entries+len(names) > c.limits.Entries { // the rest would not be looked at
			c.bound(BoundEntries)
			slices.Sort(names)
			return names, nil
		}
	}
}
