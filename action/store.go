// SPDX-License-Identifier: Apache-2.0

package action

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/kettle/attest/runner/door"
)

// provenanceType is the predicate type of the statement that GitHub stores.
const provenanceType = "https://slsa.dev/provenance/v1"

// maxBundle bounds a bundle file; GitHub itself takes 16 MiB.
const maxBundle = 16 << 20

// storage is what came of storing the bundle with GitHub: an id, or why not. Both are empty when nobody asked for it.
type storage struct {
	id     string
	reason string
}

// store sends the provenance bundle to GitHub's attestations API with the job's own token: POST
// /repos/{owner}/{repo}/attestations {"bundle":…}. Whatever GitHub answers is shown; the attestation is whole without it.
func (p *Program) store(ctx context.Context, in inputs, r *door.Attested) storage {
	if !in.store {
		return storage{}
	}
	id, err := p.upload(ctx, in, r.Bundle)
	if err != nil {
		s := storage{reason: oneLine(err.Error())}
		w := p.workflow()
		if p.Annotates() {
			w = w.WithFieldsMap(map[string]string{"title": "Not stored with GitHub"})
		}
		w.Warningf("%s", "The attestation is complete, but GitHub does not keep a copy: "+s.reason)
		return s
	}
	p.say("Stored with GitHub as attestation %s", id)
	return storage{id: id}
}

func (p *Program) upload(ctx context.Context, in inputs, bundle string) (string, error) {
	if in.Token.Empty() {
		return "", errors.New("no github-token was given")
	}
	target, err := attestationsURL(in.api, in.repository)
	if err != nil {
		return "", err
	}
	line, err := provenanceLine(bundle)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(map[string]json.RawMessage{"bundle": line})
	if err != nil {
		return "", fmt.Errorf("encoding the bundle: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, uploadTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return "", fmt.Errorf("asking GitHub: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+in.Token.Reveal())
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	req.Header.Set("User-Agent", "kettle-action")
	return p.send(req)
}

// attestationsURL makes the endpoint's URL; the token goes nowhere but to an https URL.
func attestationsURL(api, repository string) (string, error) {
	u, err := url.Parse(api)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return "", fmt.Errorf("GITHUB_API_URL %.128q is no https URL", api)
	}
	owner, repo, ok := strings.Cut(repository, "/")
	if !ok || owner == "" || repo == "" || strings.Contains(repo, "/") || repo == "." || repo == ".." {
		return "", fmt.Errorf("GITHUB_REPOSITORY %.128q is no owner/repository", repository)
	}
	return u.JoinPath("repos", url.PathEscape(owner), url.PathEscape(repo), "attestations").String(), nil
}

var attestationID = regexp.MustCompile(`^[0-9A-Za-z_-]{1,64}$`)

// send makes the request and reads the answer: 201 {"id":…}, which GitHub writes as a number or as a string.
func (p *Program) send(req *http.Request) (string, error) {
	client := p.Client
	if client == nil {
		client = &http.Client{
			Transport:     &http.Transport{TLSHandshakeTimeout: uploadTimeout}, // no proxy: a step may have left one in the environment
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		defer client.CloseIdleConnections()
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking GitHub: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("reading GitHub's answer: %w", err)
	}
	if resp.StatusCode != http.StatusCreated {
		return "", refusedBy(resp, raw)
	}
	var answer struct {
		ID json.RawMessage `json:"id"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return "", errors.New("GitHub took the bundle and answered something that is no JSON")
	}
	id := strings.Trim(string(answer.ID), `"`)
	if !attestationID.MatchString(id) {
		return "", errors.New("GitHub took the bundle and answered without an id")
	}
	return id, nil
}

// refusedBy says what GitHub answered and, where it is known, what to do.
func refusedBy(resp *http.Response, raw []byte) error {
	var answer struct {
		Message string `json:"message"`
	}
	_ = json.Unmarshal(raw, &answer) // an answer without a message has its status
	text := fmt.Sprintf("GitHub answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if answer.Message != "" {
		text += fmt.Sprintf(", %.300q", answer.Message)
	}
	if resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusNotFound {
		text += "; the job needs the permission “attestations: write”"
	}
	if id := resp.Header.Get("X-GitHub-Request-Id"); id != "" {
		text += fmt.Sprintf(" (request %.64s)", id)
	}
	return errors.New(text)
}

// provenanceLine finds the Sigstore bundle with the provenance among the lines of a bundle file.
func provenanceLine(path string) (json.RawMessage, error) {
	f, err := os.Open(path) //nolint:gosec // kettled's own file, named by its reply.
	if err != nil {
		return nil, fmt.Errorf("reading the bundle: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxBundle)
	for lines.Scan() {
		if isProvenance(lines.Bytes()) {
			return bytes.Clone(lines.Bytes()), nil
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the bundle: %w", err)
	}
	return nil, errors.New("the bundle holds no provenance")
}

func isProvenance(line []byte) bool {
	var bundle struct {
		Envelope struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	var statement struct {
		Type string `json:"predicateType"`
	}
	return json.Unmarshal(line, &bundle) == nil && json.Unmarshal(bundle.Envelope.Payload, &statement) == nil &&
		statement.Type == provenanceType
}
