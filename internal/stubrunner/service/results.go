// SPDX-License-Identifier: Apache-2.0

package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	receiver    = "twirp/results.services.receiver.Receiver/"
	stepUpdates = "twirp/github.actions.results.api.v1.WorkflowStepUpdateService/WorkflowStepsUpdate"
	azureBlobs  = "BLOB_STORAGE_TYPE_AZURE"
	twirpTime   = "2006-01-02T15:04:05.000Z"
)

// Results is the service that keeps logs, summaries and the progress of steps.
type Results struct {
	client *http.Client
	base   string
	token  string
	plan   string
	job    string
	change atomic.Int64
}

// ResultsConfig says where the results of which job go.
type ResultsConfig struct {
	// Base is the service's URL and Token its bearer token.
	Base, Token string
	// Plan and Job identify the job.
	Plan, Job string
}

// NewResults returns the results service of a job.
func NewResults(client *http.Client, c ResultsConfig) *Results {
	return &Results{client: client, base: c.Base, token: c.Token, plan: c.Plan, job: c.Job}
}

// StepState is the progress of one step. Status and Conclusion are the service's numbers.
type StepState struct {
	ExternalID  string `json:"external_id"`
	Number      int    `json:"number"`
	Name        string `json:"name"`
	Status      int    `json:"status"`
	StartedAt   string `json:"started_at,omitempty"`
	CompletedAt string `json:"completed_at,omitempty"`
	Conclusion  int    `json:"conclusion"`
}

// TwirpTime writes a time as the results service expects it.
func TwirpTime(t time.Time) string { return t.UTC().Format(twirpTime) }

type location struct {
	LogsURL     string `json:"logs_url"`
	SummaryURL  string `json:"summary_url"`
	StorageType string `json:"blob_storage_type"`
	SoftLimit   int64  `json:"soft_size_limit"`
}

func (r *Results) call(ctx context.Context, path string, in, out any) error {
	target, err := at(r.base, path)
	if err != nil {
		return err
	}
	return roundTrip(ctx, r.client, call{method: http.MethodPost, url: target, bearer: r.token, in: in, out: out})
}

func (r *Results) ids(step string) map[string]any {
	m := map[string]any{"workflow_run_backend_id": r.plan, "workflow_job_run_backend_id": r.job}
	if step != "" {
		m["step_backend_id"] = step
	}
	return m
}

// UpdateSteps reports the progress of steps.
func (r *Results) UpdateSteps(ctx context.Context, steps []StepState) error {
	in := r.ids("")
	in["steps"] = steps
	in["change_order"] = r.change.Add(1)
	if err := r.metadata(ctx, stepUpdates, in); err != nil {
		return fmt.Errorf("reporting steps: %w", err)
	}
	return nil
}

// UploadStepLog stores the log of a step.
func (r *Results) UploadStepLog(ctx context.Context, step string, text []byte, lines int) error {
	return r.upload(ctx, upload{kind: "StepLogs", step: step, data: text, lines: lines})
}

// UploadJobLog stores the log of the whole job.
func (r *Results) UploadJobLog(ctx context.Context, text []byte, lines int) error {
	return r.upload(ctx, upload{kind: "JobLogs", data: text, lines: lines})
}

// UploadSummary stores the summary of a step.
func (r *Results) UploadSummary(ctx context.Context, step string, text []byte) error {
	return r.upload(ctx, upload{kind: "StepSummary", step: step, data: text})
}

type upload struct {
	kind  string // StepLogs, JobLogs or StepSummary
	step  string
	data  []byte
	lines int
}

func (r *Results) upload(ctx context.Context, u upload) error {
	var loc location
	if err := r.call(ctx, receiver+"Get"+u.kind+"SignedBlobURL", r.ids(u.step), &loc); err != nil {
		return fmt.Errorf("getting upload url: %w", err)
	}
	target := loc.LogsURL
	if u.kind == "StepSummary" {
		target = loc.SummaryURL
		if loc.SoftLimit > 0 && int64(len(u.data)) > loc.SoftLimit {
			return errors.New("uploading summary: the file is larger than the service allows")
		}
	}
	if target == "" {
		return errors.New("getting upload url: the answer has none")
	}
	if err := r.put(ctx, target, loc.StorageType, u); err != nil {
		return err
	}
	in := r.ids(u.step)
	in["uploaded_at"] = TwirpTime(time.Now())
	if u.kind == "StepSummary" {
		in["size"] = len(u.data)
	} else {
		in["line_count"] = u.lines
	}
	if err := r.metadata(ctx, receiver+"Create"+u.kind+"Metadata", in); err != nil {
		return fmt.Errorf("completing upload: %w", err)
	}
	return nil
}

func (r *Results) put(ctx context.Context, target, storage string, u upload) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target, bytes.NewReader(u.data))
	if err != nil {
		return fmt.Errorf("making upload: %w", err)
	}
	req.Header.Set("User-Agent", UserAgent())
	if storage == azureBlobs {
		req.Header.Set("x-ms-blob-type", "BlockBlob")
	}
	if u.kind != "StepSummary" {
		req.Header.Set("Content-Type", "text/plain")
	}
	if err := exchange(r.client, req, new([]byte)); err != nil {
		return fmt.Errorf("uploading file: %w", err)
	}
	return nil
}

func (r *Results) metadata(ctx context.Context, path string, in any) error {
	var answer struct {
		OK bool `json:"ok"`
	}
	if err := r.call(ctx, path, in, &answer); err != nil {
		return err
	}
	if !answer.OK {
		return errors.New("the results service did not confirm")
	}
	return nil
}
