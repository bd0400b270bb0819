// SPDX-License-Identifier: Apache-2.0

package changes

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/runner/beneath"
)

// created lists what the upper layer has and the image has not: first in the image's own folders, then in new ones.
func (c *collector) created(ctx context.Context) error {
	both, fresh := []string{"/"}, []string(nil)
	for len(both)+len(fresh) > 0 {
		var known, made []string
		var err error
		if len(both) > 0 {
			known, made, err = c.createdIn(ctx, both[0])
			both = both[1:]
		} else {
			made, err = c.fresh(ctx, fresh[0])
			fresh = fresh[1:]
		}
		if err := c.survive(err); err != nil {
			return err
		}
		for _, p := range known {
			both = c.enqueue(both, p)
		}
		for _, p := range made {
			fresh = c.enqueue(fresh, p)
		}
	}
	return nil
}

// createdIn lists what is new in a folder that both layers have: known are folders that both have, made the job's own.
func (c *collector) createdIn(ctx context.Context, dir string) (known, made []string, err error) {
	f, err := c.openFolder(dir)
	if err != nil {
		return nil, nil, err
	}
	defer f.close()
	names, err := c.names(ctx, f.upper)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		if err := c.step(ctx); err != nil {
			return known, made, err
		}
		n, there, _, err := f.above(name)
		if err != nil || !there {
			if err := c.survive(err); err != nil {
				return known, made, err
			}
			continue
		}
		before, err := beneath.Stat(f.lower.FD(), name)
		p := path.Join(dir, name)
		switch {
		case errors.Is(err, unix.ENOENT):
			if err := c.add(opCreated, p, nil, n.state(c.config.IDs)); err != nil {
				return known, made, err
			}
			if n.dir() {
				made = append(made, p)
			}
		case err != nil:
			c.bound(BoundUnreadable)
		case n.dir() && before.Mode&unix.S_IFMT == unix.S_IFDIR:
			known = append(known, p)
		case n.dir():
			made = append(made, p) // over something of the image that was no folder
		}
	}
	return known, made, nil
}

// fresh lists everything in a folder that the job made.
func (c *collector) fresh(ctx context.Context, dir string) (made []string, err error) {
	err = c.each(ctx, c.upper, dir, func(p string, n node) error {
		if n.dir() {
			made = append(made, p)
		}
		if beneath.Whiteout(n.st) { // of something that the job made and deleted again
			return nil
		}
		return c.add(opCreated, p, nil, n.state(c.config.IDs))
	})
	return made, err
}

// each looks at every name in a folder of a layer.
func (c *collector) each(ctx context.Context, layer int, dir string, see func(p string, n node) error) error {
	d, err := beneath.OpenDir(layer, dir)
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := c.names(ctx, d)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.step(ctx); err != nil {
			return err
		}
		n, err := look(d.FD(), name)
		if err == nil {
			err = see(path.Join(dir, name), n)
		}
		if err := c.survive(err); err != nil {
			return err
		}
	}
	return nil
}

// usage counts what the volumes hold.
func (c *collector) usage(ctx context.Context) error {
	for _, v := range c.config.Volumes {
		c.begin()
		fd, err := openLayer(v.Outside)
		if err != nil {
			return fmt.Errorf("counting the volume %s: %w", v.Inside, err)
		}
		u, err := c.count(ctx, fd)
		_ = unix.Close(fd)
		if err != nil && !errors.Is(err, errBound) {
			return err
		}
		u.Path, u.Complete = v.Inside, !c.short
		c.result.Volumes = append(c.result.Volumes, u)
	}
	return nil
}

// count counts a file with several names as one.
func (c *collector) count(ctx context.Context, layer int) (u Usage, err error) {
	linked := map[uint64]bool{}
	for queue := []string{"/"}; len(queue) > 0; queue = queue[1:] {
		err := c.each(ctx, layer, queue[0], func(p string, n node) error {
			switch {
			case n.dir():
				queue = c.enqueue(queue, p)
			case n.regular() && !linked[n.st.Ino]:
				u.Files++
				u.Bytes += min(n.st.Blocks, math.MaxInt64>>9-u.Bytes>>9) << 9
				if n.st.Nlink > 1 {
					linked[n.st.Ino] = true
				}
			}
			return nil
		})
		if err := c.survive(err); err != nil {
			return u, err
		}
	}
	return u, nil
}
