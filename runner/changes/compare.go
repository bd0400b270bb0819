// SPDX-License-Identifier: Apache-2.0

package changes

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/kettle/attest/runner/beneath"
)

// pair is a regular file that both layers have: the kernel copies it whole before the first change, whatever it is.
type pair struct {
	path          string
	before, after node
}

// size is how many bytes have to be read to compare.
func (p pair) size() int64 {
	if p.before.st.Size > math.MaxInt64-p.after.st.Size {
		return math.MaxInt64
	}
	return p.before.st.Size + p.after.st.Size
}

// compare lists the files that both layers have and that differ. The smallest come first: one large file does not use up
// the bytes that may be read.
func (c *collector) compare(ctx context.Context) error {
	slices.SortStableFunc(c.pairs, func(a, b pair) int { return cmp.Compare(a.size(), b.size()) })
	left := c.limits.HashBytes
	for _, p := range c.pairs {
		before, after := p.before.state(c.config.IDs), p.after.state(c.config.IDs)
		known := false
		if p.size() > left {
			c.bound(BoundHash)
		} else {
			left -= p.size()
			var err error
			if known, err = c.digests(ctx, p, before, after); err != nil {
				return err
			}
		}
		if known && p.before.alike(p.after) && before.SHA256 == after.SHA256 && before.Capability == after.Capability {
			continue
		}
		if err := c.add(opChanged, p.path, before, after); err != nil {
			return err
		}
	}
	return nil
}

// digests fills in both sides. Without an answer the file is listed as changed: nobody knows that it is not.
func (c *collector) digests(ctx context.Context, p pair, before, after *state) (known bool, err error) {
	err = errors.Join(c.digest(ctx, c.lower, p.path, p.before, before), c.digest(ctx, c.upper, p.path, p.after, after))
	if ctx.Err() != nil {
		return false, fmt.Errorf("listing changes: %w", ctx.Err())
	}
	if err != nil && !errors.Is(err, errBound) {
		c.bound(BoundUnreadable)
	}
	return err == nil, nil
}

// digest fills in what has to be read from a file.
func (c *collector) digest(ctx context.Context, layer int, path string, n node, s *state) error {
	f, err := beneath.Read(layer, path, n.st)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if s.Capability, err = capability(int(f.Fd())); err != nil {
		return err
	}
	if mark, err := attribute(int(f.Fd()), "trusted.overlay.metacopy"); err != nil || mark != nil {
		c.bound(BoundOverlay) // its bytes are not here
		return errors.Join(errBound, err)
	}
	hash, buf, read := sha256.New(), make([]byte, 256<<10), int64(0)
	for {
		if err := c.time(ctx); err != nil {
			return err
		}
		m, err := f.Read(buf)
		read += int64(m)
		hash.Write(buf[:m])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || read > n.st.Size {
			return errors.Join(beneath.ErrChanged, err)
		}
	}
	if read != n.st.Size {
		return beneath.ErrChanged
	}
	s.SHA256 = sum([sha256.Size]byte(hash.Sum(nil)))
	return nil
}
