// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"time"

	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/image/build"
)

// stepJSON is one step of a build.
type stepJSON struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Cached  bool    `json:"cached"`
	Note    string  `json:"note,omitempty"`
}

// stepLog says each step of a build on the error stream when it is done, and on a terminal also how far it is.
type stepLog struct {
	io       *cli.IO
	progress *cli.Progress
	steps    []stepJSON
}

func newStepLog(io *cli.IO) *stepLog {
	return &stepLog{io: io, progress: io.Progress(), steps: []stepJSON{}}
}

func (l *stepLog) watch() build.Watch {
	return build.Watch{
		Done: func(s build.Step) {
			l.progress.Done()
			how := "made"
			if s.Cached {
				how = "cached"
			}
			fmt.Fprintf(l.io.Err, "  %-9s %-7s %6.1f s\n", s.Name, how, s.Took.Seconds())
			if s.Note != "" {
				fmt.Fprintf(l.io.Err, "            %s\n", cli.CleanLines(s.Note))
			}
			tenths := math.Round(s.Took.Seconds()/time.Millisecond.Seconds()) / 1000
			l.steps = append(l.steps, stepJSON{Name: s.Name, Seconds: tenths, Cached: s.Cached, Note: s.Note})
		},
		Moving: func(step string, done, all int64) {
			l.progress.Say("  %-9s %s of %s", step, cli.Bytes(done), cli.Bytes(all))
		},
	}
}

// end clears the line.
func (l *stepLog) end() { l.progress.Done() }
