// SPDX-License-Identifier: Apache-2.0

package fakesigstore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/protobuf/encoding/protojson"
)

// Paths that [Instance.Handler] serves. PathFulcio and PathRekor follow a base URL, PathTimestamp is part of the URL itself.
const (
	PathFulcio    = "/api/v2/signingCert"
	PathRekor     = "/api/v2/log/entries"
	PathTimestamp = "/api/v1/timestamp"
	PathRoot      = "/trusted_root.json"
)

const (
	maxBody  = 1 << 20
	audience = "sigstore"
	kind     = "kettle-fakesigstore" // the id of the key of tokens
)

// Token makes an identity token for Fulcio, valid for ten minutes, as GitHub would give it to the job.
func (i *Instance) Token(id Identity) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.oidc, KeyID: kind}}, nil)
	if err != nil {
		return "", fmt.Errorf("making signer: %w", err)
	}
	now := i.cfg.Now()
	times := jwt.Claims{
		Audience: jwt.Audience{audience}, IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(lifetime)),
	}
	token, err := jwt.Signed(signer).Claims(id).Claims(times).Serialize()
	if err != nil {
		return "", fmt.Errorf("signing token: %w", err)
	}
	return token, nil
}

// Handler serves Fulcio's API v2, Rekor's API v2, the timestamp authority and the trusted root, each under its own path.
func (i *Instance) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+PathFulcio, serve(i.signingCert))
	mux.HandleFunc("POST "+PathRekor, serve(i.addEntry))
	mux.HandleFunc("POST "+PathTimestamp, serve(i.addStamp))
	mux.HandleFunc("GET "+PathRoot, serve(func(*http.Request, []byte) (answer, error) {
		return answer{http.StatusOK, "application/json", i.TrustedRoot()}, nil
	}))
	return mux
}

// answer is what a request gets.
type answer struct {
	status int
	kind   string
	body   []byte
}

// errDenied marks a request by somebody who is not who he says he is.
var errDenied = errors.New("denied")

func serve(do func(*http.Request, []byte) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		var a answer
		if err == nil {
			a, err = do(r, body)
		}
		switch {
		case errors.Is(err, errDenied):
			http.Error(w, err.Error(), http.StatusUnauthorized)
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		default:
			w.Header().Set("Content-Type", a.kind)
			w.WriteHeader(a.status)
			_, _ = w.Write(a.body) // a client that is gone needs no answer
		}
	}
}

// signingCert certifies a key for whom the token names, if the request proves that its sender holds the key.
func (i *Instance) signingCert(r *http.Request, body []byte) (answer, error) {
	var request struct {
		Credentials struct {
			Token string `json:"oidcIdentityToken"`
		} `json:"credentials"`
		PublicKeyRequest struct {
			PublicKey struct {
				Content string `json:"content"`
			} `json:"publicKey"`
			Proof []byte `json:"proofOfPossession"`
		} `json:"publicKeyRequest"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return answer{}, fmt.Errorf("reading request: %w", err)
	}
	token := request.Credentials.Token
	if bearer, ok := bytes.CutPrefix([]byte(r.Header.Get("Authorization")), []byte("Bearer ")); ok {
		token = string(bearer)
	}
	id, err := i.identify(token)
	if err != nil {
		return answer{}, fmt.Errorf("%w: %w", errDenied, err)
	}
	block, _ := pem.Decode([]byte(request.PublicKeyRequest.PublicKey.Content))
	if block == nil {
		return answer{}, errors.New("no public key")
	}
	key, err := publicKey(block.Bytes)
	if err != nil {
		return answer{}, err
	}
	if sum := sha256.Sum256([]byte(id.Subject)); !ecdsa.VerifyASN1(key, sum[:], request.PublicKeyRequest.Proof) {
		return answer{}, errors.New("the proof of possession does not verify")
	}
	leaf, err := i.certify(key, Options{Identity: id})
	if err != nil {
		return answer{}, err
	}
	var reply struct {
		Embedded struct {
			Chain struct {
				Certificates []string `json:"certificates"`
			} `json:"chain"`
		} `json:"signedCertificateEmbeddedSct"`
	}
	for _, c := range append([]*x509.Certificate{leaf}, i.fulcio.chain()...) {
		reply.Embedded.Chain.Certificates = append(reply.Embedded.Chain.Certificates, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
	}
	text, err := json.Marshal(reply)
	if err != nil {
		return answer{}, fmt.Errorf("encoding certificate: %w", err)
	}
	return answer{http.StatusOK, "application/json", text}, nil
}

// identify checks a token by the keys of its issuer, or by the instance's own.
func (i *Instance) identify(raw string) (Identity, error) {
	token, err := jwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
	if err != nil {
		return Identity{}, fmt.Errorf("reading token: %w", err)
	}
	var id Identity
	if err := token.UnsafeClaimsWithoutVerification(&id); err != nil {
		return Identity{}, fmt.Errorf("reading token: %w", err)
	}
	keys, known := i.cfg.Issuers[id.Issuer]
	if !known {
		keys = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.oidc.Public(), KeyID: kind, Algorithm: string(jose.ES256), Use: "sig"}}}
	}
	id = Identity{}
	var times jwt.Claims
	if err := token.Claims(keys, &id, &times); err != nil {
		return Identity{}, fmt.Errorf("checking token: %w", err)
	}
	if err := times.ValidateWithLeeway(jwt.Expected{AnyAudience: jwt.Audience{audience}, Time: i.cfg.Now()}, time.Second); err != nil {
		return Identity{}, fmt.Errorf("checking token: %w", err)
	}
	if times.Expiry == nil || id.Subject == "" || id.JobWorkflowRef == "" {
		return Identity{}, errors.New("checking token: it is not one of a job")
	}
	return id, nil
}

// addEntry logs a signature that verifies.
func (i *Instance) addEntry(_ *http.Request, body []byte) (answer, error) {
	if i.cfg.WithoutLog {
		return answer{}, errors.New("this instance has no log")
	}
	var request struct {
		HashedRekord struct {
			Digest    []byte         `json:"digest"`
			Signature rekorSignature `json:"signature"`
		} `json:"hashedRekordRequestV002"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return answer{}, fmt.Errorf("reading request: %w", err)
	}
	r := request.HashedRekord
	key, err := r.Signature.Verifier.key()
	if err != nil {
		return answer{}, err
	}
	if r.Signature.Verifier.KeyDetails != keyDetails || len(r.Digest) != sha256.Size || !ecdsa.VerifyASN1(key, r.Digest, r.Signature.Content) {
		return answer{}, errors.New("the signature does not verify")
	}
	entry, err := i.log.add(r.Digest, r.Signature)
	if err != nil {
		return answer{}, err
	}
	text, err := protojson.Marshal(entry)
	if err != nil {
		return answer{}, fmt.Errorf("encoding entry: %w", err)
	}
	return answer{http.StatusCreated, "application/json", text}, nil
}

func (v rekorVerifier) key() (*ecdsa.PublicKey, error) {
	switch {
	case v.X509Certificate != nil && v.PublicKey == nil:
		c, err := x509.ParseCertificate(v.X509Certificate.RawBytes)
		if err != nil {
			return nil, fmt.Errorf("reading certificate: %w", err)
		}
		return publicKey(c.RawSubjectPublicKeyInfo)
	case v.PublicKey != nil && v.X509Certificate == nil:
		return publicKey(v.PublicKey.RawBytes)
	default:
		return nil, errors.New("want a certificate or a key")
	}
}

func publicKey(spki []byte) (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("want an ECDSA key")
	}
	return key, nil
}

func (i *Instance) addStamp(_ *http.Request, body []byte) (answer, error) {
	if i.cfg.WithoutTSA {
		return answer{}, errors.New("this instance has no timestamp authority")
	}
	request, err := timestamp.ParseRequest(body)
	if err != nil {
		return answer{}, fmt.Errorf("reading request: %w", err)
	}
	stamp, err := i.stamp(request, time.Time{})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, "application/timestamp-reply", stamp}, nil
}
