// SPDX-License-Identifier: Apache-2.0

// Package fakesigstore is an instance of Sigstore for tests and for the demo: a certificate authority that certifies
// GitHub's identities as Fulcio does, a certificate transparency log, a log of signatures as Rekor v2 is one, and a
// timestamp authority (RFC 3161). What it makes is genuine: bundles v0.3, a trusted root, embedded proofs, signatures;
// only the trusted root tells it from the public instance. [Instance.Sign] makes a bundle at once; [Instance.Handler]
// serves the interfaces of Fulcio, Rekor and the timestamp authority, so that a real client signs against it.
//
// It also makes bundles that lack something, or are made by somebody else or at another time, because its caller asks
// for them ([Options], [Config]): an instance without logs, another workflow, a timestamp years late. It never breaks a
// signature; a test that wants one broken breaks it itself.
//
// It writes certificates, proofs, tree and checkpoints itself and imports nothing of the library that attest/bundle
// verifies with, apart from the message types, so the two check one another. It trusts everybody who can reach it: its
// keys guard nothing. It uses no clock but the one it is given, and it is for tests and the demo only.
package fakesigstore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	prototrustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Config says what an instance has. Now is required; everything else may be left out.
type Config struct {
	Now          func() time.Time              // the clock of all its services
	Organization string                        // in the authorities' names; "kettle" if empty
	Issuers      map[string]jose.JSONWebKeySet // keys of OIDC issuers whose tokens Fulcio takes besides those of [Instance.Token]

	WithoutCT  bool // certificates are not logged, as in GitHub's own instance
	WithoutLog bool // there is no log of signatures, as in GitHub's own instance
	WithoutTSA bool // there is no timestamp authority
}

// Instance is one running instance. It is safe for concurrent use.
type Instance struct {
	cfg    Config
	fulcio authority
	tsa    authority
	ct     *ecdsa.PrivateKey
	oidc   *ecdsa.PrivateKey
	log    *tree
	root   []byte
}

const (
	host     = "rekor.kettle.test" // the log's origin, and the host of its base URL
	lifetime = 10 * time.Minute    // of a leaf, as in the public instance
	before   = 24 * time.Hour      // how long ago the instance was set up
	after    = 20 * 365 * before   // how long its authorities live: attacks on clocks move by years
)

// New sets up an instance with new keys.
func New(cfg Config) (*Instance, error) {
	if cfg.Now == nil {
		return nil, errors.New("making instance: no clock")
	}
	if cfg.Organization == "" {
		cfg.Organization = "kettle"
	}
	i := &Instance{cfg: cfg}
	var errs [5]error
	i.fulcio, errs[0] = newAuthority(cfg, "fulcio", codeSigning)
	i.tsa, errs[1] = newAuthority(cfg, "timestamp", timeStamping)
	i.ct, errs[2] = newKey()
	i.oidc, errs[3] = newKey()
	i.log, errs[4] = newTree(host)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("making instance: %w", err)
	}
	var err error
	if i.root, err = i.trustedRoot(); err != nil {
		return nil, fmt.Errorf("making trusted root: %w", err)
	}
	return i, nil
}

// TrustedRoot gives the instance's trusted_root.json, on one line.
func (i *Instance) TrustedRoot() []byte { return bytes.Clone(i.root) }

func (i *Instance) trustedRoot() ([]byte, error) {
	period := &protocommon.TimeRange{Start: timestamppb.New(i.cfg.Now().Add(-before))}
	authority := func(a authority, uri string) *prototrustroot.CertificateAuthority {
		chain := new(protocommon.X509CertificateChain)
		for _, c := range a.chain() {
			chain.Certificates = append(chain.Certificates, &protocommon.X509Certificate{RawBytes: c.Raw})
		}
		return &prototrustroot.CertificateAuthority{
			Subject:   &protocommon.DistinguishedName{Organization: i.cfg.Organization, CommonName: a.signer.Subject.CommonName},
			Uri:       uri,
			CertChain: chain, ValidFor: period,
		}
	}
	r := &prototrustroot.TrustedRoot{
		MediaType:              "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
		CertificateAuthorities: []*prototrustroot.CertificateAuthority{authority(i.fulcio, "https://fulcio.kettle.test")},
	}
	if !i.cfg.WithoutTSA {
		r.TimestampAuthorities = []*prototrustroot.CertificateAuthority{authority(i.tsa, "https://timestamp.kettle.test/api/v1/timestamp")}
	}
	var errs [2]error
	if !i.cfg.WithoutLog {
		r.Tlogs, errs[0] = transparencyLog(i.log.key, "https://"+host, period)
	}
	if !i.cfg.WithoutCT {
		r.Ctlogs, errs[1] = transparencyLog(i.ct, "https://ct.kettle.test", period)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return oneLine(r)
}

func transparencyLog(key *ecdsa.PrivateKey, uri string, period *protocommon.TimeRange) ([]*prototrustroot.TransparencyLogInstance, error) {
	spki, id, err := keyID(key)
	if err != nil {
		return nil, err
	}
	return []*prototrustroot.TransparencyLogInstance{{
		BaseUrl: uri, HashAlgorithm: protocommon.HashAlgorithm_SHA2_256,
		PublicKey: &protocommon.PublicKey{
			RawBytes: spki, KeyDetails: protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256, ValidFor: period,
		},
		LogId: &protocommon.LogId{KeyId: id[:]},
	}}, nil
}

// keyID gives a key's SubjectPublicKeyInfo and its SHA-256, which names a log (RFC 6962 section 3.2).
func keyID(key *ecdsa.PrivateKey) (spki []byte, id [sha256.Size]byte, err error) {
	if spki, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		return nil, id, fmt.Errorf("encoding key: %w", err)
	}
	return spki, sha256.Sum256(spki), nil
}

func newKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making key: %w", err)
	}
	return key, nil
}

func oneLine(m proto.Message) ([]byte, error) {
	b, err := protojson.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	var line bytes.Buffer // protojson varies its white space on purpose
	if err := json.Compact(&line, b); err != nil {
		return nil, fmt.Errorf("compacting: %w", err)
	}
	return line.Bytes(), nil
}
