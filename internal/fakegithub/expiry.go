// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"slices"
	"strings"
	"time"
)

// What GitHub waits for before it gives up a runner.
const (
	offerTime = time.Minute      // an offer that is not acquired goes back to the queue, and the session is over
	lockTime  = 10 * time.Minute // a job that is not renewed is lost
)

// watch sweeps when a job's time is over by the machine's clock; a clock that a test moves is looked at with every request.
// The caller holds mu.
func (s *Server) watch(j *job, d time.Duration) {
	if j.timer == nil {
		j.timer = time.AfterFunc(d, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.sweep()
		})
		return
	}
	j.timer.Reset(d)
}

// sweep gives up what is late: offers return to the queue, jobs without renewal fail. The caller holds mu.
func (s *Server) sweep() {
	now := s.steady()
	for _, j := range s.jobs {
		if j.deadline.IsZero() || now.Before(j.deadline) {
			continue
		}
		switch j.status {
		case statusQueued:
			if j.runner != nil {
				j.runner.session = "" // a runner that is alive opens another and is offered the job again
			}
			s.withdraw(j)
		case statusInProgress:
			s.books.lost++
			s.finish(j, concludedFailure)
		}
	}
}

// withdraw takes an offer back and queues the job again. The caller holds mu.
func (s *Server) withdraw(j *job) {
	r := j.runner
	if r == nil {
		return
	}
	r.drop(j)
	r.job, j.runner, j.runnerID, j.runnerName, j.groupID, j.deadline = nil, nil, 0, "", 0, time.Time{}
	s.assign()
	s.touch()
}

// forget drops the oldest completed runs over the number to keep, and tokens that have ended. The caller holds mu.
func (s *Server) forget() {
	now := s.steady()
	if len(s.tokens) > 2*s.swept {
		for token, p := range s.tokens {
			if !p.expires.IsZero() && !now.Before(p.expires) {
				delete(s.tokens, token)
			}
		}
		s.swept = max(len(s.tokens), 1000)
	}
	if s.cfg.Keep == 0 {
		return
	}
	completed := 0
	for _, r := range s.runs {
		if r.status == statusCompleted {
			completed++
		}
	}
	s.runs = slices.DeleteFunc(s.runs, func(r *run) bool {
		if r.status != statusCompleted || completed <= s.cfg.Keep {
			return false
		}
		completed--
		for _, j := range r.jobs {
			delete(s.tokens, j.token)
			delete(s.tokens, j.system)
		}
		s.jobs = slices.DeleteFunc(s.jobs, func(j *job) bool { return j.run == r })
		for path := range s.blobs {
			if strings.HasPrefix(path, r.plan+"/") {
				delete(s.blobs, path)
			}
		}
		return true
	})
}
