// SPDX-License-Identifier: Apache-2.0

package outputs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
)

// Held is the files of one request, found, checked and open. It is for one goroutine, but for [Held.Release].
type Held struct {
	volumes  *volumes
	limits   Limits
	clock    clock // while the sandbox stands still
	snapshot bool
	files    []file

	mu       sync.Mutex // guards released
	released bool
}

// file is one open file.
type file struct {
	wanted
	f      *os.File    // the clone in a snapshot, else the job's own file
	before unix.Stat_t // of the job's file
}

// Hold resolves the request in the sandbox's volumes and takes hold of the files it names. The sandbox is frozen or dead;
// where [Held.Snapshot] says no, it stays so until [Held.Hash] has returned. Everything that is wrong with the request or
// with a file is a [refusal.Refusal]; other errors mean that kettled could not look (I/O, its own configuration) or that
// ctx ended. The caller releases what it got.
func Hold(ctx context.Context, config Config, req Request, limits Limits) (_ *Held, err error) {
	if err := errors.Join(config.Validate(), limits.Validate()); err != nil {
		return nil, err
	}
	if err := req.check(); err != nil {
		return nil, err
	}
	v, err := openVolumes(config)
	if err != nil {
		return nil, err
	}
	h := &Held{volumes: v, limits: limits, clock: frozenClock(limits)}
	defer func() {
		if err != nil {
			_ = h.Release()
		}
	}()
	c := &collector{volumes: v, req: req, limits: limits, clock: h.clock}
	files, err := c.collect(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.take(ctx, files, config.Snapshots); err != nil {
		return nil, err
	}
	return h, nil
}

// take holds every file, cloned if all of them can be.
func (h *Held) take(ctx context.Context, files []wanted, snapshots string) error {
	if snapshots != "" {
		dir, err := openSnapshots(snapshots)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(dir) }()
		err = h.each(ctx, files, (&cloner{volumes: h.volumes, clock: h.clock, dir: dir}).hold)
		if err == nil {
			h.snapshot = true
			return nil
		}
		if !errors.Is(err, errNoClone) {
			return err
		}
		if err := h.drop(); err != nil {
			return err
		}
	}
	var bytes int64
	return h.each(ctx, files, func(_ context.Context, f *file) error {
		if bytes += f.before.Size; bytes > h.limits.FrozenBytes {
			return refuse(refusal.Policy, fmt.Sprintf("at most %d bytes hashed while the job stands still", h.limits.FrozenBytes),
				"more than that", "attest fewer or smaller files, or ask the operator for a larger byte budget").Because(ErrOverBudget)
		}
		return nil
	})
}

// each opens and checks one file after the other and has keep hold it.
func (h *Held) each(ctx context.Context, files []wanted, keep func(context.Context, *file) error) error {
	var bytes int64
	for _, w := range files {
		if err := h.clock.check(ctx); err != nil {
			return err
		}
		f, err := h.open(w, h.limits.Bytes-bytes)
		if err != nil {
			return w.explain(err)
		}
		bytes += f.before.Size
		err = keep(ctx, &f)
		h.files = append(h.files, f)
		if err != nil {
			return err
		}
	}
	return nil
}

// open opens and checks one file of at most so many bytes.
func (h *Held) open(w wanted, left int64) (file, error) {
	if err := checkName(w.name); err != nil {
		return file{}, err
	}
	if err := checkPath(w.path); err != nil {
		return file{}, err
	}
	f, before, err := h.volumes.openRegular(w.path)
	if err != nil {
		return file{}, err
	}
	if before.Size > left {
		_ = f.Close()
		return file{}, refuse(refusal.Policy, fmt.Sprintf("at most %d bytes in all outputs", h.limits.Bytes),
			fmt.Sprintf("%s of %d bytes after %d", quote(w.path), before.Size, h.limits.Bytes-left),
			"attest fewer or smaller files, or ask the operator for a larger byte budget")
	}
	return file{wanted: w, f: f, before: before}, nil
}

// Snapshot reports whether the files stay as they are when the sandbox runs again.
func (h *Held) Snapshot() bool { return h.snapshot }

// Release lets go of everything: the space of a snapshot is free again. A second call does nothing.
func (h *Held) Release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released {
		return nil
	}
	h.released = true
	h.volumes.close()
	return h.drop()
}

func (h *Held) drop() error {
	var errs []error
	for _, f := range h.files {
		errs = append(errs, f.f.Close())
	}
	h.files = nil
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("releasing outputs: %w", err)
	}
	return nil
}
