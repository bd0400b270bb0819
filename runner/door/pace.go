// SPDX-License-Identifier: Apache-2.0

package door

import (
	"context"
	"time"
)

// Default pace of the door. A job needs a few requests, and no more than its responses have room for.
const (
	defaultEvery = 50 * time.Millisecond
	defaultBurst = 32
)

// pace is a token bucket: it starts with burst tokens and gains one each every, up to burst. Its time is the monotonic
// clock's, which a job that sets the wall clock cannot move. One goroutine owns it.
type pace struct {
	every time.Duration
	burst int
	full  time.Time // when the bucket will be full again, if nobody takes
}

// wait takes one token, as soon as there is one. It returns false when ctx ends first.
func (p *pace) wait(ctx context.Context) bool {
	now := time.Now()
	if p.full.Before(now) {
		p.full = now
	}
	p.full = p.full.Add(p.every)
	missing := p.full.Sub(now) - time.Duration(p.burst)*p.every
	if missing <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(missing)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
