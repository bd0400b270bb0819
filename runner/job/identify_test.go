// SPDX-License-Identifier: Apache-2.0

package job

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/attest/token"
	"github.com/kettle/attest/internal/secret"
	"github.com/kettle/attest/runner"
)

var (
	now       = time.Date(2026, 11, 21, 12, 0, 5, 0, time.UTC)
	sourceSHA = "c27d339ee6075c1f744c5d4b200f7901aad2c369"
	actionSHA = strings.Repeat("08c6", 10)
)

const issuer = "https://token.actions.github.demo.test"

var issuerKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// world is GitHub, the runner's log and the hook, all telling one story until a test changes a part of it.
type world struct {
	jobs     [][]WorkflowJob // one answer a call; the last one stays
	calls    int
	run      *Run
	shas     map[string]string
	apiErr   error
	log      []byte
	claims   map[string]any // of the token
	fetched  string         // the audience that was asked for
	fetchErr error
	jwks     []byte // nil means the right ones
	question runner.Question
	target   string

	containers bool // the profile starts containers
}

func newWorld(t testing.TB) *world {
	t.Helper()
	repo := Repository{ID: 1296269, FullName: "acme/widget", Owner: "acme", OwnerID: 583231}
	m := goldenMessage(t)
	w := &world{
		jobs: [][]WorkflowJob{{
			{ID: 41000000002, RunID: 7000000001, RunAttempt: 1, Status: "in_progress", HeadSHA: sourceSHA, RunnerID: 9, RunnerName: "other"},
			{ID: 41000000001, RunID: 7000000001, RunAttempt: 1, Status: "in_progress", HeadSHA: sourceSHA, RunnerID: 42, RunnerName: "host-1-2", Labels: []string{"attested-cvm"}},
		}},
		run: &Run{
			ID: 7000000001, Attempt: 1, HeadBranch: "main", HeadSHA: sourceSHA, Path: ".github/workflows/build.yml", Event: "workflow_dispatch",
			Actor: "operator", ActorID: 1001, Repository: repo, HeadRepository: &repo,
		},
		shas: map[string]string{"actions/checkout@v4": actionSHA, "kettle/attest@v1": actionSHA},
		log:  readLog(t), target: "acme",
		question: runner.Question{
			Runner: runner.Registration{ID: 42, Name: "host-1-2"}, EnvironmentKey: binding.Digest{1}, Nonce: binding.Digest{2},
			Claims: runner.Claims{
				Values: map[string]string{
					"GITHUB_REPOSITORY": "acme/widget", "GITHUB_RUN_ID": "7000000001", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_JOB": "build",
					"GITHUB_REF": "refs/heads/main", "GITHUB_SHA": sourceSHA, "GITHUB_EVENT_NAME": "workflow_dispatch",
					"GITHUB_WORKSPACE": "/home/runner/actions-runner/_work/widget/widget", "RUNNER_NAME": "host-1-2", "RUNNER_OS": "Linux",
				},
				IDTokenURL: m.IDTokenURL, IDTokenRequest: secret.New("bearer"),
			},
		},
	}
	w.claims = map[string]any{
		"iss": issuer, "aud": token.Audience(w.question.EnvironmentKey, w.question.Nonce), "exp": now.Add(5 * time.Minute).Unix(), "iat": now.Unix(), "nbf": now.Unix() - 300,
		"repository": "acme/widget", "repository_id": "1296269", "repository_owner_id": "583231", "run_id": "7000000001", "run_attempt": "1",
		"check_run_id": 41000000001, "runner_environment": "self-hosted", "ref": "refs/heads/main", "sha": sourceSHA,
		"event_name": "workflow_dispatch", "actor_id": "1001", "workflow_ref": "acme/widget/.github/workflows/build.yml@refs/heads/main",
		"job_workflow_ref": "acme/ci/.github/workflows/reuse.yml@refs/tags/v1", "job_workflow_sha": actionSHA,
	}
	return w
}

func (w *world) Jobs(_ context.Context, repo string, run, attempt int64) ([]WorkflowJob, error) {
	if w.apiErr != nil || repo != "acme/widget" || run != 7000000001 || attempt != 1 {
		return nil, errors.Join(w.apiErr, errors.New("jobs"))
	}
	jobs := w.jobs[min(w.calls, len(w.jobs)-1)]
	w.calls++
	return jobs, nil
}

func (w *world) Run(context.Context, string, int64) (*Run, error) { return w.run, nil }

func (w *world) ResolveRef(_ context.Context, repo, ref string) (string, error) {
	if sha, ok := w.shas[repo+"@"+ref]; ok {
		return sha, nil
	}
	return "", errors.New("not found")
}

func (w *world) Fetch(_ context.Context, _ string, bearer secret.String, audience string) (string, error) {
	if bearer.Reveal() != "bearer" {
		return "", errors.New("bearer")
	}
	w.fetched = audience
	payload, err := json.Marshal(w.claims)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: issuerKey()}, (&jose.SignerOptions{}).WithHeader("kid", "k1"))
	if err != nil {
		return "", err
	}
	sig, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	jwt, err := sig.CompactSerialize()
	return jwt, errors.Join(err, w.fetchErr)
}

func (w *world) Keys(context.Context) ([]byte, error) {
	if w.jwks != nil {
		return w.jwks, nil
	}
	return json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: issuerKey().Public(), KeyID: "k1", Algorithm: "RS256"}}})
}

func (w *world) identifier(t *testing.T) *Identifier {
	t.Helper()
	i, err := New(Config{
		Server: "https://github.demo.test/", Target: w.target, Issuer: issuer, API: w, Tokens: w, Now: func() time.Time { return now },
		Containers: w.containers, Poll: time.Millisecond, Wait: time.Second,
		OpenLog: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(w.log)), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (w *world) edit(old, replacement string) {
	if !bytes.Contains(w.log, []byte(old)) {
		panic("nothing to edit: " + old)
	}
	w.log = bytes.ReplaceAll(w.log, []byte(old), []byte(replacement))
}

// withoutToken makes a job that has no "id-token: write".
func (w *world) withoutToken() {
	w.edit(`"GenerateIdTokenUrl": "`+w.question.Claims.IDTokenURL+`"`, `"GenerateIdTokenUrl": ""`)
	w.question.Claims.IDTokenURL, w.question.Claims.IDTokenRequest = "", secret.String{}
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	queued := []WorkflowJob{{ID: 41000000001, RunID: 7000000001, RunAttempt: 1, Status: "queued"}}
	w.jobs = append([][]WorkflowJob{nil, queued}, w.jobs...)
	got, err := w.identifier(t).Identify(t.Context(), w.question)
	if err != nil {
		t.Fatal(err)
	}
	github, measured := statement.FromGitHub, statement.FromMeasured
	want := statement.Facts{
		Server: "https://github.demo.test", Repository: "acme/widget", RepositoryID: "1296269", RepositoryOwnerID: "583231",
		RunID: "7000000001", RunAttempt: "1", JobID: "41000000001", Job: "build", WorkflowPath: ".github/workflows/build.yml",
		Ref: "refs/heads/main", SHA: sourceSHA, Event: "workflow_dispatch", RunnerID: "42", RunnerName: "host-1-2",
		JobWorkflowRef: "acme/ci/.github/workflows/reuse.yml@refs/tags/v1", JobWorkflowSHA: actionSHA, ActorID: "1001",
		IdentitySource: statement.IdentityToken, JobMessage: goldenMessage(t).Digest,
		Origins: map[string]statement.Origin{
			"server": measured, "job": measured, "jobMessage": measured, "repository": github, "repositoryId": github,
			"repositoryOwnerId": github, "runId": github, "runAttempt": github, "jobId": github, "workflowPath": github,
			"event": github, "runnerId": github, "runnerName": github, "actorId": github, "ref": github,
			"sha": github, "jobWorkflowRef": github, "jobWorkflowSha": github,
		},
	}
	if d := cmp.Diff(want, got.Facts); d != "" {
		t.Error(d)
	}
	if got.Facts.BuildID() != "https://github.demo.test/acme/widget/actions/runs/7000000001/attempts/1/job/41000000001" {
		t.Error(got.Facts.BuildID())
	}
	sum := sha256.Sum256(append(w.question.EnvironmentKey[:], w.question.Nonce[:]...))
	if w.fetched != binding.Digest(sum).String() || strings.Count(got.Token, ".") != 2 {
		t.Errorf("audience %s, token %.20s", w.fetched, got.Token)
	}
	checkParameters(t, got)
}

func checkParameters(t *testing.T, got *runner.Job) {
	t.Helper()
	event := statement.SHA256(binding.Sum(goldenMessage(t).Event))
	want := statement.ExternalParameters{
		Workflow: statement.Workflow{Ref: "refs/heads/main", Repository: "https://github.demo.test/acme/widget", Path: ".github/workflows/build.yml"},
		Job:      "build", Event: "workflow_dispatch", Inputs: map[string]any{"attest": true, "channel": "stable"},
		Vars: map[string]string{"MASCOT": "mona"}, RunsOn: []string{"attested-cvm"}, Payload: &statement.EventPayload{Digest: event},
		SecretsOf: []string{"DEPLOY_KEY", "github_token"},
	}
	if d := cmp.Diff(want, got.External); d != "" {
		t.Error(d)
	}
	var uris []string
	for _, dep := range got.Dependencies {
		uris = append(uris, dep.URI+dep.Name+" "+dep.Digest["gitCommit"])
	}
	wantURIs := []string{
		"git+https://github.demo.test/acme/widget@refs/heads/main " + sourceSHA,
		"git+https://github.demo.test/actions/checkout@v4 " + actionSHA,
		"git+https://github.demo.test/kettle/attest@v1 " + actionSHA,
		"job-message ",
	}
	if d := cmp.Diff(wantURIs, uris); d != "" {
		t.Error(d)
	}
	if len(got.Steps) != 4 || got.Steps[0].Uses != "actions/checkout@v4" || got.Steps[1].Run == "" || got.Steps[1].Script != nil {
		t.Errorf("steps %+v", got.Steps)
	}
	if got.Workspace != "/home/runner/actions-runner/_work/widget/widget" {
		t.Errorf("workspace %s", got.Workspace)
	}
	for name, o := range got.Origins {
		if !o.Valid() {
			t.Errorf("origin of %s: %q", name, o)
		}
	}
}

func TestIdentifyWithoutToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.withoutToken()
	got, err := w.identifier(t).Identify(t.Context(), w.question)
	if err != nil {
		t.Fatal(err)
	}
	f := got.Facts
	if f.IdentitySource != statement.IdentityJobsAPI || got.Token != "" || f.JobWorkflowRef != "" ||
		f.Origins["ref"] != statement.FromMeasured || f.Origins["sha"] != statement.FromGitHub {
		t.Errorf("got %+v", f)
	}
}

func TestReusableWorkflowsAndNeeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run.Referenced = []ReferencedWorkflow{{Path: "acme/ci/.github/workflows/reuse.yml@v1", SHA: actionSHA, Ref: "refs/tags/v1"}}
	w.edit(`"needs": {
      "t": 2
    }`, `"needs": {"t":2,"d":[{"k":"lint","v":{"t":2,"d":[{"k":"result","v":"success"}]}}]}`)
	w.edit(`"ref": "v4"`, `"ref": "`+actionSHA+`"`)
	got, err := w.identifier(t).Identify(t.Context(), w.question)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, d := range got.Dependencies {
		kinds[d.Annotations["kettle_kind"]+" "+d.Name+d.URI] = d.Annotations["kettle_origin"]
	}
	want := map[string]string{
		"source git+https://github.demo.test/acme/widget@refs/heads/main":                                           "github",
		"reusable-workflow acme/ci/.github/workflows/reuse.yml@v1git+https://github.demo.test/acme/ci@refs/tags/v1": "github",
		"action git+https://github.demo.test/actions/checkout@" + actionSHA:                                         "measured",
		"action git+https://github.demo.test/kettle/attest@v1":                                                      "github",
		"job-message job-message": "measured",
		"needs needs":             "measured",
	}
	if d := cmp.Diff(want, kinds); d != "" {
		t.Error(d)
	}
}

// TestAttackStory changes one thing in the story each, of a job with and without a signed token: nothing of it may end in a
// job.
func TestAttackStory(t *testing.T) {
	t.Parallel()
	claim := func(name, value string) func(*world) {
		return func(w *world) { w.question.Claims.Values[name] = value }
	}
	tok := func(name string, value any) func(*world) {
		return func(w *world) { maps.Copy(w.claims, map[string]any{name: value}) }
	}
	for name, tc := range map[string]struct {
		change func(*world)
		want   error
	}{
		"no repository":             {claim("GITHUB_REPOSITORY", ""), refusal.ErrMalformed},
		"repository that climbs":    {claim("GITHUB_REPOSITORY", "acme/.."), refusal.ErrMalformed},
		"repository elsewhere":      {claim("GITHUB_REPOSITORY", "evil/widget"), refusal.ErrIdentity},
		"other target":              {func(w *world) { w.target = "acme/gadget" }, refusal.ErrIdentity},
		"run is no number":          {claim("GITHUB_RUN_ID", "7e9"), refusal.ErrMalformed},
		"run with a sign":           {claim("GITHUB_RUN_ID", "+7000000001"), refusal.ErrMalformed},
		"no attempt":                {claim("GITHUB_RUN_ATTEMPT", ""), refusal.ErrMalformed},
		"attempt zero":              {claim("GITHUB_RUN_ATTEMPT", "0"), refusal.ErrMalformed},
		"other job key":             {claim("GITHUB_JOB", "test"), refusal.ErrIdentity},
		"other ref":                 {claim("GITHUB_REF", "refs/tags/v1"), refusal.ErrIdentity},
		"other commit":              {claim("GITHUB_SHA", actionSHA), refusal.ErrIdentity},
		"other event":               {claim("GITHUB_EVENT_NAME", "push"), refusal.ErrIdentity},
		"other runner":              {claim("RUNNER_NAME", "x"), refusal.ErrIdentity},
		"relative workspace":        {claim("GITHUB_WORKSPACE", "w"), refusal.ErrMalformed},
		"workspace that climbs":     {claim("GITHUB_WORKSPACE", "/w/../etc"), refusal.ErrMalformed},
		"job never shown":           {func(w *world) { w.jobs = [][]WorkflowJob{nil} }, refusal.ErrIdentity},
		"runner id of another":      {func(w *world) { w.jobs[0][1].RunnerID = 43 }, refusal.ErrIdentity},
		"runner name of another":    {func(w *world) { w.jobs[0][1].RunnerName = "x" }, refusal.ErrIdentity},
		"runner without id":         {func(w *world) { w.jobs[0][1].RunnerID = 0 }, refusal.ErrIdentity},
		"two jobs on our runner":    {func(w *world) { w.jobs[0][0].RunnerID, w.jobs[0][0].RunnerName = 42, "host-1-2" }, refusal.ErrIdentity},
		"job completed":             {func(w *world) { w.jobs[0][1].Status = "completed" }, refusal.ErrIdentity},
		"job stays queued":          {func(w *world) { w.jobs[0][1].Status = "queued" }, refusal.ErrIdentity},
		"job of another run":        {func(w *world) { w.jobs[0][1].RunID = 7 }, refusal.ErrIdentity},
		"job of another attempt":    {func(w *world) { w.jobs[0][1].RunAttempt = 2 }, refusal.ErrIdentity},
		"job with another commit":   {func(w *world) { w.jobs[0][1].HeadSHA = actionSHA }, refusal.ErrIdentity},
		"other job in the message":  {func(w *world) { w.edit("41000000001", "41000000002") }, refusal.ErrIdentity},
		"run of another id":         {func(w *world) { w.run.ID = 7 }, refusal.ErrIdentity},
		"run was re-run":            {func(w *world) { w.run.Attempt = 2 }, refusal.ErrIdentity},
		"run of another repo":       {func(w *world) { w.run.Repository.FullName = "acme/gadget" }, refusal.ErrIdentity},
		"run without repo id":       {func(w *world) { w.run.Repository.ID = 0 }, refusal.ErrIdentity},
		"run without owner id":      {func(w *world) { w.run.Repository.OwnerID = 0 }, refusal.ErrIdentity},
		"run of another event":      {func(w *world) { w.run.Event = "push" }, refusal.ErrIdentity},
		"run without path":          {func(w *world) { w.run.Path = "" }, refusal.ErrMissing},
		"run of another workflow":   {func(w *world) { w.run.Path = ".github/workflows/x.yml" }, refusal.ErrMissing},
		"message of another repo":   {func(w *world) { w.edit(`"v": "acme/widget"`, `"v": "acme/gadget"`) }, refusal.ErrIdentity},
		"message of another run":    {func(w *world) { w.edit(`"v": "7000000001"`, `"v": "7"`) }, refusal.ErrIdentity},
		"message of another server": {func(w *world) { w.edit(`"v": "https://github.demo.test"`, `"v": "https://evil.test"`) }, refusal.ErrIdentity},
		"message without job key":   {func(w *world) { w.edit("system.github.job", "x"); delete(w.question.Claims.Values, "GITHUB_JOB") }, refusal.ErrMissing},
		"no log":                    {func(w *world) { w.log = nil }, refusal.ErrMissing},
		"cut log":                   {func(w *world) { w.log = w.log[:4000] }, refusal.ErrMalformed},
		"debugger":                  {func(w *world) { w.edit(`"messageType"`, `"enableDebugger": true, "messageType"`) }, refusal.ErrDebug},
		"container":                 {func(w *world) { w.edit(`"jobContainer": null`, `"jobContainer": "alpine"`) }, refusal.ErrPolicy},
		"service": {func(w *world) {
			w.edit(`"jobServiceContainers": null`, `"jobServiceContainers": {"type":2,"map":[{"Key":"a","Value":"b"}]}`)
		}, refusal.ErrPolicy},
		"deployment environment": {func(w *world) { w.edit(`"actionsEnvironment": null`, `"actionsEnvironment": {"name":"prod"}`) }, refusal.ErrPolicy},
		"token withheld":         {func(w *world) { w.question.Claims.IDTokenURL = "" }, refusal.ErrIdentity},
		"token URL elsewhere":    {func(w *world) { w.question.Claims.IDTokenURL = "https://evil.test/" }, refusal.ErrIdentity},
		"token URL not offered": {func(w *world) {
			url := w.question.Claims.IDTokenURL
			w.withoutToken()
			w.question.Claims.IDTokenURL = url
		}, refusal.ErrIdentity},
		"token, other audience":    {tok("aud", "sigstore"), refusal.ErrBinding},
		"token of another run":     {tok("run_id", "7"), refusal.ErrIdentity},
		"token of another attempt": {tok("run_attempt", "2"), refusal.ErrIdentity},
		"token of another job":     {tok("check_run_id", "41000000002"), refusal.ErrIdentity},
		"token of another repo":    {tok("repository_id", "2"), refusal.ErrIdentity},
		"token of another commit":  {tok("sha", actionSHA), refusal.ErrIdentity},
		"token of another ref":     {tok("ref", "refs/heads/x"), refusal.ErrIdentity},
		"token of another event":   {tok("event_name", "push"), refusal.ErrIdentity},
		"token of another actor":   {tok("actor_id", "7"), refusal.ErrIdentity},
		"token of another file":    {tok("workflow_ref", "acme/widget/.github/workflows/x.yml@refs/heads/main"), refusal.ErrIdentity},
		"token without workflow":   {tok("job_workflow_ref", ""), refusal.ErrMissing},
		"token without its commit": {tok("job_workflow_sha", "main"), refusal.ErrMissing},
		"token, other key":         {func(w *world) { w.jwks = otherKeys("k1") }, refusal.ErrSignature},
		"token, unknown key":       {func(w *world) { w.jwks = otherKeys("k2") }, refusal.ErrChain},
		"token, two audiences":     {tok("aud", []string{token.Audience(binding.Digest{1}, binding.Digest{2}), "x"}), refusal.ErrBinding},
		"token, other key's aud":   {tok("aud", token.Audience(binding.Digest{9}, binding.Digest{2})), refusal.ErrBinding},
		"token, other nonce's aud": {tok("aud", token.Audience(binding.Digest{1}, binding.Digest{9})), refusal.ErrBinding},
		"token, other issuer":      {tok("iss", "https://evil.test"), refusal.ErrIdentity},
		"token, github-hosted":     {tok("runner_environment", "github-hosted"), refusal.ErrIdentity},
		"token expired":            {tok("exp", now.Add(-4*time.Minute).Unix()), refusal.ErrExpired},
		"action not found":         {func(w *world) { delete(w.shas, "kettle/attest@v1") }, refusal.ErrMissing},
		"action is no commit":      {func(w *world) { w.shas["kettle/attest@v1"] = "main" }, refusal.ErrMalformed},
		"image by tag":             {func(w *world) { w.edit(`"type": "script"`, `"type": "containerRegistry", "image": "alpine:3"`) }, refusal.ErrPolicy},
	} {
		for what, signed := range map[string]bool{"": true, ", unsigned": false} {
			if !signed && strings.HasPrefix(name, "token") {
				continue
			}
			t.Run(name+what, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				if !signed {
					w.withoutToken()
				}
				tc.change(w)
				got, err := w.identifier(t).Identify(t.Context(), w.question)
				if !errors.Is(err, tc.want) || got != nil {
					t.Fatalf("got %v, want %v", err, tc.want)
				}
			})
		}
	}
}

// otherKeys is the key set of someone else.
func otherKeys(id string) []byte {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	raw, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: k.Public(), KeyID: id, Algorithm: "RS256"}}})
	if err != nil {
		panic(err)
	}
	return raw
}

// TestErrorsAreNotRefusals: what GitHub did not answer is no verdict.
func TestErrorsAreNotRefusals(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, change := range map[string]func(*world){
		"api": func(w *world) { w.apiErr = boom }, "token": func(w *world) { w.fetchErr = boom },
	} {
		w := newWorld(t)
		change(w)
		_, err := w.identifier(t).Identify(t.Context(), w.question)
		if !errors.Is(err, boom) || errors.Is(err, refusal.ErrNotVerified) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := newWorld(t)
	w.jobs = [][]WorkflowJob{nil}
	if _, err := w.identifier(t).Identify(ctx, w.question); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
