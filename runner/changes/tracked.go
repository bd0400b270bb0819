// SPDX-License-Identifier: Apache-2.0

package changes

import (
	"context"
	"errors"
	"path"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/beneath"
)

// folder is a folder that both layers have.
type folder struct {
	path         string
	upper, lower *beneath.Dir
	opaque       bool // hides what the image has here and in every folder below
	marked       bool // has whiteouts that are marked in attributes
}

func (c *collector) openFolder(p string) (f folder, err error) {
	f.path = p
	if f.upper, err = beneath.OpenDir(c.upper, p); err != nil {
		return f, err
	}
	defer func() {
		if err != nil {
			f.upper.Close()
		}
	}()
	opaque, err := attribute(f.upper.FD(), "trusted.overlay.opaque")
	if err != nil {
		return f, err
	}
	f.opaque, f.marked = string(opaque) == "y", string(opaque) == "x"
	if redirect, err := attribute(f.upper.FD(), "trusted.overlay.redirect"); err != nil || redirect != nil {
		c.bound(BoundOverlay)
	}
	f.lower, err = beneath.OpenDir(c.lower, p)
	return f, err
}

func (f folder) close() {
	f.upper.Close()
	f.lower.Close()
}

// above says what the upper layer has at a name: there, and then what; or a whiteout; or neither.
func (f folder) above(name string) (n node, there, whiteout bool, err error) {
	n, err = look(f.upper.FD(), name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return n, false, false, nil
	case err != nil:
		return n, false, false, err
	}
	whiteout, err = f.whiteout(name, n)
	return n, !whiteout, whiteout, err
}

// whiteout reports whether n stands for a deleted name: a device 0/0, or in a marked folder an empty file with a mark.
func (f folder) whiteout(name string, n node) (bool, error) {
	if beneath.Whiteout(n.st) || !f.marked || !n.regular() || n.st.Size != 0 {
		return beneath.Whiteout(n.st), nil
	}
	file, err := beneath.Read(f.upper.FD(), name, n.st)
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	mark, err := attribute(int(file.Fd()), "trusted.overlay.whiteout")
	return mark != nil, err
}

// tracked walks the image's folders that the upper layer has too and finds out what became of each of their names.
func (c *collector) tracked(ctx context.Context) error {
	before, err := look(c.lower, ".")
	if err != nil {
		return c.survive(err)
	}
	after, err := look(c.upper, ".")
	if err != nil {
		return c.survive(err)
	}
	if err := c.changed("/", before, after); err != nil {
		return err
	}
	hidden := map[string]bool{} // folders in an opaque one: the kernel marks the outermost alone
	for queue := []string{"/"}; len(queue) > 0; queue = queue[1:] {
		both, opaque, err := c.trackFolder(ctx, queue[0], hidden[queue[0]])
		if err := c.survive(err); err != nil {
			return err
		}
		for _, p := range both {
			queue, hidden[p] = c.enqueue(queue, p), opaque
		}
	}
	return nil
}

// trackFolder gives the folders in it that both layers have, and whether the upper ones hide the others.
func (c *collector) trackFolder(ctx context.Context, dir string, hidden bool) (both []string, opaque bool, err error) {
	f, err := c.openFolder(dir)
	if err != nil {
		return nil, hidden, err
	}
	defer f.close()
	f.opaque = f.opaque || hidden
	names, err := c.names(ctx, f.lower)
	if err != nil {
		return nil, f.opaque, err
	}
	for _, name := range names {
		if err := c.step(ctx); err != nil {
			return both, f.opaque, err
		}
		follow, err := c.track(ctx, f, name)
		if err := c.survive(err); err != nil {
			return both, f.opaque, err
		}
		if follow {
			both = append(both, path.Join(dir, name))
		}
	}
	return both, f.opaque, nil
}

// track finds out what became of one name of the image.
func (c *collector) track(ctx context.Context, f folder, name string) (follow bool, err error) {
	p := path.Join(f.path, name)
	before, err := look(f.lower.FD(), name)
	if err != nil {
		return false, err
	}
	after, there, whiteout, err := f.above(name)
	switch {
	case err != nil:
		return false, err
	case whiteout, !there && f.opaque:
		return false, c.deleted(ctx, p, before)
	case !there:
		return false, nil // as in the image
	case before.regular() && after.regular():
		c.pairs = append(c.pairs, pair{p, before, after})
		return false, nil
	case before.dir() && !after.dir():
		if err := c.inside(ctx, p); err != nil {
			return false, err
		}
	}
	return before.dir() && after.dir(), c.changed(p, before, after)
}

// changed lists a name whose two sides differ.
func (c *collector) changed(p string, before, after node) error {
	if before.alike(after) {
		return nil
	}
	return c.add(opChanged, p, before.state(c.config.IDs), after.state(c.config.IDs))
}

// deleted lists a name of the image that is gone, and everything in it.
func (c *collector) deleted(ctx context.Context, p string, n node) error {
	if err := c.add(opDeleted, p, n.state(c.config.IDs), nil); err != nil || !n.dir() {
		return err
	}
	return c.inside(ctx, p)
}

// inside lists everything in a folder of the image as deleted.
func (c *collector) inside(ctx context.Context, dir string) error {
	for queue := []string{dir}; len(queue) > 0; queue = queue[1:] {
		err := c.each(ctx, c.lower, queue[0], func(p string, n node) error {
			if n.dir() {
				queue = c.enqueue(queue, p)
			}
			return c.add(opDeleted, p, n.state(c.config.IDs), nil)
		})
		if err := c.survive(err); err != nil {
			return err
		}
	}
	return nil
}
