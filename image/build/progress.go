// SPDX-License-Identifier: Apache-2.0

package build

import "sync"

// Watch is told how a build goes on. Both functions are optional; they are called from several goroutines, one at a time.
type Watch struct {
	Done   func(Step)                         // a step went well
	Moving func(step string, done, all int64) // how many bytes of a step are done
}

// reporter keeps the calls apart.
type reporter struct {
	mu    sync.Mutex
	watch Watch
}

func newReporter(watch Watch) *reporter { return &reporter{watch: watch} }

// done reports a step that went well, and gives err back.
func (r *reporter) done(s Step, err error) error {
	if err != nil || r.watch.Done == nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watch.Done(s)
	return nil
}

// bytes reports how far a step is.
func (r *reporter) bytes(step string, done, all int64) {
	if r.watch.Moving == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watch.Moving(step, done, all)
}
