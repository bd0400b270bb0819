// SPDX-License-Identifier: Apache-2.0

package fakegithub

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxBody is the most a request may carry, in bytes.
const maxBody = 64 << 20

// apiError is an answer in the form of GitHub's REST API.
type apiError struct {
	status  int
	message string
	url     string // of the documentation; empty: the usual one
}

func (e *apiError) Error() string { return fmt.Sprintf("%d %s", e.status, e.message) }

func notFound() error { return &apiError{status: http.StatusNotFound, message: "Not Found"} }
func badCredentials() error {
	return &apiError{status: http.StatusUnauthorized, message: "Bad credentials"}
}
func unauthenticated() error {
	return &apiError{status: http.StatusUnauthorized, message: "Requires authentication"}
}
func notAccessible() error {
	return &apiError{status: http.StatusForbidden, message: "Resource not accessible by integration"}
}

func unprocessable(format string, args ...any) error {
	return &apiError{status: http.StatusUnprocessableEntity, message: fmt.Sprintf(format, args...)}
}

// call is one REST request in hand.
type call struct {
	s      *Server
	r      *http.Request
	who    *principal // nil when anonymous
	budget *budget    // nil when requests are not counted
	header http.Header
	write  func(http.ResponseWriter) // the answer, written after mu is released
}

// rest makes a handler of a REST function: it authenticates, holds mu while the function runs, and writes the answer or the
// error afterwards.
func (s *Server) rest(h func(*call) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			writeError(w, &apiError{status: http.StatusRequestEntityTooLarge, message: "Request body too large"})
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		c := &call{s: s, r: r, header: w.Header(), write: func(http.ResponseWriter) {}}
		if err := c.run(h); err != nil {
			writeError(w, err)
			return
		}
		c.write(w)
	})
}

func (c *call) run(h func(*call) error) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	var err error
	if c.who, err = c.s.authenticate(c.r); err != nil {
		return err
	}
	if err := c.spend(); err != nil {
		return err
	}
	return h(c)
}

func writeError(w http.ResponseWriter, err error) {
	var known *apiError
	if !errors.As(err, &known) {
		known = &apiError{status: http.StatusInternalServerError, message: err.Error()}
	}
	writeJSON(w, known.status, struct {
		Message string `json:"message"`
		URL     string `json:"documentation_url"`
		Status  string `json:"status"`
	}{known.message, cmp.Or(known.url, "https://docs.github.com/rest"), fmt.Sprint(known.status)})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(raw) // the peer's trouble, if any
}

// reply answers with JSON, or to a GET with 304 when the client has it already. The value is written out while mu is still held.
func (c *call) reply(status int, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if c.r.Method == http.MethodGet && status == http.StatusOK {
		sum := sha256.Sum256(raw)
		tag := `W/"` + hex.EncodeToString(sum[:]) + `"`
		c.header.Set("ETag", tag)
		c.header.Set("Cache-Control", "private, max-age=60, s-maxage=60")
		if known := c.r.Header.Get("If-None-Match"); known != "" && strings.TrimPrefix(known, "W/") == strings.TrimPrefix(tag, "W/") {
			c.refund()
			return c.status(http.StatusNotModified)
		}
	}
	c.write = func(w http.ResponseWriter) { writeJSON(w, status, json.RawMessage(raw)) }
	return nil
}

// status answers without a body.
func (c *call) status(status int) error {
	c.write = func(w http.ResponseWriter) { w.WriteHeader(status) }
	return nil
}

// redirect answers with a temporary redirect.
func (c *call) redirect(url string) error {
	c.header.Set("Location", url)
	return c.status(http.StatusFound)
}

// decode reads the JSON body. Unknown keys are allowed, as GitHub allows them.
func (c *call) decode(into any) error {
	if err := json.NewDecoder(c.r.Body).Decode(into); err != nil {
		return &apiError{status: http.StatusBadRequest, message: "Problems parsing JSON"}
	}
	return nil
}

// number reads a decimal path parameter; anything else names nothing that exists.
func (c *call) number(name string) (int64, error) {
	n, err := strconv.ParseInt(c.r.PathValue(name), 10, 64)
	if err != nil || n < 1 {
		return 0, notFound()
	}
	return n, nil
}
