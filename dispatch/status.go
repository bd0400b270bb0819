// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/kettle/attest/internal/strict"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/channel"
)

// StatusSchema is the schema of [Status] as JSON.
const StatusSchema = "kettle.status/v1"

// Step is where a launcher stands with its VM.
type Step string

// The steps, in order.
const (
	Starting  Step = "starting"  // the VM runs and has not spoken yet
	Following Step = "following" // the VM speaks
	Reaping   Step = "reaping"   // the VM has ended; its runners are being removed
	Reaped    Step = "reaped"    // GitHub lists no runner of it
	Left      Step = "left"      // a runner may be left: nobody sees to it, or the launcher gave up
)

// Status says how an environment stands. State, Runner, Jobs, Responses and a guest's alarms are the VM's claims.
type Status struct {
	Schema      string          `json:"schema"`
	Environment string          `json:"environment"`
	Step        Step            `json:"step"`
	State       runner.State    `json:"state,omitempty"`
	Since       *time.Time      `json:"since,omitempty"` // when the launcher heard of the state
	Runner      *runner.Named   `json:"runner,omitempty"`
	Jobs        int             `json:"jobs"`
	Responses   int64           `json:"responses"`
	Alarms      []channel.Alarm `json:"alarms"` // sorted
	Draining    bool            `json:"draining"`
	Started     *time.Time      `json:"started,omitempty"`
	Heard       *time.Time      `json:"heard,omitempty"` // when the VM spoke last
	Lines       int             `json:"lines"`           // of the journal
	How         How             `json:"how,omitempty"`   // it ended
	Outcome     string          `json:"outcome,omitempty"`
}

// ParseStatus reads what a launcher says of its environment.
func ParseStatus(data []byte) (Status, error) {
	var s Status
	if err := strict.Decode(data, &s); err != nil {
		return Status{}, err
	}
	if s.Schema != StatusSchema {
		return Status{}, errors.New("not a " + StatusSchema)
	}
	return s, nil
}

// Survey says how each environment in the state folder stands, as far as files tell: those that a launcher holds have the
// step following, and [Ask] says more.
func Survey(state string) ([]Status, error) {
	names, err := environments(state)
	if err != nil {
		return nil, err
	}
	all := make([]Status, 0, len(names))
	for _, name := range names {
		all = append(all, survey(state, name))
	}
	return all, nil
}

func survey(state, name string) Status {
	path := filepath.Join(state, name)
	s := Status{Schema: StatusSchema, Environment: name, Step: Left, Alarms: []channel.Alarm{}}
	record, err := readRecord(path)
	switch {
	case err == nil:
		s.Step, s.State, s.How, s.Outcome, s.Lines = Reaped, record.Journal.State, record.How, record.Outcome, record.Journal.Lines
		return s
	case !errors.Is(err, fs.ErrNotExist):
		s.Outcome = channel.Printable(err.Error(), 200)
	case alive(path):
		s.Step = Following
	}
	f := &Folder{path: path, environment: name}
	j := f.readJournal()
	s.State, s.Lines = j.State, j.Lines
	if n := len(j.Named); n > 0 {
		s.Runner = &j.Named[n-1]
	}
	return s
}

// view is what a session knows, guarded by its mutex.
type view struct {
	Status
	claimed []channel.Alarm // the guest's
	own     []channel.Alarm // the launcher's
}

// raise and settle change the launcher's own alarms.
func (v *view) raise(a channel.Alarm) {
	if !slices.Contains(v.own, a) {
		v.own = append(v.own, a)
	}
}

func (v *view) settle(a channel.Alarm) {
	v.own = slices.DeleteFunc(v.own, func(b channel.Alarm) bool { return a == b })
}

// snapshot is a copy that nobody changes.
func (v *view) snapshot() Status {
	s := v.Status
	s.Alarms = append(slices.Clone(v.claimed), v.own...)
	slices.Sort(s.Alarms)
	s.Alarms = slices.Compact(s.Alarms)
	if s.Alarms == nil {
		s.Alarms = []channel.Alarm{}
	}
	if v.Runner != nil {
		named := *v.Runner
		s.Runner = &named
	}
	return s
}
