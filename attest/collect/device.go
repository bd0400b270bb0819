// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"errors"
)

// Device is the evidence device of one platform. It is safe for concurrent use; requests take turns.
type Device struct{ source source }

// source is a platform. Its methods are called from any goroutine.
type source interface {
	platform() string
	// quote asks for evidence over report data.
	quote(ctx context.Context, reportData [64]byte) (Quote, error)
	// extend extends the run-time register; an [UnsupportedError] where there is none.
	extend(ctx context.Context, digest [32]byte) error
	// activate answers a challenge; an [UnsupportedError] where there is no TPM whose key needs that.
	activate(ctx context.Context, credential, secret []byte) ([]byte, error)
	close() error
}

// Platform is the name that the device was opened with.
func (d *Device) Platform() string { return d.source.platform() }

// Close closes the device. A request under way ends first, or fails.
func (d *Device) Close() error { return d.source.close() }

// Quote asks for evidence over reportData: the report's own report data on SEV-SNP and TDX, the TPM quote's extra data
// where there is a TPM, and on Azure also the user data in the paravisor's report. It gathers the endorsements too; those
// of one machine are gathered once. Errors are [ErrBroken], [ErrUnsupported] or, for endorsements that could not be
// had, [fetch.ErrUnavailable]. When ctx ends first, the request is left to end by itself.
func (d *Device) Quote(ctx context.Context, reportData [64]byte) (Quote, error) {
	return d.source.quote(ctx, reportData)
}

// Extend extends the run-time register by a SHA-256 digest. The register of a TD takes SHA-384 digests: there it is
// extended by the SHA-384 of the 32 bytes, as if they were an event's data. A platform or kernel without a register is
// an [UnsupportedError], and every quote has a [Note] of it. When ctx ends first, the extension may still happen.
func (d *Device) Extend(ctx context.Context, digest [32]byte) error {
	return d.source.extend(ctx, digest)
}

// Activate answers a verifier's challenge to the TPM's endorsement key (TPM2_ActivateCredential): credential and secret
// are the contents of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET. Only a TPM alone needs that; on other platforms it is
// an [UnsupportedError].
func (d *Device) Activate(ctx context.Context, credential, secret []byte) ([]byte, error) {
	return d.source.activate(ctx, credential, secret)
}

// turns lets one request at a time reach a platform, and a caller that gives up leave: what a kernel or a TPM was asked
// cannot be taken back, only waited for.
type turns struct {
	source source
	turn   chan struct{} // holds one token; whoever has it owns source
}

// inTurns makes a device of a platform that takes one request at a time.
func inTurns(s source, err error) (*Device, error) {
	if err != nil {
		return nil, err
	}
	t := &turns{source: s, turn: make(chan struct{}, 1)}
	t.turn <- struct{}{}
	return &Device{t}, nil
}

var errClosed = errors.New("the evidence device is closed")

func (t *turns) platform() string { return t.source.platform() }

func (t *turns) quote(ctx context.Context, reportData [64]byte) (Quote, error) {
	return inTurn(ctx, t, func() (Quote, error) { return t.source.quote(ctx, reportData) })
}

func (t *turns) extend(ctx context.Context, digest [32]byte) error {
	_, err := inTurn(ctx, t, func() (struct{}, error) { return struct{}{}, t.source.extend(ctx, digest) })
	return err
}

func (t *turns) activate(ctx context.Context, credential, secret []byte) ([]byte, error) {
	return inTurn(ctx, t, func() ([]byte, error) { return t.source.activate(ctx, credential, secret) })
}

// close waits for a request under way, which the kernel bounds, and closes the platform once.
func (t *turns) close() error {
	_, open := <-t.turn
	if !open {
		return nil
	}
	close(t.turn)
	return t.source.close()
}

// inTurn runs a request when its turn comes. The request goes on when the caller leaves.
func inTurn[A any](ctx context.Context, t *turns, request func() (A, error)) (A, error) {
	var none A
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	select {
	case _, open := <-t.turn:
		if !open {
			return none, errClosed
		}
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
	type answer struct {
		a   A
		err error
	}
	done := make(chan answer, 1)
	go func() {
		a, err := request()
		t.turn <- struct{}{}
		done <- answer{a, err}
	}()
	select {
	case got := <-done:
		return got.a, got.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}
