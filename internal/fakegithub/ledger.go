// SPDX-License-Identifier: Apache-2.0

package fakegithub

// Ledger is what a server knows at the end of a test that something went wrong with, and the totals of what went on.
type Ledger struct {
	Registered    []Runner // registrations that are left
	Unfinished    []Job    // jobs that are not completed
	TakenTwice    []Job    // jobs that more than one acquirejob was granted for
	Greedy        []Runner // runners that asked for a job again after they had been granted one
	Registrations int      // ever made
	Acquired      int      // jobs granted
	Completed     int      // jobs that their runner completed
	Lost          int      // jobs given up because nobody renewed them
	Refused       int      // acquirejobs refused
}

// ledger is the part of a [Ledger] that is kept.
type ledger struct {
	registrations, acquired, completed, lost, refusals int
	twice                                              []Job
	greedy                                             []Runner
}

// Ledger returns the books. They know runs that were forgotten too (Config.Keep).
func (s *Server) Ledger() Ledger {
	registered := s.Runners()
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.books
	out := Ledger{
		Registered: registered, TakenTwice: append([]Job(nil), b.twice...), Greedy: append([]Runner(nil), b.greedy...),
		Registrations: b.registrations, Acquired: b.acquired, Completed: b.completed, Lost: b.lost, Refused: b.refusals,
	}
	for _, j := range s.jobs {
		if j.status != statusCompleted {
			out.Unfinished = append(out.Unfinished, j.snapshot())
		}
	}
	return out
}

// granted notes that a runner got a job. The caller holds mu.
func (s *Server) granted(r *runner, j *job) {
	s.books.acquired++
	j.granted++
	r.granted++
	if j.granted == 2 {
		s.books.twice = append(s.books.twice, j.snapshot())
	}
}

// asked notes an acquirejob. The caller holds mu.
func (s *Server) asked(r *runner) {
	if r.granted == 1 && !r.greedy {
		r.greedy = true
		s.books.greedy = append(s.books.greedy, r.snapshot())
	}
}
