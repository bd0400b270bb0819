// SPDX-License-Identifier: Apache-2.0

// Package job finds out which job an environment runs, from outside the sandbox, and freezes the answer.
//
// It runs once, at T0: the runner's started hook waits, and no code of the job has run yet. What the hook says are
// claims. GitHub's jobs API says which job runs on our runner; the runner's own log, read from outside, holds the job
// message with inputs, variables, matrix, steps and action references; and where the job may ask for an identity token,
// kettled fetches one itself, for an audience that commits to the environment's key. Every value is compared wherever two
// sources have it, and any difference is a refusal.
//
// Guarantees: [Identifier.Identify] returns a job only if GitHub, asked over TLS, says that exactly this job runs on
// exactly our runner, and every fact carries its origin: "github" (GitHub's API or signature), "measured" (read by
// kettled from outside the sandbox before the job's code ran), "job" (a claim). Events are named, not judged: policy
// decides. What the provenance cannot represent is refused here, since leaving it out would make it incomplete.
//
// Trusts: GitHub's answers, and that the runner program of the image wrote its log before it started any code of the job.
// An action's tag is resolved by asking GitHub at T0, moments after the runner downloaded it: someone who may move the tag
// can race that, a reference by commit cannot be raced. Actions used inside a composite action are named only by its
// commit. The package does not import go-github.
package job

import (
	"context"
	"regexp"
	"strings"
)

// API is what this package asks GitHub. After an error that matches [runner.ErrTryAgain] it is asked again; any other is
// passed on. None means that GitHub answered.
type API interface {
	// Jobs lists all jobs of one attempt of a run.
	Jobs(ctx context.Context, repo string, runID, attempt int64) ([]WorkflowJob, error)
	// Run reads a run. GitHub shows its latest attempt.
	Run(ctx context.Context, repo string, runID int64) (*Run, error)
	// ResolveRef gives the commit that a branch or tag names now, in lower-case hex.
	ResolveRef(ctx context.Context, repo, ref string) (string, error)
}

// WorkflowJob is one job as the jobs API shows it. RunnerID is 0 until a runner has it.
type WorkflowJob struct {
	ID         int64
	RunID      int64
	RunAttempt int64
	Name       string
	HeadSHA    string
	Status     string // queued, in_progress, completed
	Conclusion string // of a completed job
	RunnerID   int64
	RunnerName string
	Labels     []string
}

// Run is one workflow run.
type Run struct {
	ID                int64
	Attempt           int64
	HeadBranch        string
	HeadSHA           string
	Path              string // of the workflow file, sometimes with "@ref" behind it
	Event             string
	Actor             string
	ActorID           int64
	TriggeringActor   string
	TriggeringActorID int64
	Repository        Repository
	HeadRepository    *Repository // nil when it was deleted
	Referenced        []ReferencedWorkflow
}

// Repository is a repository's identifiers.
type Repository struct {
	ID       int64
	FullName string
	Owner    string
	OwnerID  int64
	Private  bool
	Fork     bool
}

// ReferencedWorkflow is a reusable workflow that a run calls: owner/repository/path@ref.
type ReferencedWorkflow struct {
	Path string
	SHA  string
	Ref  string
}

var repositoryName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,99}/[A-Za-z0-9._-]{1,100}$`)

// ValidRepository reports whether s has the form owner/repository in GitHub's alphabet.
func ValidRepository(s string) bool {
	return repositoryName.MatchString(s) && !strings.HasSuffix(s, "/.") && !strings.HasSuffix(s, "/..")
}
