// SPDX-License-Identifier: Apache-2.0

// Package door is the socket between the sandbox and kettled.
//
// The sandbox sees one unix socket. It can say that the job has started, ask to have files attested, and ask for the
// state: never "sign this digest". A frame is a big-endian u32 length followed by that many bytes of JSON, at most
// [MaxFrame]; a connection carries one request and one reply. Both directions are decoded strictly: unknown keys,
// duplicate keys and data after the value are refused.
//
// Guarantees: the server hands a request to its handler only after the peer check of its owner said yes of a process that
// still was there afterwards, so that its id was nobody else's; one request at a time, at a bounded pace; a peer that
// stalls is cut off; the handler's context ends when the peer goes away before its reply. The owner learns of every
// request that was not understood or not answered. A refusal crosses the door unchanged in its five fields. It does not
// keep a job from denying the door to its own steps: what they cannot ask for is not attested.
//
// Trusts: the kernel's SO_PEERCRED and SO_PEERPIDFD, and nothing that the peer says. What arrives in [Started] and [Attest] are claims.
// It does not know what the claims mean, opens no files and holds no key. It imports only the standard library,
// attest/refusal and internal/secret.
package door

import (
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/internal/secret"
)

// SocketPath is where the door stands inside the sandbox.
const SocketPath = "/run/kettle/door.sock"

// Version is the version of the messages.
const Version = 1

// Limits of one request.
const (
	MaxFrame    = 64 << 10 // bytes of JSON in a frame
	MaxPaths    = 1024     // entries of Attest.Paths
	MaxPathLen  = 4096     // bytes of one path, PATH_MAX of Linux
	maxClaimLen = 1024     // bytes of one claim
	maxNameLen  = 1024     // bytes of a subject's name
	maxURLLen   = 4096     // bytes of the ID token request URL
	maxToken    = 16 << 10 // bytes of the ID token request token
)

// Claims are GITHUB_* and RUNNER_* variables as the started hook saw them, before the job's first step: what the runner
// set, in part from text of the workflow's author. Only the names in [ClaimNames] are carried.
type Claims map[string]string

// ClaimNames returns the names a request may carry: the values of the started hook's environment (actions/runner
// GitHubContext.cs and RunnerContext.cs) that package job reads or holds against GitHub's answers. Nothing secret is
// among them.
func ClaimNames() []string {
	return []string{
		"GITHUB_ACTOR_ID", "GITHUB_EVENT_NAME", "GITHUB_JOB", "GITHUB_REF", "GITHUB_REPOSITORY", "GITHUB_REPOSITORY_ID",
		"GITHUB_REPOSITORY_OWNER_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_RUN_ID", "GITHUB_SERVER_URL", "GITHUB_SHA",
		"GITHUB_WORKFLOW_REF", "GITHUB_WORKFLOW_SHA", "GITHUB_WORKSPACE", "RUNNER_NAME",
	}
}

// IDToken is how to ask GitHub for the job's identity token: ACTIONS_ID_TOKEN_REQUEST_URL and _TOKEN.
type IDToken struct {
	URL   string
	Token secret.String
}

// Started says that the runner's started hook runs: no code of the job has run yet.
type Started struct {
	Claims  Claims
	IDToken *IDToken // nil when the job has no "id-token: write"
}

// Attest asks kettled to hash files of the sandbox and to attest them. It carries paths and names only. Paths may be
// doublestar patterns; a relative path is relative to Workspace. Checksums and ArtifactsList are paths of files which
// name what is to be hashed; Digest is what kettled must find when it hashes Name.
type Attest struct {
	Workspace     string   `json:"workspace"`
	Paths         []string `json:"paths,omitempty"`
	Name          string   `json:"name,omitempty"`
	Checksums     string   `json:"checksums,omitempty"`
	Digest        string   `json:"digest,omitempty"`
	ArtifactsList string   `json:"artifactsList,omitempty"`
}

// Subject is one attested file: its name in the statement and its digest as lower-case hex of SHA-256.
type Subject struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
}

// Attested says what kettled made. Dir, Bundle, Statement and Checksums are paths inside the sandbox. Subjects may be
// cut to what fits into a frame; SubjectCount is the true number and the file Checksums has all of them.
type Attested struct {
	Sequence       int       `json:"sequence"`
	Dir            string    `json:"dir"`
	Bundle         string    `json:"bundle"`
	Statement      string    `json:"statement"`
	Checksums      string    `json:"checksums"`
	Subjects       []Subject `json:"subjects"`
	SubjectCount   int       `json:"subjectCount"`
	Platform       string    `json:"platform"`
	BuilderID      string    `json:"builderId"`
	BuildID        string    `json:"buildId"`
	Level          string    `json:"level"`
	Identity       string    `json:"identity"`
	IdentitySource string    `json:"identitySource"`
	Measurement    string    `json:"measurement,omitempty"`
	EnvironmentKey string    `json:"environmentKey,omitempty"`
	StatementKey   string    `json:"statementKey,omitempty"`
}

// Status is the state of the environment.
type Status struct {
	Phase     string `json:"phase"`
	Platform  string `json:"platform,omitempty"`
	Runner    string `json:"runner,omitempty"`
	BuildID   string `json:"buildId,omitempty"`
	Workspace string `json:"workspace,omitempty"` // of the job, as the sandbox calls it
	Responses int    `json:"responses"`
}

// check refuses a claim that is not in the allow-list or has no business in one line of text.
func (c Claims) check() error {
	allowed := make(map[string]struct{})
	for _, n := range ClaimNames() {
		allowed[n] = struct{}{}
	}
	for name, value := range c {
		if _, ok := allowed[name]; !ok {
			return malformed("claims named "+strings.Join(ClaimNames()[:3], ", ")+" and so on", fmt.Sprintf("%.64q", name))
		}
		if err := text("claim "+name, value, maxClaimLen); err != nil {
			return err
		}
	}
	return nil
}

func (s Started) check() error {
	if len(s.Claims) == 0 {
		return malformed("the claims of the started hook", "none")
	}
	if err := s.Claims.check(); err != nil {
		return err
	}
	return s.IDToken.check()
}

// tokenChars are those of a bearer token (RFC 6750, section 2.1).
const tokenChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/="

func (t *IDToken) check() error {
	switch {
	case t == nil:
		return nil
	case t.URL == "" || t.Token.Empty():
		return malformed("idToken with url and token", "one of them empty")
	case strings.Trim(t.Token.Reveal(), tokenChars) != "":
		return malformed("idToken.token of the characters of a bearer token", "others")
	case len(t.Token.Reveal()) > maxToken:
		return malformed(fmt.Sprintf("idToken.token of at most %d bytes", maxToken), "a longer one")
	}
	return text("idToken.url", t.URL, maxURLLen)
}

// carried is what of s the door can carry. What it cannot is dropped, not refused: a workflow's author chooses some of
// these texts, and must not be able to keep the hook from knocking. kettled refuses where it misses something.
func (s Started) carried() Started {
	c := Started{Claims: Claims{}}
	for _, name := range ClaimNames() {
		if value, ok := s.Claims[name]; ok && text(name, value, maxClaimLen) == nil {
			c.Claims[name] = value
		}
	}
	if s.IDToken.check() == nil {
		c.IDToken = s.IDToken
	}
	return c
}

func (a Attest) check() error {
	if !path.IsAbs(a.Workspace) {
		return malformed("workspace as an absolute path", fmt.Sprintf("%.64q", a.Workspace))
	}
	if len(a.Paths) > MaxPaths {
		return malformed(fmt.Sprintf("at most %d paths", MaxPaths), fmt.Sprint(len(a.Paths)))
	}
	if len(a.Paths) == 0 && a.Checksums == "" && a.Digest == "" && a.ArtifactsList == "" {
		return &refusal.Refusal{
			Link: link, Code: refusal.Missing, Want: "one of paths, checksums, digest or artifactsList", Got: "none of them",
			Next: "name what to attest with subject-path.",
		}
	}
	for i, p := range a.Paths {
		if err := filled(fmt.Sprintf("paths[%d]", i), p); err != nil {
			return err
		}
	}
	fields := map[string]string{
		"workspace": a.Workspace, "checksums": a.Checksums, "digest": a.Digest, "artifactsList": a.ArtifactsList,
	}
	for name, value := range fields {
		if err := text(name, value, MaxPathLen); err != nil {
			return err
		}
	}
	return text("name", a.Name, maxNameLen)
}

func filled(what, value string) error {
	if value == "" {
		return malformed(what+" with a path in it", "an empty string")
	}
	return text(what, value, MaxPathLen)
}

// text accepts valid UTF-8 without control characters: a newline in a name would forge lines in checksum files and logs.
func text(what, value string, limit int) error {
	switch {
	case len(value) > limit:
		return malformed(fmt.Sprintf("%s of at most %d bytes", what, limit), fmt.Sprintf("%d bytes", len(value)))
	case !utf8.ValidString(value):
		return malformed(what+" in UTF-8", "other bytes")
	case strings.ContainsFunc(value, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		return malformed(what+" without control characters", fmt.Sprintf("%.64q", value))
	}
	return nil
}

const link = "door"

func malformed(want, got string) *refusal.Refusal {
	return &refusal.Refusal{
		Link: link, Code: refusal.Malformed, Want: want, Got: got,
		Next: "send the request with the kettle-action of this image.",
	}
}
