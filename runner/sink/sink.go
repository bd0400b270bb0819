// SPDX-License-Identifier: Apache-2.0

// Package sink keeps the record of an environment after its machine is gone: in a directory, or behind an HTTPS server
// that takes PUT.
//
// Records are create-only: the same content may be put again, other content under a name that exists is refused. The
// package guarantees that Put returns nil only when the whole file is stored. It trusts the directory's file system, or
// the server's certificate and its answer. What it stores is public: statements, evidence, the journal, and diagnostics,
// whose secrets others have masked.
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

// names is what a file of a record may be called.
var names = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)

func checkName(name string) error {
	if !names.MatchString(name) {
		return fmt.Errorf("record file name %q is not allowed", name)
	}
	return nil
}

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

// Put implements [runner.Sink]. When it returns nil, the file and its name survive a loss of power.
func (d Directory) Put(ctx context.Context, environment binding.Digest, name string, data []byte) error {
	if err := errors.Join(checkName(name), ctx.Err()); err != nil {
		return err
	}
	dir := filepath.Join(string(d), environment.String())
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return storing("making record directory", err)
	}
	tmp, err := os.CreateTemp(dir, ".incoming-*")
	if err != nil {
		return storing("creating record file", err)
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // it is gone after a link, and useless otherwise.
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return storing("writing record file", err)
	}
	target := filepath.Join(dir, name)
	err = os.Link(tmp.Name(), target) // never overwrites
	if errors.Is(err, os.ErrExist) {
		err = same(target, data)
	} else {
		err = storing("storing record file", err)
	}
	if err != nil {
		return fmt.Errorf("putting %s: %w", name, err)
	}
	return storing("storing record file", errors.Join(syncDir(dir), syncDir(string(d))))
}

// same demands that the file holds exactly data.
func same(file string, data []byte) error {
	info, err := os.Stat(file)
	if err != nil {
		return storing("reading record file", err)
	}
	if info.Size() != int64(len(data)) {
		return ErrConflict
	}
	have, err := os.ReadFile(file) //nolint:gosec // the name was checked by the caller.
	if err != nil {
		return storing("reading record file", err)
	}
	if !bytes.Equal(have, data) {
		return ErrConflict
	}
	return nil
}

// syncDir has the names in a directory reach the disk.
func syncDir(dir string) error {
	f, err := os.Open(dir) //nolint:gosec // the operator's own directory.
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
