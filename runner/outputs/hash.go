// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// bufferSize is what one read asks for: large enough that system calls do not count, small enough for the second-level
// cache.
const bufferSize = 256 << 10

// errReleased is a mistake of the caller.
var errReleased = errors.New("hashing outputs: they are released")

// Hash hashes what is held, once from start to end, and compares it with what the job claimed. The subjects come sorted
// by name. Nothing is returned unless everything was hashed. Without a snapshot the sandbox has stood still since [Hold]
// and does so until Hash returns; a file that changed nevertheless is refused.
func (h *Held) Hash(ctx context.Context) ([]Subject, error) {
	if len(h.files) == 0 {
		return nil, errReleased
	}
	clock := h.clock
	if h.snapshot {
		clock = h.limits.clock()
	} else if err := h.pause(ctx); err != nil {
		return nil, err
	}
	buf := make([]byte, bufferSize)
	subjects := make([]Subject, 0, len(h.files))
	for _, f := range h.files {
		sum, err := f.digest(ctx, clock, buf)
		if err != nil {
			return nil, err
		}
		if !h.snapshot {
			if err := h.volumes.unchanged(f.f, f.path, f.before); err != nil {
				return nil, err
			}
		}
		if err := f.compare(sum); err != nil {
			return nil, err
		}
		subjects = append(subjects, Subject{
			Name: f.name, Path: f.path, SHA256: sum, Size: f.before.Size,
			Links: uint64(f.before.Nlink), //nolint:unconvert // narrower on other architectures.
		})
	}
	return unique(subjects)
}

// digest reads at most one byte more than the file had, so that a growing file ends too.
func (f *file) digest(ctx context.Context, clock clock, buf []byte) (sum [32]byte, err error) {
	hash, n, size := sha256.New(), int64(0), f.before.Size
	for n <= size {
		if err := clock.check(ctx); err != nil {
			return sum, err
		}
		m, err := f.f.ReadAt(buf, n)
		n += int64(m)
		hash.Write(buf[:m])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return sum, fmt.Errorf("hashing %s: %w", quote(f.path), err)
		}
	}
	if n != size {
		return sum, changed(f.path)
	}
	hash.Sum(sum[:0])
	return sum, nil
}

// pause waits until the clock that stamps files has left the moment of the youngest file, some milliseconds at most. From
// then on whatever is written leaves another time behind; in the same moment it would not.
func (h *Held) pause(ctx context.Context) error {
	var youngest, now unix.Timespec
	for _, f := range h.files {
		if f.before.Ctim.Nano() > youngest.Nano() {
			youngest = f.before.Ctim
		}
	}
	const tick, most = time.Millisecond, 50 // ten jiffies of the slowest clock; a file of the future is not waited for
	for range most {
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now); err != nil {
			return fmt.Errorf("reading the clock: %w", err)
		}
		if now.Nano() > youngest.Nano() {
			return nil
		}
		if err := h.clock.check(ctx); err != nil {
			return err
		}
		time.Sleep(tick)
	}
	return nil
}
