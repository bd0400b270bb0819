// SPDX-License-Identifier: Apache-2.0

package build

import "sync"

// reporter calls the caller's function for one step at a time.
type reporter struct {
	mu     sync.Mutex
	report func(Step)
}

func newReporter(report func(Step)) *reporter { return &reporter{report: report} }

// done reports a step that went well, and gives err back.
func (r *reporter) done(s Step, err error) error {
	if err != nil || r.report == nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report(s)
	return nil
}
