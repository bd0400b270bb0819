// SPDX-License-Identifier: Apache-2.0

// Package sink keeps the record of an environment after its machine is gone: in a directory, or behind an HTTPS server
// that takes PUT.
//
// Records are create-only: the same content may be put again, other content under a name that exists is refused. The
// package guarantees that Put returns nil only when the whole file is stored. It trusts the directory's file system, or
// the server's certificate and its answer. What it stores is public: statements, evidence, and the journal.
package sink

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/runner"
)

// ErrConflict is returned when other content exists under the name.
var ErrConflict = errors.New("a file of this name with other content exists in the record")

// names is what a file of a record may be called.
var names = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)

// Open makes the sink of a URL: file:///directory or https://host/path. roots, when not nil, replaces the system's
// certificate roots.
func Open(rawURL string, roots *x509.CertPool) (runner.Sink, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("parsing sink URL: %w", err)
	}
	plain := u.User == nil && u.RawQuery == "" && !u.ForceQuery && u.Fragment == "" && u.Opaque == ""
	switch {
	case plain && u.Scheme == "file" && u.Host == "" && filepath.IsAbs(u.Path) && filepath.Clean(u.Path) == u.Path:
		return Directory(u.Path), nil
	case plain && u.Scheme == "https" && u.Hostname() != "":
		return newHTTP(u, roots), nil
	}
	return nil, fmt.Errorf("sink URL %q is neither file:///directory nor https://host/path", rawURL)
}

// Directory is a sink in the file system.
type Directory string

var _ runner.Sink = Directory("")

// Put implements [runner.Sink].
func (d Directory) Put(_ context.Context, environment binding.Digest, name string, data []byte) error {
	if !names.MatchString(name) {
		return fmt.Errorf("record file name %q is not allowed", name)
	}
	dir := filepath.Join(string(d), environment.String())
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("making record directory: %w", err)
	}
	tmp, err := os.CreateTemp(dir, ".incoming-*")
	if err != nil {
		return fmt.Errorf("creating record file: %w", err)
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // it is gone after a link, and useless otherwise.
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("writing record file: %w", err)
	}
	target := filepath.Join(dir, name)
	err = os.Link(tmp.Name(), target) // never overwrites
	if errors.Is(err, os.ErrExist) {
		have, readErr := os.ReadFile(target) //nolint:gosec // the name was checked above.
		if readErr == nil && bytes.Equal(have, data) {
			return nil
		}
		return fmt.Errorf("%s: %w", name, errors.Join(ErrConflict, readErr))
	}
	if err != nil {
		return fmt.Errorf("storing record file: %w", err)
	}
	return nil
}
