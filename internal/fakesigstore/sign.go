// SPDX-License-Identifier: Apache-2.0

package fakesigstore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/digitorus/timestamp"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
)

const (
	mediaType  = "application/vnd.dev.sigstore.bundle.v0.3+json"
	inToto     = "application/vnd.in-toto+json"
	keyDetails = "PKIX_ECDSA_P256_SHA_256"
)

// Options say who signs and what the bundle lacks or has otherwise. Only Identity is required.
type Options struct {
	Identity    Identity
	PayloadType string // the in-toto type if empty

	WithoutSCT       bool
	WithoutLog       bool
	WithoutTimestamp bool

	LoggedBy  *Instance               // whose log takes the signature; the instance's own if nil
	StampedBy *Instance               // whose authority makes the timestamp; the instance's own if nil
	Stamped   time.Time               // what that authority's clock says; the instance's clock if zero
	Template  func(*x509.Certificate) // changes the certificate before it is issued
}

// Sign makes one line: a bundle v0.3 over the payload by a new key that the instance certifies for the identity, with
// all that the instance has but for what the options leave out.
func (i *Instance) Sign(payload []byte, o Options) ([]byte, error) {
	if o.PayloadType == "" {
		o.PayloadType = inToto
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	leaf, err := i.certify(key.Public(), o)
	if err != nil {
		return nil, err
	}
	// The pre-authentication encoding of DSSE, protocol version 1.
	sum := sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(o.PayloadType), o.PayloadType, len(payload), payload))
	sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	material := &protobundle.VerificationMaterial{
		Content: &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: leaf.Raw}},
	}
	log, tsa := o.LoggedBy, o.StampedBy
	if log == nil {
		log = i
	}
	if tsa == nil {
		tsa = i
	}
	if !log.cfg.WithoutLog && !o.WithoutLog {
		verifier := rekorVerifier{KeyDetails: keyDetails, X509Certificate: &rawBytes{leaf.Raw}}
		entry, err := log.log.add(sum[:], rekorSignature{Content: sig, Verifier: verifier})
		if err != nil {
			return nil, err
		}
		material.TlogEntries = []*protorekor.TransparencyLogEntry{entry}
	}
	if !tsa.cfg.WithoutTSA && !o.WithoutTimestamp {
		digest := sha256.Sum256(sig)
		stamp, err := tsa.stamp(&timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: digest[:]}, o.Stamped)
		if err != nil {
			return nil, err
		}
		material.TimestampVerificationData = &protobundle.TimestampVerificationData{
			Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamp}},
		}
	}
	return oneLine(&protobundle.Bundle{
		MediaType: mediaType, VerificationMaterial: material,
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: payload, PayloadType: o.PayloadType, Signatures: []*protodsse.Signature{{Sig: sig}},
		}},
	})
}

// stamp answers a request for a timestamp, as of a time or of now.
func (i *Instance) stamp(r *timestamp.Request, at time.Time) ([]byte, error) {
	if at.IsZero() {
		at = i.cfg.Now()
	}
	t := timestamp.Timestamp{
		HashAlgorithm: r.HashAlgorithm, HashedMessage: r.HashedMessage, Time: at, Nonce: r.Nonce,
		Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}, AddTSACertificate: r.Certificates, ExtraExtensions: r.Extensions,
	}
	b, err := t.CreateResponseWithOpts(i.tsa.signer, i.tsa.key, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("making timestamp: %w", err)
	}
	return b, nil
}
