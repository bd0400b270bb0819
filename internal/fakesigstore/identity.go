// SPDX-License-Identifier: Apache-2.0

package fakesigstore

import (
	"crypto/sha1" //nolint:gosec // commits are named by it.
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// GitHubIssuer is the OIDC issuer of GitHub Actions.
const GitHubIssuer = "https://token.actions.githubusercontent.com"

// Identity is what GitHub's token says about a job. Its fields are the token's claims; any may be changed to make
// somebody else: a fork, another branch, another workflow, another issuer.
type Identity struct {
	Issuer            string `json:"iss"`
	Subject           string `json:"sub"`
	Repository        string `json:"repository"` // owner/name
	RepositoryID      string `json:"repository_id"`
	Owner             string `json:"repository_owner"`
	OwnerID           string `json:"repository_owner_id"`
	Visibility        string `json:"repository_visibility"`
	Ref               string `json:"ref"`
	SHA               string `json:"sha"`
	Event             string `json:"event_name"`
	Workflow          string `json:"workflow"`         // its name
	WorkflowRef       string `json:"workflow_ref"`     // the workflow that the run began with: owner/name/path@ref
	WorkflowSHA       string `json:"workflow_sha"`     // its commit
	JobWorkflowRef    string `json:"job_workflow_ref"` // the workflow that holds the job, which signs
	JobWorkflowSHA    string `json:"job_workflow_sha"`
	RunnerEnvironment string `json:"runner_environment"`
	RunID             string `json:"run_id"`
	RunAttempt        string `json:"run_attempt"`
	Environment       string `json:"environment,omitempty"`
}

// GitHub makes the identity of a job of a workflow file (.github/workflows/x.yml) of a repository (owner/name) on a ref
// (refs/heads/main). Numbers and commits follow from the names.
func GitHub(repository, workflow, ref string) Identity {
	owner, _, _ := strings.Cut(repository, "/")
	sum := sha1.Sum([]byte(repository + "@" + ref)) //nolint:gosec // a commit's name.
	sha, file := fmt.Sprintf("%x", sum), repository+"/"+workflow+"@"+ref
	return Identity{
		Issuer: GitHubIssuer, Subject: "repo:" + repository + ":ref:" + ref, Repository: repository, RepositoryID: number(repository),
		Owner: owner, OwnerID: number(owner), Visibility: "public", Ref: ref, SHA: sha, Event: "push", Workflow: "image",
		WorkflowRef: file, WorkflowSHA: sha, JobWorkflowRef: file, JobWorkflowSHA: sha,
		RunnerEnvironment: "github-hosted", RunID: "9001", RunAttempt: "1",
	}
}

// number gives each name a number of its own.
func number(name string) string {
	sum := sha256.Sum256([]byte(name))
	return strconv.FormatUint(uint64(binary.BigEndian.Uint32(sum[:])), 10)
}

// SAN gives the certificate's one name, the signing workflow.
func (id Identity) SAN() string { return github(id.JobWorkflowRef) }

func github(path string) string { return "https://github.com/" + path }

// extensions gives what Fulcio's template for GitHub writes, in its order: 1 to 6 as raw text, the later ones as DER.
func (id Identity) extensions() ([]pkix.Extension, error) {
	raw := []string{id.Issuer, id.Event, id.SHA, id.Workflow, id.Repository, id.Ref}
	encoded := []string{
		8: id.Issuer, 9: id.SAN(), 10: id.JobWorkflowSHA, 11: id.RunnerEnvironment,
		12: github(id.Repository), 13: id.SHA, 14: id.Ref, 15: id.RepositoryID, 16: github(id.Owner), 17: id.OwnerID,
		18: github(id.WorkflowRef), 19: id.WorkflowSHA, 20: id.Event,
		21: github(id.Repository) + "/actions/runs/" + id.RunID + "/attempts/" + id.RunAttempt, 22: id.Visibility,
		23: id.Environment, 24: id.Subject,
	}
	var out []pkix.Extension
	arc := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}
	for n, text := range raw {
		if text != "" {
			out = append(out, pkix.Extension{Id: append(slices.Clone(arc), n+1), Value: []byte(text)})
		}
	}
	for n, text := range encoded {
		if text == "" {
			continue
		}
		value, err := asn1.MarshalWithParams(text, "utf8")
		if err != nil {
			return nil, fmt.Errorf("encoding extension %d: %w", n, err)
		}
		out = append(out, pkix.Extension{Id: append(slices.Clone(arc), n), Value: value})
	}
	return out, nil
}
