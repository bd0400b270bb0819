// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/kettle/attest/internal/stubrunner/message"
)

// ErrSkipJob says that an offered job is gone, taken or unfit; the real runner then keeps listening.
var ErrSkipJob = errors.New("the job can't be acquired")

// ErrJobGone says that the run service no longer knows the job.
var ErrJobGone = errors.New("the job is no longer valid")

const runSource = "actions-run-service"

// Acquire takes an offered job and returns the job message as it came.
func Acquire(ctx context.Context, client *http.Client, tokens *Tokens, offer message.JobRequest) ([]byte, error) {
	target, err := at(offer.RunServiceURL, "acquirejob")
	if err != nil {
		return nil, err
	}
	in := map[string]string{"jobMessageId": offer.RunnerRequestID, "runnerOS": OS}
	if offer.BillingOwnerID != "" {
		in["billingOwnerId"] = offer.BillingOwnerID
	}
	var raw []byte
	err = withToken(ctx, client, tokens, call{method: http.MethodPost, url: target, in: in, out: &raw})
	var status *StatusError
	if errors.As(err, &status) {
		switch f := status.fault(runSource); f.Code {
		case http.StatusNotFound, http.StatusConflict, http.StatusUnprocessableEntity:
			return nil, fmt.Errorf("%w: %d %s", ErrSkipJob, f.Code, f.Message)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("acquiring job: %w", err)
	}
	return raw, nil
}

// Run is the run service of one job, reached with the job's own token.
type Run struct {
	client   *http.Client
	endpoint message.Endpoint
	plan     string
	job      string
}

// NewRun returns the run service of a job.
func NewRun(client *http.Client, job *message.Job) (*Run, error) {
	endpoint, err := job.System()
	if err != nil {
		return nil, err
	}
	return &Run{client: client, endpoint: endpoint, plan: job.Plan.ID, job: job.ID}, nil
}

func (r *Run) call(ctx context.Context, path string, in any) error {
	target, err := at(r.endpoint.URL, path)
	if err != nil {
		return err
	}
	err = roundTrip(ctx, r.client, call{method: http.MethodPost, url: target, bearer: r.endpoint.Token(), in: in})
	var status *StatusError
	if errors.As(err, &status) && status.fault(runSource).Code == http.StatusNotFound {
		return fmt.Errorf("%w: %w", ErrJobGone, err)
	}
	return err
}

// Renew keeps the job for another ten minutes.
func (r *Run) Renew(ctx context.Context) error {
	if err := r.call(ctx, "renewjob", map[string]string{"planId": r.plan, "jobId": r.job}); err != nil {
		return fmt.Errorf("renewing job: %w", err)
	}
	return nil
}

// Annotation is an error, warning or notice.
type Annotation struct {
	Level       string `json:"level"`
	Message     string `json:"message"`
	Title       string `json:"title,omitempty"`
	Path        string `json:"path,omitempty"`
	StartLine   int64  `json:"startLine,omitempty"`
	EndLine     int64  `json:"endLine,omitempty"`
	StartColumn int64  `json:"startColumn,omitempty"`
	EndColumn   int64  `json:"endColumn,omitempty"`
	StepNumber  int64  `json:"stepNumber,omitempty"`
}

// StepResult is what became of one step.
type StepResult struct {
	ExternalID  string       `json:"external_id"`
	Number      int          `json:"number,omitempty"`
	Name        string       `json:"name"`
	ActionName  string       `json:"action_name,omitempty"`
	Ref         string       `json:"ref,omitempty"`
	Type        string       `json:"type,omitempty"`
	Status      string       `json:"status"`
	Conclusion  string       `json:"conclusion"`
	StartedAt   *time.Time   `json:"started_at,omitempty"`
	CompletedAt *time.Time   `json:"completed_at,omitempty"`
	Annotations []Annotation `json:"annotations"`
}

// Completion is the result of a job.
type Completion struct {
	PlanID         string                 `json:"planId"`
	JobID          string                 `json:"jobId"`
	Conclusion     string                 `json:"conclusion"`
	Outputs        map[string]OutputValue `json:"outputs,omitempty"`
	StepResults    []StepResult           `json:"stepResults,omitempty"`
	Annotations    []Annotation           `json:"annotations,omitempty"`
	BillingOwnerID string                 `json:"billingOwnerId,omitempty"`
}

// OutputValue is one output of a job.
type OutputValue struct {
	Value string `json:"value"`
}

// Complete reports the job's result. The identifiers are filled in.
func (r *Run) Complete(ctx context.Context, c Completion) error {
	c.PlanID, c.JobID = r.plan, r.job
	if err := r.call(ctx, "completejob", c); err != nil {
		return fmt.Errorf("completing job: %w", err)
	}
	return nil
}
