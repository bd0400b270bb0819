// SPDX-License-Identifier: Apache-2.0

// Package tpm talks to a TPM 2.0: it reads and writes NV indexes, extends and reads PCRs of the SHA-256 bank, quotes
// them with an attestation key and answers a credential challenge.
//
// It guarantees that the register values of a [Quote] hash to the digest that the TPM signed, and that an extension had
// the effect it must have. It tells "there is no such TPM, index or key" ([fault.ErrUnsupported], [ErrAbsent]) from
// "the TPM failed" ([fault.ErrBroken]). It verifies no signature and trusts no key: which attestation key counts, the
// verifier decides from what vouches for it.
//
// It trusts the path to the TPM: commands are neither encrypted nor audited, because whoever holds a confidential VM's
// virtual TPM (the paravisor, or the host) is at the other end of that path anyway.
//
// Sources: TCG "Trusted Platform Module Library" family 2.0 revision 01.59; "EK Credential Profile for TPM Family 2.0"
// version 2.5 (EK).
package tpm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"

	"github.com/kettle/attest/attest/collect/fault"
)

// Device is the TPM behind the kernel's resource manager.
const Device = "/dev/tpmrm0"

// ErrAbsent is matched by errors that say that an index or a key is not there.
var ErrAbsent = errors.New("not in this TPM")

// DigestSize is the size of a PCR of the SHA-256 bank in bytes.
const DigestSize = sha256.Size

const (
	pcrCount  = 24
	pcrsAtAsk = 8 // what every TPM gives in one answer
)

// TPM is an open TPM. It is not safe for concurrent use. A command that has been sent is waited for, however long the
// TPM takes; a context that ended keeps the next one from being sent.
type TPM struct{ t transport.TPMCloser }

// Open opens a TPM device. One that does not exist is a [fault.UnsupportedError] of the platform named.
func Open(platform, path string) (*TPM, error) {
	t, err := linuxtpm.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &fault.UnsupportedError{Platform: platform, Need: "a TPM 2.0 (" + path + ")"}
	}
	if err != nil {
		return nil, fault.Broken("opening the TPM", err)
	}
	return New(t), nil
}

// New makes a TPM of a transport. The TPM closes it.
func New(t transport.TPMCloser) *TPM { return &TPM{t} }

// Close closes the transport.
func (t *TPM) Close() error {
	if err := t.t.Close(); err != nil {
		return fmt.Errorf("closing the TPM: %w", err)
	}
	return nil
}

// command is a TPM command with its answer.
type command[A any] interface {
	Execute(t transport.TPM, s ...tpm2.Session) (A, error)
}

// run sends one command.
func run[A any](ctx context.Context, t *TPM, c command[A]) (A, error) {
	if err := ctx.Err(); err != nil {
		var none A
		return none, context.Cause(ctx)
	}
	return c.Execute(t.t)
}

// broken wraps what a TPM did wrong; the end of a context is no fault of the TPM.
func broken(ctx context.Context, doing string, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, cause) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return fault.Broken(doing, err)
}

// Extend extends a PCR of the SHA-256 bank and reads back that it holds what the extension must give, SHA-256 of the
// old value and the digest. It returns the new value. An extension by somebody else in between is [fault.ErrBroken].
func (t *TPM) Extend(ctx context.Context, pcr int, digest [DigestSize]byte) ([DigestSize]byte, error) {
	doing := fmt.Sprintf("extending PCR %d", pcr)
	old, err := t.PCRs(ctx, []int{pcr})
	if err != nil {
		return [DigestSize]byte{}, err
	}
	_, err = run(ctx, t, tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)}, //nolint:gosec // Checked by PCRs.
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}},
	})
	if err != nil {
		return [DigestSize]byte{}, broken(ctx, doing, err)
	}
	got, err := t.PCRs(ctx, []int{pcr})
	if err != nil {
		return [DigestSize]byte{}, err
	}
	if want := sha256.Sum256(append(slices.Clone(old[0][:]), digest[:]...)); got[0] != want {
		return [DigestSize]byte{}, fault.Broken(doing, fmt.Errorf("it was %x and is %x after extending by %x, want %x", old[0], got[0], digest, want))
	}
	return got[0], nil
}

// PCRs reads registers of the SHA-256 bank, in ascending order without repetition. The values of one call need not be
// of one moment; those of a [Quote] are.
func (t *TPM) PCRs(ctx context.Context, pcrs []int) ([][DigestSize]byte, error) {
	if err := checkSelection(pcrs); err != nil {
		return nil, err
	}
	var values [][DigestSize]byte
	for part := range slices.Chunk(pcrs, pcrsAtAsk) {
		answer, err := run(ctx, t, tpm2.PCRRead{PCRSelectionIn: selection(part)})
		if err != nil {
			return nil, broken(ctx, "reading PCRs", err)
		}
		if len(answer.PCRValues.Digests) != len(part) {
			return nil, fault.Broken("reading PCRs", fmt.Errorf("%d values for %d registers of the SHA-256 bank; is the bank active?", len(answer.PCRValues.Digests), len(part)))
		}
		for _, d := range answer.PCRValues.Digests {
			if len(d.Buffer) != DigestSize {
				return nil, fault.Broken("reading PCRs", fmt.Errorf("a value of %d bytes", len(d.Buffer)))
			}
			values = append(values, [DigestSize]byte(d.Buffer))
		}
	}
	return values, nil
}

func checkSelection(pcrs []int) error {
	for i, p := range pcrs {
		if p < 0 || p >= pcrCount || i > 0 && p <= pcrs[i-1] {
			return fmt.Errorf("selecting PCRs: want registers 0 to %d in ascending order, got %v", pcrCount-1, pcrs)
		}
	}
	if len(pcrs) == 0 {
		return errors.New("selecting PCRs: a quote over no register proves nothing")
	}
	return nil
}

func selection(pcrs []int) tpm2.TPMLPCRSelection {
	bits := make([]byte, pcrCount/8)
	for _, p := range pcrs {
		bits[p/8] |= 1 << (p % 8)
	}
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: bits}}}
}
