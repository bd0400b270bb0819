// SPDX-License-Identifier: Apache-2.0

package nitro

import (
	"bytes"
	"crypto/x509"
	"math"
	"time"
)

// PCRSize is the size of a register's value: SHA-384.
const PCRSize = registerSize

// The names of the platforms, see [Document.Platform].
const (
	PlatformEnclave = "nitro-enclave"
	PlatformTPM     = "nitro-tpm"
	PlatformSim     = "sim"
)

// Document is a verified attestation document. Only [Verify] makes one.
type Document struct {
	fields

	root     Root
	signer   *x509.Certificate
	verified bool
}

// Platform is "nitro-enclave" or "nitro-tpm" under AWS's pinned root and "sim" under a private root, whatever the
// document itself says.
func (d *Document) Platform() string {
	switch {
	case !d.verified:
		return ""
	case !d.root.aws:
		return PlatformSim
	case d.tpm:
		return PlatformTPM
	}
	return PlatformEnclave
}

// Root is the root that the document's certificates lead to.
func (d *Document) Root() Root { return d.root }

// TPM reports whether the registers are those of an instance's NitroTPM. Otherwise they are those of an enclave.
func (d *Document) TPM() bool { return d.tpm }

// ModuleID names the enclave or TPM in AWS's words: instance, then "-enc" or "-tpm" and a number. It is foreign text of
// 1 to 1024 bytes.
func (d *Document) ModuleID() string { return d.moduleID }

// Timestamp is when the Nitro system made the document, to the millisecond.
func (d *Document) Timestamp() time.Time {
	return time.UnixMilli(int64(min(d.timestamp, math.MaxInt64))).UTC()
}

// Validity is when the certificate that signed the document begins and ceases to be valid, about three hours apart.
func (d *Document) Validity() (from, to time.Time) {
	if d.signer == nil {
		return time.Time{}, time.Time{}
	}
	return d.signer.NotBefore, d.signer.NotAfter
}

// Selected gives the registers in the document in ascending order, each from 0 to 31.
func (d *Document) Selected() []int {
	var out []int
	for i := range registers {
		if d.selected&(1<<i) != 0 {
			out = append(out, i)
		}
	}
	return out
}

// PCR gives the value of a register, and false for one that is not in the document.
func (d *Document) PCR(i int) ([PCRSize]byte, bool) {
	if i < 0 || i >= registers || d.selected&(1<<i) == 0 {
		return [PCRSize]byte{}, false
	}
	return d.pcrs[i], true
}

// PublicKey is the 1 to 1024 bytes that were given as a public key, unread, or nil.
func (d *Document) PublicKey() []byte { return bytes.Clone(d.publicKey) }

// UserData is the up to 512 bytes that were given to be signed, or nil. Given but empty, it is not nil.
func (d *Document) UserData() []byte { return bytes.Clone(d.userData) }

// Nonce is the up to 512 bytes that were given against replay, or nil. Given but empty, it is not nil.
func (d *Document) Nonce() []byte { return bytes.Clone(d.nonce) }
