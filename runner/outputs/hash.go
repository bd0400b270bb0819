// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
)

// bufferSize is what one read asks for: large enough that system calls do not count, small enough for the second-level
// cache.
const bufferSize = 256 << 10

// hashFile opens, checks and hashes the file at p, once from start to end.
func (c *collector) hashFile(ctx context.Context, p, name string) (Subject, error) {
	if err := checkName(name); err != nil {
		return Subject{}, err
	}
	if err := checkPath(p); err != nil {
		return Subject{}, err
	}
	f, before, err := c.tree.openRegular(p)
	if err != nil {
		return Subject{}, err
	}
	defer func() { _ = f.Close() }()
	if before.Size > c.limits.Bytes-c.bytes {
		return Subject{}, refuse(refusal.Policy, fmt.Sprintf("at most %d bytes in all outputs", c.limits.Bytes),
			fmt.Sprintf("%s of %d bytes after %d", quote(p), before.Size, c.bytes),
			"attest fewer or smaller files, or ask the operator for a larger byte budget")
	}
	c.bytes += before.Size
	sum, n, err := c.digest(ctx, f, before.Size)
	if err != nil {
		return Subject{}, fmt.Errorf("hashing %s: %w", quote(p), err)
	}
	if err := c.unchanged(f, p, before, n); err != nil {
		return Subject{}, err
	}
	return Subject{Name: name, Path: p, SHA256: sum, Size: n, Links: uint64(before.Nlink)}, nil //nolint:unconvert // narrower on other architectures.
}

// unchanged demands that the open file is as it was and that its path still leads to it.
func (c *collector) unchanged(f *os.File, p string, before unix.Stat_t, n int64) error {
	var after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		return fmt.Errorf("reading the state of %s: %w", quote(p), err)
	}
	now, err := c.tree.peek(p)
	if err != nil && !errors.Is(err, refusal.ErrNotVerified) {
		return err
	}
	if err != nil || n != before.Size || !same(before, after) || !same(before, now) {
		return changed(p)
	}
	return nil
}

// digest reads at most one byte more than size, so that a growing file ends too.
func (c *collector) digest(ctx context.Context, r io.Reader, size int64) (sum [32]byte, n int64, err error) {
	h := sha256.New()
	for n <= size {
		if err := c.inTime(ctx); err != nil {
			return sum, n, err
		}
		m, err := r.Read(c.buf)
		n += int64(m)
		h.Write(c.buf[:m])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return sum, n, err
		}
	}
	h.Sum(sum[:0])
	return sum, n, nil
}

// readList reads a small file of the sandbox whole.
func (c *collector) readList(name string, most int64) ([]byte, error) {
	p := c.absolute(name)
	if err := checkPath(p); err != nil {
		return nil, err
	}
	f, before, err := c.tree.openRegular(p)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if before.Size > most {
		return nil, refuse(refusal.Malformed, fmt.Sprintf("a list of at most %d bytes", most),
			fmt.Sprintf("%s of %d bytes", quote(p), before.Size), "attest in several steps")
	}
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", quote(p), err)
	}
	if err := c.unchanged(f, p, before, int64(len(raw))); err != nil {
		return nil, err
	}
	return raw, nil
}
