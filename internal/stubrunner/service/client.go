// SPDX-License-Identifier: Apache-2.0

// Package service speaks the HTTP protocols between a runner and GitHub's services: token endpoint, broker, run
// service, results service and the service that resolves actions.
//
// Guarantees: the real runner's paths, bodies and headers; the system's trust store, Go's proxies; limits on what is
// read back. Trusts: the URLs it is given (they come from the runner's configuration and the job message). Does not:
// retry, except one token renewal after 401.
package service

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"time"
)

// Version is the runner version this program stands in for.
const Version = "2.336.0"

const (
	maxBody    = 64 << 20
	maxExcerpt = 200
)

// OS and Arch are the names GitHub uses in the protocol.
const OS = "Linux"

// Arch returns GitHub's name of the processor architecture.
func Arch() string {
	switch runtime.GOARCH {
	case "arm64":
		return "ARM64"
	case "arm":
		return "ARM"
	case "386":
		return "X86"
	default:
		return "X64"
	}
}

// UserAgent is what every request says it comes from.
func UserAgent() string {
	return "GitHubActionsRunner-linux-" + strings.ToLower(Arch()) + "/" + Version
}

// NewHTTP returns the client that every part of the runner shares.
func NewHTTP() *http.Client { return &http.Client{Timeout: 100 * time.Second} }

// StatusError is an answer that is not a success.
type StatusError struct {
	// Request is the method and path.
	Request string
	// Code is the HTTP status.
	Code int
	// Body is the answer's text, whole up to the limit of this package.
	Body []byte
}

// Error implements error.
func (e *StatusError) Error() string {
	text := string(e.Body)
	if len(text) > maxExcerpt {
		text = text[:maxExcerpt] + "[truncated]"
	}
	return fmt.Sprintf("%s answered %d: %s", e.Request, e.Code, text)
}

// fault is the body of the services' own errors.
type fault struct {
	Source  string `json:"source"`
	Kind    string `json:"errorKind"`
	Code    int    `json:"statusCode"`
	Message string `json:"errorMessage"`
}

// fault reads the answer as an error of the named service; anything else is the zero fault.
func (e *StatusError) fault(source string) fault {
	var f fault
	if json.Unmarshal(e.Body, &f) != nil || f.Source != source {
		return fault{}
	}
	return f
}

// call is one request with a JSON body and answer.
type call struct {
	method string
	url    string
	query  url.Values
	bearer string
	in     any // nil: no body
	out    any // nil: the answer is dropped; *[]byte: the answer as it is
}

func roundTrip(ctx context.Context, client *http.Client, c call) error {
	var body io.Reader
	if c.in != nil {
		data, err := json.Marshal(c.in)
		if err != nil {
			return fmt.Errorf("encoding request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, c.url, body)
	if err != nil {
		return fmt.Errorf("making request: %w", err)
	}
	if len(c.query) > 0 {
		req.URL.RawQuery = c.query.Encode()
	}
	req.Header.Set("User-Agent", UserAgent())
	req.Header.Set("Accept", "application/json")
	if c.in != nil {
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	return exchange(client, req, c.out)
}

func exchange(client *http.Client, req *http.Request, out any) error {
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("calling service: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("reading answer: %w", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return &StatusError{Request: req.Method + " " + req.URL.Path, Code: resp.StatusCode, Body: data}
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = data
		return nil
	}
	if out == nil || len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("reading answer of %s %s: %w", req.Method, req.URL.Path, err)
	}
	return nil
}

// at resolves a path against a base URL as the real runner does: relative to the base's last slash.
func at(base, path string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", fmt.Errorf("reading service url: %w", err)
	}
	ref, err := url.Parse(path)
	if err != nil {
		return "", fmt.Errorf("reading service path: %w", err)
	}
	return u.ResolveReference(ref).String(), nil
}
