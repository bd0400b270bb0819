// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/cmd/internal/cli"
	"github.com/kettle/attest/internal/secret"
)

const (
	server       = "https://github.com" // that Fulcio writes before names in certificates
	maxToken     = 16 << 10
	tokenTimeout = 30 * time.Second
	// sigstoreAudience is whom a token for Fulcio is meant for.
	sigstoreAudience = "sigstore"
)

// claims are what GitHub's identity token says about the job that signs. Fulcio checks the token and writes them into the
// certificate; here they are read to write the same into the provenance.
type claims struct {
	Repository        string `json:"repository"`
	RepositoryID      string `json:"repository_id"`
	OwnerID           string `json:"repository_owner_id"`
	Ref               string `json:"ref"`
	SHA               string `json:"sha"`
	Event             string `json:"event_name"`
	WorkflowRef       string `json:"workflow_ref"`
	JobWorkflowRef    string `json:"job_workflow_ref"`
	JobWorkflowSHA    string `json:"job_workflow_sha"`
	RunnerEnvironment string `json:"runner_environment"`
	RunID             string `json:"run_id"`
	RunAttempt        string `json:"run_attempt"`
}

// identityToken reads the token from a file, or asks GitHub for one where the job may.
func identityToken(ctx context.Context, file string, getenv func(string) string) (secret.String, error) {
	if file != "" {
		b, err := readBounded(file, maxToken)
		if err != nil {
			return secret.String{}, &cli.UsageError{Err: err}
		}
		return secret.New(strings.TrimSpace(string(b))), nil
	}
	at, key := getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), secret.New(getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN"))
	if at == "" || key.Empty() {
		return secret.String{}, cli.Usagef("--identity-token is required outside of a job of GitHub Actions with the permission id-token: write")
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	token, err := askToken(ctx, at, key)
	if err != nil {
		return secret.String{}, &cli.RemoteError{Err: fmt.Errorf("asking GitHub for an identity token: %w", err)}
	}
	return token, nil
}

func askToken(ctx context.Context, at string, key secret.String) (secret.String, error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "https" {
		return secret.String{}, fmt.Errorf("ACTIONS_ID_TOKEN_REQUEST_URL is no https URL")
	}
	q := u.Query()
	q.Set("audience", sigstoreAudience)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return secret.String{}, fmt.Errorf("making request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+key.Reveal())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return secret.String{}, fmt.Errorf("sending request: %w", err)
	}
	defer resp.Body.Close()
	var answer struct {
		Value string `json:"value"`
	}
	if resp.StatusCode != http.StatusOK {
		return secret.String{}, fmt.Errorf("the answer is %s", resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxToken)).Decode(&answer); err != nil || answer.Value == "" {
		return secret.String{}, fmt.Errorf("the answer holds no token")
	}
	return secret.New(answer.Value), nil
}

// readClaims reads the payload of a token, which nobody checked yet.
func readClaims(token secret.String) (claims, error) {
	parts := strings.Split(token.Reveal(), ".")
	if len(parts) != 3 {
		return claims{}, cli.Usagef("the identity token is no JSON Web Token")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims{}, cli.Usagef("the identity token is no JSON Web Token")
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return claims{}, cli.Usagef("the identity token does not hold GitHub's claims: some are not text")
	}
	for name, value := range map[string]string{
		"repository": c.Repository, "repository_id": c.RepositoryID, "repository_owner_id": c.OwnerID, "ref": c.Ref, "sha": c.SHA,
		"event_name": c.Event, "workflow_ref": c.WorkflowRef, "job_workflow_ref": c.JobWorkflowRef, "job_workflow_sha": c.JobWorkflowSHA,
		"runner_environment": c.RunnerEnvironment, "run_id": c.RunID, "run_attempt": c.RunAttempt,
	} {
		if value == "" {
			return claims{}, cli.Usagef("the identity token lacks the claim %s: it is not one of a job of GitHub Actions", name)
		}
	}
	return c, nil
}

// workflow splits the top-level workflow by its known ends: a path may hold an at sign.
func (c claims) workflow() (statement.Workflow, error) {
	path, ok := strings.CutPrefix(c.WorkflowRef, c.Repository+"/")
	path, ok2 := strings.CutSuffix(path, "@"+c.Ref)
	if !ok || !ok2 || path == "" {
		return statement.Workflow{}, fmt.Errorf("reading the identity token: workflow_ref %.200q is not of repository %.100q and ref %.100q", c.WorkflowRef, c.Repository, c.Ref)
	}
	return statement.Workflow{Ref: c.Ref, Repository: server + "/" + c.Repository, Path: path}, nil
}

// signingSource gives the repository and the commit of the signing workflow, if it is not the source itself.
func (c claims) signingSource() (statement.ResourceDescriptor, bool) {
	repository, rest, _ := strings.Cut(c.JobWorkflowRef, "/.github/")
	_, ref, _ := strings.Cut(rest, "@")
	if repository == c.Repository && c.JobWorkflowSHA == c.SHA {
		return statement.ResourceDescriptor{}, false
	}
	return statement.ResourceDescriptor{
		URI: "git+" + server + "/" + repository + "@" + ref, Digest: statement.DigestSet{"gitCommit": c.JobWorkflowSHA},
	}, true
}

// run names the run and its attempt, as Fulcio does.
func (c claims) run() string {
	return fmt.Sprintf("%s/%s/actions/runs/%s/attempts/%s", server, c.Repository, c.RunID, c.RunAttempt)
}
