// SPDX-License-Identifier: Apache-2.0

package nitro

import (
	"crypto/ecdsa"
	"errors"
	"time"
)

// Verify checks an attestation document, a COSE_Sign1 in CBOR with tag 18 or without, against the given roots at the
// given time. It says that the Nitro system of AWS (or a private root's simulator) signed it; whether what it describes
// is good enough is for [Document.Meets].
//
// The certificate that signs documents lives for about three hours, so at has to lie within them: it is the proved time
// of the evidence, never [Document.Timestamp], by which whoever holds a key that has expired could choose it.
//
// Every error is a [refusal.Refusal], or several joined. Codes: malformed, chain, signature, expired; missing when the
// caller gave no time.
func Verify(doc []byte, roots []Root, at time.Time) (*Document, error) {
	if at.IsZero() {
		return nil, noTime()
	}
	e, fault := openEnvelope(doc)
	if fault != nil {
		return nil, fault
	}
	f, err := parseFields(e.payload)
	if err != nil {
		return nil, err
	}
	path, root, err := parseChain(f, roots)
	if err != nil {
		return nil, err
	}
	if err := path.check(); err != nil {
		return nil, err
	}
	key, ok := path[len(path)-1].PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, brokenChain("a P-384 key in the certificate", "another")
	}
	if err := errors.Join(e.checkSignature(key), path.validAt(at)); err != nil {
		return nil, err
	}
	return &Document{fields: *f, root: root, signer: path[len(path)-1], verified: true}, nil
}
