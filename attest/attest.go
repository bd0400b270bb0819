// SPDX-License-Identifier: Apache-2.0

// Package attest verifies the whole chain from an artifact to a CPU vendor's root:
//
//	artifact ← provenance ← statement key ← hardware quote ← root
//	                              ↑ measurement ← policy
//	                              ↑ DISPATCH (the one job) ← BOOT (the environment) ← GitHub's token
//
// [Verify] checks one artifact against one policy, offline, and gives a [Result] only when every link holds. In both
// cases it gives the [Trace], each link in order with what it found. It guarantees that the artifact's digest is a
// subject of provenance that was signed by a key made inside the environment that the policy accepts, for a job that
// the policy accepts, and that all quotes of the build are of one running machine.
//
// It trusts the roots, the time, the policy and the trust file that its caller gives, and nothing in the bundle. It
// does not know whether a certificate was revoked, and takes the measurement from the policy: that the measured image
// is a good one is for the policy's author to know. It does no input or output.
package attest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/bundle"
	"github.com/kettle/attest/attest/policy"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/token"
)

// ErrNotVerified is matched by every refusal.
var ErrNotVerified = refusal.ErrNotVerified

// ErrUnsupported is matched when the evidence is of a kind that this program cannot judge.
var ErrUnsupported = appraise.ErrUnsupported

// ErrIncomplete is matched when a [Request] lacks what verification cannot do without.
var ErrIncomplete = errors.New("incomplete request")

// UnsupportedError says that this program cannot judge a kind of evidence.
type UnsupportedError = appraise.UnsupportedError

// Artifact is what is to be verified: the digest decides, the name is for messages.
type Artifact struct {
	Name   string
	Digest binding.Digest // SHA-256 of the artifact's bytes
}

// Request is everything that a verification looks at. All of it but Trust, Sigstore and At is required.
type Request struct {
	Artifact Artifact
	Files    []*bundle.File // searched as one; order and unknown lines mean nothing
	Policy   *policy.Policy // sections environments and artifacts
	Roots    appraise.Roots // see Roots
	Trust    *token.Trust   // GitHub's keys; required as soon as the identity comes from a token
	Sigstore *bundle.Trust  // the trusted root of whoever signs images; required unless the policy accepts any image
	At       time.Time      // judge certificates and policy at this time; zero means now
}

// Roots gives the pinned roots of AMD and Intel and those of the private root files, see [appraise.Roots.WithPrivate].
// Evidence under a private root is of platform "sim", whatever it says of itself.
func Roots(private ...[]byte) (appraise.Roots, error) {
	roots, err := appraise.Pinned()
	if err != nil {
		return appraise.Roots{}, err
	}
	for _, p := range private {
		if roots, err = roots.WithPrivate(p); err != nil {
			return appraise.Roots{}, err
		}
	}
	return roots, nil
}

// maxCandidates bounds the chains that are tried for one artifact.
const maxCandidates = 64

// Verify checks every link of the chain for one artifact. Errors are refusals (match [ErrNotVerified]), an
// [*UnsupportedError], [ErrIncomplete], or the context's error. Where several bundles name the artifact, one whole
// chain is enough; if none holds, the refusal is that of the chain which held longest.
func Verify(ctx context.Context, req Request) (*Result, Trace, error) {
	given := !req.At.IsZero()
	if !given {
		req.At = time.Now()
	}
	if err := req.complete(); err != nil {
		return nil, newTrace(), err
	}
	idx := newIndex(req.Files)
	candidates, err := idx.candidates(req.Artifact)
	if err != nil {
		trace := newTrace()
		trace.fail(linkArtifact)
		return nil, trace, err
	}
	defer idx.prepare(req.Roots, req.At)()
	var best Trace
	var bestErr error
	for n, cand := range candidates {
		if err := ctx.Err(); err != nil {
			return nil, newTrace(), fmt.Errorf("verifying: %w", err)
		}
		if n == maxCandidates {
			break
		}
		c := &chain{req: req, idx: idx, cand: cand, trace: newTrace()}
		err := c.verify()
		if err == nil {
			return c.result(given), c.trace, nil
		}
		if bestErr == nil || c.trace.held() > best.held() {
			best, bestErr = c.trace, err
		}
	}
	return nil, best, bestErr
}

func (r Request) complete() error {
	var errs []error
	for name, has := range map[string]bool{
		"artifact digest": !r.Artifact.Digest.IsZero(), "bundle": len(r.Files) > 0, "policy": r.Policy != nil,
		"root": !r.Roots.Empty(),
	} {
		if !has {
			errs = append(errs, fmt.Errorf("%w: no %s", ErrIncomplete, name))
		}
	}
	return errors.Join(errs...)
}
