// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"fmt"
	"slices"
	"time"

	"github.com/kettle/attest/internal/secret"
)

// Message is one of [Hello], [Phase], [Journal], [Status] and [End].
type Message interface{ validate() error }

// Hello is the guest's first message.
type Hello struct {
	Program string // who speaks, for example "kettled"
}

// Phase says that the guest has reached a phase.
type Phase struct {
	Name    string
	Elapsed time.Duration // since the guest's kernel started, in whole milliseconds on the wire
}

// Journal carries one line of the guest's journal, byte for byte as it was hashed.
type Journal struct {
	Seq  int64 // 0 in the first, then one more each
	Line string
}

// Status says how the guest stands. Each replaces the one before.
type Status struct {
	State     string
	Since     time.Duration // in this state, in whole milliseconds on the wire
	Elapsed   time.Duration // since the guest's kernel started, likewise
	Runner    Runner        // the latest; empty before the first
	Jobs      int           // taken so far: 0 or 1
	Responses int64         // given so far
	Alarms    []Alarm       // those that hold now, none twice
}

// Runner is a runner as the guest knows it.
type Runner struct {
	ID   int64 // 0 until GitHub has told it
	Name string
}

// End is the guest's last message.
type End struct {
	Outcome string // one sentence
}

// Alarm is a word for a condition that a person has to look at. A guest may send words that this version does not know.
type Alarm string

// The alarms of a guest.
const (
	RunnerOutdated        Alarm = "runner-outdated"         // GitHub refuses this version of the runner program, or soon will
	RunnerOutdatesSoon    Alarm = "runner-outdates-soon"    // it will within days
	RunnerBadConfig       Alarm = "runner-bad-config"       // the runner program did not take its configuration
	RunnerGaveUp          Alarm = "runner-gave-up"          // it ended although it had a job
	RunnerWantsUpdate     Alarm = "runner-wants-update"     // it ended to update itself, which it must not
	RunnerSessionConflict Alarm = "runner-session-conflict" // GitHub took it for connected already
	RunnerKilled          Alarm = "runner-killed"           // something killed it
	RunnerCrashed         Alarm = "runner-crashed"          // it crashed
	RunnerUnknownExit     Alarm = "runner-unknown-exit"     // its exit code is not known
	SinkDown              Alarm = "sink-down"               // the record cannot be delivered
	GitHubDown            Alarm = "github-down"             // GitHub does not say what it sees
	DeregisterFailed      Alarm = "deregister-failed"       // the runner could not be removed
	ClockWrong            Alarm = "clock-wrong"             // this machine's clock disagrees with GitHub's
	CredentialDenied      Alarm = "credential-denied"       //nolint:gosec // no credential: GitHub refuses it
	PATCredential         Alarm = "pat-credential"          //nolint:gosec // no credential: it is a personal access token
)

// Alarms gives every alarm that a guest of this version raises.
func Alarms() []Alarm {
	return []Alarm{
		RunnerOutdated, RunnerOutdatesSoon, RunnerBadConfig, RunnerGaveUp, RunnerWantsUpdate, RunnerSessionConflict, RunnerKilled,
		RunnerCrashed, RunnerUnknownExit, SinkDown, GitHubDown, DeregisterFailed, ClockWrong, CredentialDenied, PATCredential,
	}
}

func (h Hello) validate() error { return word("program", h.Program) }

func (p Phase) validate() error {
	if err := span("elapsedMs", p.Elapsed); err != nil {
		return err
	}
	return word("name", p.Name)
}

func (j Journal) validate() error {
	if j.Seq < 0 || j.Seq > maxID {
		return fmt.Errorf("%w: seq: %d", ErrProtocol, j.Seq)
	}
	return printable("line", j.Line, MaxLine)
}

func (s Status) validate() error {
	for _, fault := range []error{
		word("state", s.State), span("sinceMs", s.Since), span("elapsedMs", s.Elapsed), s.Runner.validate(),
	} {
		if fault != nil {
			return fault
		}
	}
	switch {
	case s.Jobs != 0 && s.Jobs != 1:
		return fmt.Errorf("%w: jobs: want 0 or 1, got %d", ErrProtocol, s.Jobs)
	case s.Responses < 0 || s.Responses > maxResponses:
		return fmt.Errorf("%w: responses: want 0 to %d, got %d", ErrProtocol, maxResponses, s.Responses)
	case len(s.Alarms) > maxAlarms:
		return fmt.Errorf("%w: alarms: want at most %d, got %d", ErrProtocol, maxAlarms, len(s.Alarms))
	}
	for i, a := range s.Alarms {
		if err := word("alarms", string(a)); err != nil {
			return err
		}
		if slices.Contains(s.Alarms[:i], a) {
			return fmt.Errorf("%w: alarms: %s twice", ErrProtocol, a)
		}
	}
	return nil
}

// validate accepts the letters that GitHub lets a name have, or no runner at all.
func (r Runner) validate() error {
	if r.ID < 0 || r.ID > maxID || (r.ID > 0 && r.Name == "") {
		return fmt.Errorf("%w: runner: id %d of no runner", ErrProtocol, r.ID)
	}
	if len(r.Name) > maxWord {
		return fmt.Errorf("%w: runner: name: want at most %d characters, got %d", ErrProtocol, maxWord, len(r.Name))
	}
	for _, c := range r.Name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return fmt.Errorf("%w: runner: name: has the character %U", ErrProtocol, c)
		}
	}
	return nil
}

func (e End) validate() error { return printable("outcome", e.Outcome, maxSentence) }

// encode gives a message of the guest as it is sent.
func encode(m Message) wire {
	ms := func(d time.Duration) *int64 {
		n := d.Milliseconds()
		return &n
	}
	switch m := m.(type) {
	case Hello:
		return wire{Type: "hello", Program: &m.Program}
	case Phase:
		return wire{Type: "phase", Name: &m.Name, ElapsedMs: ms(m.Elapsed)}
	case Journal:
		return wire{Type: "journal", Seq: &m.Seq, Line: &m.Line}
	case Status:
		alarms := append([]Alarm{}, m.Alarms...) // never null
		return wire{
			Type: "status", State: &m.State, SinceMs: ms(m.Since), ElapsedMs: ms(m.Elapsed), Jobs: &m.Jobs,
			Runner: &wireRunner{&m.Runner.ID, &m.Runner.Name}, Responses: &m.Responses, Alarms: &alarms,
		}
	case End:
		return wire{Type: "end", Outcome: &m.Outcome}
	}
	return wire{}
}

// message gives a message of the guest. Every field of its type is there, and none of another.
func (m wire) message() (Message, error) {
	var got Message
	var times [2]time.Duration
	var err error
	switch {
	case m.Type == "hello" && m.Program != nil && m.equal(wire{Program: m.Program}):
		got = Hello{Program: *m.Program}
	case m.Type == "phase" && m.Name != nil && m.ElapsedMs != nil && m.equal(wire{Name: m.Name, ElapsedMs: m.ElapsedMs}):
		times, err = durations(0, *m.ElapsedMs)
		got = Phase{Name: *m.Name, Elapsed: times[1]}
	case m.Type == "journal" && m.Seq != nil && m.Line != nil && m.equal(wire{Seq: m.Seq, Line: m.Line}):
		got = Journal{Seq: *m.Seq, Line: *m.Line}
	case m.Type == "status" && m.isStatus():
		times, err = durations(*m.SinceMs, *m.ElapsedMs)
		got = Status{
			State: *m.State, Since: times[0], Elapsed: times[1], Runner: Runner{ID: *m.Runner.ID, Name: *m.Runner.Name},
			Jobs: *m.Jobs, Responses: *m.Responses, Alarms: *m.Alarms,
		}
	case m.Type == "end" && m.Outcome != nil && m.equal(wire{Outcome: m.Outcome}):
		got = End{Outcome: *m.Outcome}
	default:
		return nil, fmt.Errorf("%w: not a message of the guest with exactly its fields", ErrProtocol)
	}
	if err != nil {
		return nil, err
	}
	return got, got.validate()
}

func (m wire) isStatus() bool {
	full := m.State != nil && m.SinceMs != nil && m.ElapsedMs != nil && m.Jobs != nil && m.Responses != nil && m.Alarms != nil &&
		m.Runner != nil && m.Runner.ID != nil && m.Runner.Name != nil
	return full && m.equal(wire{
		State: m.State, SinceMs: m.SinceMs, ElapsedMs: m.ElapsedMs, Runner: m.Runner, Jobs: m.Jobs, Responses: m.Responses,
		Alarms: m.Alarms,
	})
}

// durations refuses what would overflow; validate judges the rest.
func durations(ms ...int64) (out [2]time.Duration, err error) {
	for i, n := range ms {
		if n < 0 || n > int64(1<<62/time.Millisecond) {
			return out, fmt.Errorf("%w: a time out of range", ErrProtocol)
		}
		out[i] = time.Duration(n) * time.Millisecond
	}
	return out, nil
}

// admission gives the launcher's first message. A prefix is judged when it is there; who needs one refuses its absence.
func (m wire) admission() (Admission, error) {
	if m.Type != "credential" || m.Credential == nil && m.Prefix == nil || !m.equal(wire{Credential: m.Credential, Prefix: m.Prefix}) {
		return Admission{}, fmt.Errorf("%w: not a credential with exactly its fields", ErrProtocol)
	}
	var a Admission
	if m.Credential != nil {
		if a.Credential = secret.New(*m.Credential); a.Credential.Empty() {
			return Admission{}, a.validateCredential()
		}
	}
	if m.Prefix == nil {
		return a, a.validateCredential()
	}
	a.Prefix = *m.Prefix
	return a, a.validate()
}

// command gives what the launcher sends after it.
func (m wire) command() (Command, error) {
	if m.Type != string(Drain) || !m.equal(wire{}) {
		return "", fmt.Errorf("%w: not a command with exactly its fields", ErrProtocol)
	}
	return Drain, nil
}
