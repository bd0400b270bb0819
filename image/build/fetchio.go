// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"io"
	"sync/atomic"
	"time"
)

// counter counts bytes and tells.
type counter struct {
	done atomic.Int64
	all  int64
	told func(done, all int64) // or nil
}

// Write counts what it is given.
func (c *counter) Write(p []byte) (int, error) {
	c.add(int64(len(p)))
	return len(p), nil
}

func (c *counter) add(n int64) {
	if done := c.done.Add(n); c.told != nil {
		c.told(done, c.all)
	}
}

// watched is a body that ends its request when no byte comes for a while.
type watched struct {
	io.ReadCloser
	cancel context.CancelFunc
	timer  *time.Timer
}

func newWatched(body io.ReadCloser, cancel context.CancelFunc) *watched {
	return &watched{ReadCloser: body, cancel: cancel, timer: time.AfterFunc(patience, cancel)}
}

// Read implements [io.Reader].
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.timer.Reset(patience)
	return n, err
}

// Close implements [io.Closer].
func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel()
	return w.ReadCloser.Close()
}
