// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/kettle/attest/attest/refusal"
)

// Announcement is what a scale set's session says when one of its runners gets a job. GitHub pushes it to kettled, beside
// the sandbox and without the job's permission, so it is one more source to hold the others against. The job's id in it
// is not the jobs API's, and no other source is documented to tell it.
type Announcement struct {
	RunnerID    int64
	RunnerName  string
	Repository  string // owner/repository
	RunID       int64
	Event       string
	WorkflowRef string // of the file that defines the job: owner/repository/path@ref
	JobID       string
}

// askAnnouncement waits for what the scale set's session says about our runner, and compares it.
func (i *Identifier) askAnnouncement(ctx context.Context, s *sources) error {
	if i.config.Announced == nil {
		return nil
	}
	var a Announcement
	err := i.until(ctx, "waiting for the scale set's word", func(context.Context) (told bool, _ error) {
		a, told = i.config.Announced()
		return told, nil
	})
	if errors.Is(err, errNeverShown) {
		return refuse(refusal.Missing, "the scale set's word that our runner has a job", "none in time")
	}
	if err != nil {
		return err
	}
	if err := s.compareAnnouncement(a); err != nil {
		return err
	}
	s.announced = &a
	return nil
}

// compareAnnouncement holds every fact of an announcement against what the other sources said.
func (s *sources) compareAnnouncement(a Announcement) error {
	r := s.question.Runner
	pairs := []pair{
		{"runner in the scale set's word", decimal(r.ID), decimal(a.RunnerID)},
		{"runner's name in the scale set's word", r.Name, a.RunnerName},
		{"run in the scale set's word", decimal(s.runID), decimal(a.RunID)},
		{"event in the scale set's word", s.run.Event, a.Event},
	}
	if full := s.run.Repository.FullName; !strings.EqualFold(full, a.Repository) { // names differ by more than their case
		pairs = append(pairs, pair{"repository in the scale set's word", full, a.Repository})
	}
	if s.signed != nil {
		pairs = append(pairs, pair{"job's workflow in the scale set's word, as in the token", s.signed.JobWorkflowRef, a.WorkflowRef})
	}
	if err := differ(pairs); err != nil {
		return err
	}
	if s.signed == nil && !s.defines(a.WorkflowRef) {
		return refuse(refusal.Identity, "a job of the run's workflow, or of one that it calls", fmt.Sprintf("a job of %.128q", a.WorkflowRef))
	}
	return nil
}

// defines reports whether a file is the run's own workflow or a reusable one that GitHub's run names.
func (s *sources) defines(ref string) bool {
	if ref == "" {
		return false
	}
	if ref == s.context("workflow_ref") {
		return true
	}
	for _, w := range s.run.Referenced {
		file, _, _ := strings.Cut(w.Path, "@")
		if ref == w.Path || w.Ref != "" && ref == file+"@"+w.Ref {
			return true
		}
	}
	return false
}
