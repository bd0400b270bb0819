// SPDX-License-Identifier: Apache-2.0

package program

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Hint is what a line of the runner program's output seems to say.
type Hint string

// The lines that are known (Runner.Listener: Runner.cs:490-491, 823, JobDispatcher.cs:378, 591, 701, BrokerMessageListener.cs:132,
// 140, SelfUpdaterV2.cs:68; Runner.Common: Terminal.cs).
const (
	HintConnected   Hint = "connected"   // √ Connected to GitHub
	HintReconnected Hint = "reconnected" // <time>: Runner reconnected.
	HintVersion     Hint = "version"     // Current runner version: '2.336.0'
	HintListening   Hint = "listening"   // <time>: Listening for Jobs
	HintJob         Hint = "job"         // <time>: Running job: NAME
	HintCompleted   Hint = "completed"   // <time>: Job NAME completed with result: RESULT
	HintUpdate      Hint = "update"      // Runner update in progress, do not shutdown runner.
	HintExiting     Hint = "exiting"     // Exiting...
	HintGone        Hint = "gone"        // The runner no longer exists on the server. …
	HintError       Hint = "error"       // An error occurred: TEXT
)

// Bounds on what a hostile stream can make a [Watch] do.
const (
	maxLine = 4 << 10 // bytes of a line that are looked at
	maxText = 200     // characters of a line that are passed on
	maxSeen = 256     // hints that are passed on at all
)

// Watch is a writer that passes everything on and looks for lines that the runner program prints.
//
// What it sees are hints for people who look at a status page. They decide nothing: the job runs as the same user as the
// runner program and can write any of these lines. Whether a runner listens, has a job or has ended is GitHub's word and
// the started hook's. It holds one line of bounded length, and after [maxSeen] hints it only passes on. It is safe for
// concurrent use.
type Watch struct {
	to   io.Writer
	seen func(Hint, string)

	mu    sync.Mutex
	line  []byte // mu: the line so far, while it is not too long
	long  bool   // mu: the line is too long, so the rest of it is passed over
	count int    // mu
}

// NewWatch makes a writer that copies to to and calls seen with each known line, without control characters and cut to
// 200 characters. Either may be nil; seen must not write to the Watch.
func NewWatch(to io.Writer, seen func(Hint, string)) *Watch {
	if to == nil {
		to = io.Discard
	}
	if seen == nil {
		seen = func(Hint, string) {}
	}
	return &Watch{to: to, seen: seen}
}

// Write implements [io.Writer]. Its result is the other writer's; everything is looked at whatever that one says.
func (w *Watch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.look(p)
	return w.to.Write(p)
}

func (w *Watch) look(p []byte) {
	for w.count < maxSeen && len(p) > 0 {
		part, rest, ended := bytes.Cut(p, []byte{'\n'})
		p = rest
		if len(w.line)+len(part) > maxLine {
			w.long = true
		}
		if !w.long {
			w.line = append(w.line, part...)
		}
		if !ended {
			return
		}
		if !w.long {
			w.tell(string(w.line))
		}
		w.line, w.long = w.line[:0], false
	}
}

func (w *Watch) tell(line string) {
	if hint, text, ok := ParseLine(line); ok {
		w.count++
		w.seen(hint, text)
	}
}

// stamped matches what the runner program puts before a line: DateTime.ToString("u").
var stamped = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}Z: `)

// ParseLine says what one line seems to say, and the line itself as it can be shown to a person.
func ParseLine(line string) (Hint, string, bool) {
	if len(line) > maxLine {
		return "", "", false
	}
	text := printable(line)
	said := text
	stamp := stamped.FindString(said)
	said = said[len(stamp):]
	hint := Hint("")
	switch {
	case stamp != "" && said == "Listening for Jobs":
		hint = HintListening
	case stamp != "" && said == "Runner reconnected.":
		hint = HintReconnected
	case stamp != "" && strings.HasPrefix(said, "Running job: "):
		hint = HintJob
	case stamp != "" && strings.HasPrefix(said, "Job ") && strings.Contains(said, " completed with result: "):
		hint = HintCompleted
	case stamp != "":
	case said == "√ Connected to GitHub":
		hint = HintConnected
	case strings.HasPrefix(said, "Current runner version: '"):
		hint = HintVersion
	case strings.HasPrefix(said, "Runner update in progress"):
		hint = HintUpdate
	case strings.HasPrefix(said, "The runner no longer exists on the server"):
		hint = HintGone
	case said == "Exiting...":
		hint = HintExiting
	case strings.HasPrefix(said, "An error occurred: "):
		hint = HintError
	}
	return hint, cut(text), hint != ""
}

// escapes are the sequences that terminals act on (ECMA-48): control sequences, and strings such as a window's title.
var escapes = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])`)

// printable leaves nothing in a line that a terminal acts on or that reads in another direction.
func printable(line string) string {
	line = escapes.ReplaceAllString(line, "")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, line))
}

func cut(text string) string {
	n := 0
	for i := range text {
		if n == maxText {
			return text[:i] + "…"
		}
		n++
	}
	return text
}
