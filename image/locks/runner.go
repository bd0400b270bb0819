// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/internal/strict"
)

// RunnerSchema is the value of a runner lock's schema field.
const RunnerSchema = "kettle.runner/v1"

// maxRunner bounds what [ParseRunner] reads, in bytes.
const maxRunner = 8 << 10

// Runner pins one release of GitHub's runner program, as its release page names it.
type Runner struct {
	Released string       `json:"released"` // the day of the release, as 2026-08-17
	Schema   string       `json:"schema"`
	SHA256   image.SHA256 `json:"sha256"` // of the archive
	Size     int64        `json:"size"`   // of the archive, in bytes
	URL      string       `json:"url"`    // https, of a gzipped tar archive
	Version  string       `json:"version"`
}

var runnerVersion = regexp.MustCompile(`^[0-9]{1,4}\.[0-9]{1,6}\.[0-9]{1,6}$`)

// ParseRunner reads a runner lock. Unknown and repeated fields are errors.
func ParseRunner(data []byte) (*Runner, error) {
	if len(data) > maxRunner {
		return nil, fmt.Errorf("reading the runner lock: %d bytes, at most %d are allowed", len(data), maxRunner)
	}
	var r Runner
	if err := strict.Decode(data, &r); err != nil {
		return nil, fmt.Errorf("reading the runner lock: %w", err)
	}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("reading the runner lock: %w", err)
	}
	return &r, nil
}

// Validate reports every fault of the lock, joined.
func (r *Runner) Validate() error {
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(r.Schema == RunnerSchema, "schema: want %q, got %.40q", RunnerSchema, r.Schema)
	check(runnerVersion.MatchString(r.Version), "version: want one as 2.336.0, got %.40q", r.Version)
	_, err := time.Parse(time.DateOnly, r.Released)
	check(err == nil, "released: want a day as 2026-08-17, got %.40q", r.Released)
	check(r.SHA256 != image.SHA256{}, "sha256: absent")
	check(r.Size > 0 && r.Size <= maxSize, "size: want 1 to %d bytes, got %d", maxSize, r.Size)
	address, err := url.Parse(r.URL)
	check(err == nil && address.Scheme == "https" && address.Host != "" && address.User == nil, "url: want an https address, got %.100q", r.URL)
	return errors.Join(faults...)
}

// Release is the file that tells kettled which version it runs: {"version":"2.336.0","released":"2026-08-17"} and a newline.
func (r *Runner) Release() ([]byte, error) {
	var b bytes.Buffer
	err := json.NewEncoder(&b).Encode(struct {
		Version  string `json:"version"`
		Released string `json:"released"`
	}{r.Version, r.Released})
	return b.Bytes(), err
}
