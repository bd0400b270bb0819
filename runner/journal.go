// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
	"unicode"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/internal/strict"
)

// ErrUsed means that an environment has had its turn: it never takes a second job.
var ErrUsed = errors.New("this environment was used before")

// ErrJournal is matched by what is wrong with a journal that is read.
var ErrJournal = errors.New("journal is not whole")

// maxJournal bounds a journal that is read, in bytes; the longest that is written has about 200 lines.
const maxJournal = 1 << 20

// Entry is one line of the journal: a state that was entered, or a note within one.
type Entry struct {
	Seq      int            `json:"seq"`
	At       time.Time      `json:"at"`
	State    State          `json:"state"`
	Reason   string         `json:"reason,omitempty"`
	Runner   *Named         `json:"runner,omitempty"`
	Previous binding.Digest `json:"previous"` // SHA-256 of the line before, without its end; zeros in the first
}

// Named is a runner that GitHub was asked for. It is there before GitHub is asked, without an ID.
type Named struct {
	ID   int64  `json:"id,omitempty"`
	Name string `json:"name"`
}

// Journal records every transition in order, before it takes effect. It lies outside the sandbox. Each line names the one
// before by digest, so a line cannot be lost unseen. It is safe for concurrent use.
type Journal struct {
	now   func() time.Time
	file  io.Writer           // set once by the constructor
	watch func(Entry, []byte) // set once by the constructor

	mu     sync.Mutex
	state  State          // mu
	since  time.Time      // mu
	seq    int            // mu
	last   binding.Digest // mu
	lines  bytes.Buffer   // mu
	broken error          // mu: why nothing more can be written
}

// CreateJournalFile makes the file that a journal is written to. It is also the mark that an environment was used: if there
// is one, the error matches [ErrUsed]. Every write has reached the disk when it returns.
func CreateJournalFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_SYNC, 0o600) //nolint:gosec // the caller's.
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("creating the journal: %w: %w", ErrUsed, err)
	}
	if err != nil {
		return nil, fmt.Errorf("creating the journal: %w", err)
	}
	return f, nil
}

// NewJournal begins a journal in state boot. Each line is written to file, at once and whole, before it counts. watch, if
// not nil, is called with each entry and its line, in order.
func NewJournal(file io.Writer, now func() time.Time, watch func(e Entry, line []byte)) (*Journal, error) {
	j := &Journal{now: now, file: file, watch: watch}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j, j.write(Entry{State: Boot})
}

// State tells where the environment stands, and since when.
func (j *Journal) State() (State, time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state, j.since
}

// Enter goes to the state that follows on an event, or refuses with a [TransitionError] and stays. reason is shown to
// operators and must not hold anything secret.
func (j *Journal) Enter(e Event, reason string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	next, err := j.state.After(e)
	if err != nil {
		return err
	}
	return j.write(Entry{State: next, Reason: reason})
}

// Note writes down something within the state.
func (j *Journal) Note(reason string, r *Named) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.write(Entry{State: j.state, Reason: reason, Runner: r})
}

// write appends an entry. The caller holds mu.
func (j *Journal) write(e Entry) error {
	e.Seq, e.At, e.Previous, e.Reason = j.seq, j.now().UTC(), j.last, printable(e.Reason)
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding journal entry: %w", err)
	}
	if j.broken != nil { // nothing stands behind half a line
		return j.broken
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		j.broken = fmt.Errorf("writing the journal: %w", err)
		return j.broken
	}
	if e.State != j.state {
		j.state, j.since = e.State, e.At
	}
	j.seq, j.last = j.seq+1, binding.Sum(line)
	j.lines.Write(line)
	j.lines.WriteByte('\n')
	if j.watch != nil {
		j.watch(e, line)
	}
	return nil
}

// printable keeps a reason to one line that a person can look at, whoever chose its words.
func printable(s string) string {
	const most = 1000
	var b []rune
	for _, r := range s {
		if !unicode.IsPrint(r) {
			r = ' '
		}
		if b = append(b, r); len(b) == most {
			return string(b) + "…"
		}
	}
	return string(b)
}

// Bytes gives the journal so far as JSON Lines.
func (j *Journal) Bytes() []byte {
	j.mu.Lock()
	defer j.mu.Unlock()
	return bytes.Clone(j.lines.Bytes())
}

// ReadJournal reads a journal: every line in order, linked to the one before, and each state one that the state machine
// leads to. A last line that was not written to its end does not count. The error matches [ErrJournal]; the entries before
// the fault are returned with it, for whoever has to tidy up.
func ReadJournal(r io.Reader) ([]Entry, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxJournal+1))
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	if len(data) > maxJournal {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrJournal, maxJournal)
	}
	var entries []Entry
	var last binding.Digest
	for {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			return entries, nil
		}
		data = rest
		var e Entry
		if err := strict.Decode(line, &e); err != nil {
			return entries, fmt.Errorf("%w: line %d: %w", ErrJournal, len(entries), err)
		}
		if err := follows(entries, e, last); err != nil {
			return entries, fmt.Errorf("%w: line %d: %w", ErrJournal, len(entries), err)
		}
		entries, last = append(entries, e), binding.Sum(line)
	}
}

// follows judges whether an entry may stand behind the others.
func follows(before []Entry, e Entry, last binding.Digest) error {
	switch {
	case e.Seq != len(before):
		return fmt.Errorf("seq is %d", e.Seq)
	case e.Previous != last:
		return errors.New("it names another line as the one before")
	case e.Runner != nil && e.Runner.Name == "":
		return errors.New("its runner has no name")
	case len(before) == 0 && e.State != Boot:
		return fmt.Errorf("the first state is %q", e.State)
	case len(before) > 0:
		if was := before[len(before)-1].State; e.State != was && !was.leads(e.State) {
			return fmt.Errorf("no transition leads from %q to %q", was, e.State)
		}
	}
	return nil
}
