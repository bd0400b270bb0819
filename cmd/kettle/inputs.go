// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/kettle/attest/attest"
	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/token"
	"github.com/kettle/attest/cmd/internal/cli"
)

const bundleSuffix = ".intoto.jsonl"

// readBounded reads a regular file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("reading %s: it has more than %s", path, cli.Bytes(limit))
	}
	return b, nil
}

// openRegular opens a file that is neither a directory nor a device nor a pipe, which would make the reader wait.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err // it names operation and path
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading %s: it is not a regular file", path)
	}
	return os.Open(path) //nolint:gosec // the program opens the files that it is told to open.
}

// loadPolicy reads the policy; everything wrong with it is a fault of configuration.
func loadPolicy(path string) (*policy.Policy, error) {
	b, err := readBounded(path, policy.MaxFile)
	if err != nil {
		return nil, &cli.UsageError{Err: err}
	}
	p, err := policy.Parse(b)
	if err != nil {
		return nil, cli.Usagef("%s: %w", path, err)
	}
	return p, nil
}

// loadRoots gives the vendors' pinned roots and the private ones.
func loadRoots(paths []string) (appraise.Roots, error) {
	private := make([][]byte, len(paths))
	for i, p := range paths {
		var err error
		if private[i], err = readBounded(p, 64<<10); err != nil {
			return appraise.Roots{}, &cli.UsageError{Err: err}
		}
	}
	roots, err := attest.Roots(private...)
	if err != nil {
		return appraise.Roots{}, cli.Usagef("--root: %w", err)
	}
	return roots, nil
}

// trusted is what --trusted-root names. What is not given is nil: whatever needs it is refused then.
type trusted struct {
	github   *token.Trust
	sigstore *bundle.Trust
}

// loadTrusted reads trust files, each of the kind that its content says.
func loadTrusted(paths []string) (t trusted, err error) {
	for _, path := range paths {
		b, err := readBounded(path, max(token.MaxTrust, bundle.MaxTrust))
		if err != nil {
			return trusted{}, &cli.UsageError{Err: err}
		}
		switch ours := isKettleTrust(b); {
		case ours && t.github != nil || !ours && t.sigstore != nil:
			return trusted{}, cli.Usagef("%s: a second file of its kind; --trusted-root takes one of each", path)
		case ours:
			t.github, err = token.ParseTrust(b)
		default:
			t.sigstore, err = bundle.ParseTrust(b)
		}
		if err != nil {
			return trusted{}, cli.Usagef("%s: %w", path, err)
		}
	}
	return t, nil
}

// isKettleTrust tells Kettle's own trust file by its schema. What it is otherwise, its own reader says.
func isKettleTrust(b []byte) bool {
	var head struct {
		Schema string `json:"schema"`
	}
	return json.Unmarshal(b, &head) == nil && head.Schema != ""
}

// loadSigstore reads a Sigstore trusted root. The flag for it and the flag for GitHub's keys have one name in all commands,
// as both are roots that somebody trusts; each file says what it is.
func loadSigstore(path string) (*bundle.Trust, error) {
	b, err := readBounded(path, bundle.MaxTrust)
	if err != nil {
		return nil, &cli.UsageError{Err: err}
	}
	if isKettleTrust(b) {
		return nil, cli.Usagef("%s: it holds the keys of GitHub's tokens; give the trusted_root.json of the Sigstore instance that signed", path)
	}
	t, err := bundle.ParseTrust(b)
	if err != nil {
		return nil, cli.Usagef("%s: %w", path, err)
	}
	return t, nil
}

// loadBundles reads the bundle files that were named, or the one beside the artifact.
func loadBundles(paths []string, artifact string) ([]*bundle.File, error) {
	beside := len(paths) == 0
	if beside {
		paths = []string{artifact + bundleSuffix}
	}
	var files []*bundle.File
	for _, p := range paths {
		f, err := openRegular(p)
		if beside && errors.Is(err, fs.ErrNotExist) {
			return nil, &refusal.Refusal{
				Link: "bundle", Code: refusal.Missing, Want: "the bundle file " + p, Got: "no such file",
				Next: "download it beside the artifact, or name it with --bundle", Cause: err,
			}
		}
		if err != nil {
			return nil, err
		}
		one, err := bundle.ReadFile(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", p, err)
		}
		files = append(files, one)
	}
	return files, nil
}

// hashFile gives the SHA-256 of a file, in constant memory. It stops when the context ends.
func hashFile(ctx context.Context, path string, progress *cli.Progress) (binding.Digest, error) {
	f, err := openRegular(path)
	if err != nil {
		return binding.Digest{}, err
	}
	defer f.Close()
	h, buf, done := sha256.New(), make([]byte, 1<<20), int64(0)
	for {
		if err := ctx.Err(); err != nil {
			return binding.Digest{}, fmt.Errorf("hashing %s: %w", path, err)
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		done += int64(n)
		if errors.Is(err, io.EOF) {
			return binding.Digest(h.Sum(nil)), nil
		}
		if err != nil {
			return binding.Digest{}, fmt.Errorf("hashing %s: %w", path, err)
		}
		progress.Say("hashing %s, %s", path, cli.Bytes(done))
	}
}
