// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"time"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/secret"
)

// Registrar registers one ephemeral runner with GitHub.
type Registrar interface {
	// Register makes a runner of this name and returns what the runner program needs, already checked: hosts pinned,
	// updates disabled, one job only. After an error that matches [ErrTryAgain] another try, under a new name, may succeed;
	// the error may be a [Later] besides.
	Register(ctx context.Context, name string) (Registration, error)
	// Observe tells what GitHub says about the runner.
	Observe(ctx context.Context, r Registration) (Sight, error)
	// Remove deletes the runner. It returns nil only when GitHub, asked again, knows no such runner, and at once an error
	// that matches [ErrBusy] when GitHub says that it runs a job. Without an ID the runner is looked for by its name.
	Remove(ctx context.Context, r Registration) error
}

// Registration is one ephemeral runner.
type Registration struct {
	ID   int64 // 0 when GitHub has not told it
	Name string
	JIT  secret.String // the runner program's configuration; the job can read it
}

// Sight is what GitHub says about a runner.
type Sight string

// What GitHub may say. Anything else is not understood.
const (
	SightOffline Sight = "offline" // registered, and not connected
	SightIdle    Sight = "idle"    // connected, without a job
	SightBusy    Sight = "busy"    // has a job
	SightGone    Sight = "gone"    // not registered
)

// What a [Registrar]'s errors may match.
var (
	// ErrTryAgain means that another try under a new name may succeed.
	ErrTryAgain = errors.New("another try may succeed")
	// ErrBusy means that the runner runs a job, so it cannot be removed.
	ErrBusy = errors.New("the runner runs a job")
	// ErrDenied means that GitHub refuses this credential; trying again does not help.
	ErrDenied = errors.New("GitHub refuses the credential")
	// ErrNotMade means that GitHub's own answer says that it made no runner. No error of tidying up may match it.
	ErrNotMade = errors.New("GitHub made no runner")
)

// Later is an error that says how long to wait before the next try.
type Later interface {
	error
	RetryAfter() time.Duration
}

// Device is the secure processor.
type Device interface {
	// Quote has the 64 bytes signed by the hardware.
	Quote(ctx context.Context, reportData [64]byte) (Quote, error)
	// Extend extends the run-time register. Platforms without one do nothing and return nil.
	Extend(ctx context.Context, digest binding.Digest) error
}

// Quote is what the secure processor gave: evidence with its endorsements and its boot log, which are the same in every
// quote of one machine and travel once.
type Quote struct{ evidence.Evidence }

// Appraiser checks the environment's own quotes against the configured roots. It stops mistakes early; nobody outside
// relies on it.
type Appraiser interface {
	Appraise(q Quote, at time.Time) (Self, error)
}

// Self is what the environment's own quote says about it.
type Self struct {
	Instance    statement.Instance
	Measurement [48]byte
}

// ImageVerifier holds this machine's own quote against what a trusted workflow signed about its image, before any key is
// made. A machine that cannot be shown to run that image gets no environment. It cannot vouch for itself: nobody outside
// relies on it.
type ImageVerifier interface {
	VerifyImage(ctx context.Context, q Quote, at time.Time) (Image, error)
}

// Image is the image that the machine runs from, as it verified it.
type Image struct {
	Files      []statement.Subject // of the image's provenance
	Provenance binding.Digest      // SHA-256 of the provenance payload
	References binding.Digest      // SHA-256 of the payload with the reference values
	Policy     binding.Digest      // SHA-256 of the policy file under which it holds
	Levels     []string            // what holds: levels of SLSA, and properties such as what the time rests on
}

// Admission has somebody outside appraise the environment before anything is entrusted to it.
type Admission interface {
	// Admit takes what the environment is given for the registration of its runner. It returns the signed summary of the
	// appraisal (VSA-ENV, one line) after it found it to be of this environment, signed by whom the measured configuration
	// names.
	Admit(ctx context.Context, e Applicant) ([]byte, error)
}

// Applicant is an environment that asks to be admitted.
type Applicant interface {
	Key() binding.Digest             // the environment's name
	Instance() statement.Instance    // as its own quote names it
	Boot() (signed, evidence []byte) // the BOOT statement and its evidence, a line each
	// Quote signs an admission request with the environment key and has it quoted for this nonce and this HPKE key.
	Quote(ctx context.Context, payload []byte, nonce, hpkeKey binding.Digest) (signed, evidence []byte, err error)
}

// Sandbox is where the runner program and the job run.
type Sandbox interface {
	// Start starts the runner program. The sandbox dies with ctx.
	Start(ctx context.Context, jit secret.String) error
	// Runtime names the container runtime and its version, once it is started.
	Runtime() string
	// Exited yields the runner program's exit code once, when it has ended.
	Exited() <-chan int
	// Freeze returns only when no process of the sandbox can run any more.
	Freeze(ctx context.Context) error
	// Thaw undoes Freeze.
	Thaw(ctx context.Context) error
	// Kill ends every process of the sandbox and returns only when none is left. It may be called in any state.
	Kill(ctx context.Context) error
	// Leftovers are the processes that still ran when the sandbox was killed; nil when there were none.
	Leftovers() *statement.Processes
	// Changes says what the job changed of the image's files, with the list itself. The sandbox is dead.
	Changes(ctx context.Context) (*statement.Disk, []byte, error)
}

// Gate is the only way between sandbox and network. Until [Gate.Dispatched] it passes the pinned hosts alone.
type Gate interface {
	// Dispatched lets through what the measured configuration allows the job, from now on.
	Dispatched()
	// Flows tells what crossed the gate so far and what it refused, in order.
	Flows() []statement.Flow
}

// Claims is what the started hook said. Every value is a claim; the identifier checks them against GitHub.
type Claims struct {
	Values         map[string]string
	IDTokenURL     string
	IDTokenRequest secret.String
}

// Identifier finds out which job this is, at T0, from outside the sandbox.
type Identifier interface {
	Identify(ctx context.Context, q Question) (*Job, error)
	// Conclusion asks GitHub how the job ended. The job's own token can influence the answer.
	Conclusion(ctx context.Context, facts statement.Facts) (string, error)
}

// Question is what the identifier needs to know.
type Question struct {
	Claims         Claims
	Runner         Registration
	EnvironmentKey binding.Digest
	Nonce          binding.Digest // 32 fresh bytes
}

// Job is the one job, frozen at dispatch.
type Job struct {
	Facts        statement.Facts
	Token        string // GitHub's signed token; empty when the job may not ask for one
	External     statement.ExternalParameters
	GitHub       statement.GitHubParameters
	Dependencies []statement.ResourceDescriptor // the source first, then the actions
	Steps        []statement.Step
	Origins      map[string]statement.Origin // of the provenance's parameters
	Workspace    string                      // path inside the sandbox
}

// Policy decides which jobs this environment accepts.
type Policy interface {
	Allow(facts statement.Facts, at time.Time) error
	Digest() binding.Digest
}

// Keeper holds outputs still.
type Keeper interface {
	// Settle has what the job wrote reach its disk, so that holding it takes little time. It is called before a freeze.
	Settle(ctx context.Context) error
	// Hold finds the outputs and holds them. The sandbox stands still.
	Hold(ctx context.Context, o Outputs) (Held, error)
	// HoldDead is Hold for a sandbox that is dead, where nobody waits for the end of it.
	HoldDead(ctx context.Context, o Outputs) (Held, error)
}

// Held are the outputs of one request.
type Held interface {
	// Snapshot reports whether they stay as they are when the sandbox runs again. If not, the sandbox has to stand still
	// until Hash has returned.
	Snapshot() bool
	// Hash computes their digests. An error that matches [ErrOverBudget] means that more time would have helped.
	Hash(ctx context.Context) ([]statement.Subject, error)
	// Release lets go of them.
	Release() error
}

// ErrOverBudget is matched by the refusal of outputs that cannot be hashed while a sandbox stands still.
var ErrOverBudget = errors.New("hashing takes longer than a sandbox may stand still")

// Outputs says which outputs to attest: paths and names, never digests to trust.
type Outputs struct {
	Workspace     string
	Paths         []string
	Name          string
	Checksums     string // path of a checksums file
	Digest        string // must equal what the hasher computes
	ArtifactsList string // path of the runner's list of artifacts
}

// Sink keeps the environment's record after it is gone.
type Sink interface {
	// Put stores one file of the record under the environment's name. It never overwrites other content.
	Put(ctx context.Context, environment binding.Digest, name string, data []byte) error
}

// Logs are what is exported of an environment besides its statements: for operators, and no evidence.
type Logs interface {
	// Pack gives one archive of the runner program's logs, its console, kettled's own words and the journal, without the
	// secrets that are known. The sandbox is dead.
	Pack(ctx context.Context, journal []byte) ([]byte, error)
}

// Alarm is a stable word for what an operator has to look at. docs/operations.md has a page for each.
type Alarm string

// The alarms of an environment, besides those of package runner/program.
const (
	AlarmDenied     Alarm = "credential-denied" // GitHub refuses the credential
	AlarmDeregister Alarm = "deregister-failed" // a runner may be left at GitHub
	AlarmSink       Alarm = "sink-down"         // the record is not delivered whole
	AlarmGitHub     Alarm = "github-down"       // GitHub does not say what it sees
)
