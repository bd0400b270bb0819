// SPDX-License-Identifier: Apache-2.0

package endorse

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/kettle/attest/attest/collect/fetch"
	"github.com/kettle/attest/attest/tdx"
)

// The headers in which the PCS sends issuer chains, as percent-encoded PEM (PCS, version 4).
const (
	headerTCBInfo = "TCB-Info-Issuer-Chain"
	headerQE      = "SGX-Enclave-Identity-Issuer-Chain"
	headerPCKCRL  = "SGX-PCK-CRL-Issuer-Chain"
)

const nextIntel = "let this machine reach Intel's provisioning certification service, or name a proxy or a PCCS of its own"

// TDX gets the collateral of the platform that a PCK certificate speaks for. Collateral that the verifier could not read
// is an error here, while there is still somebody to ask again.
func (c *Client) TDX(ctx context.Context, k PCK) (*tdx.Collateral, error) {
	if !k.CA.valid() {
		return nil, fmt.Errorf("asking for TDX collateral: no authority %.40q", string(k.CA))
	}
	tcb, err := c.signed(ctx, document{
		what: "Intel TDX TCB info", path: "/tdx/certification/v4/tcb?fmspc=" + hex.EncodeToString(k.FMSPC[:]),
		header: headerTCBInfo, split: tdx.SplitTCBInfo,
	})
	if err != nil {
		return nil, err
	}
	qe, err := c.signed(ctx, document{
		what: "Intel TDX quoting enclave identity", path: "/tdx/certification/v4/qe/identity", header: headerQE, split: tdx.SplitQEIdentity,
	})
	if err != nil {
		return nil, err
	}
	crl, err := c.intelCRL(ctx, "Intel PCK revocation list", c.pcs+"/sgx/certification/v4/pckcrl?ca="+string(k.CA)+"&encoding=der")
	if err != nil {
		return nil, err
	}
	chain, err := issuerChain(crl.Header, headerPCKCRL)
	if err != nil {
		return nil, fmt.Errorf("reading the issuer of the Intel PCK revocation list: %w", err)
	}
	root, err := c.intelCRL(ctx, "Intel root revocation list", c.rootCRL)
	if err != nil {
		return nil, err
	}
	collateral, err := tdx.NewCollateral(tdx.Parts{
		TCBInfo: tcb.body, TCBInfoSignature: tcb.signature, TCBInfoChain: tcb.chain,
		QEIdentity: qe.body, QEIdentitySignature: qe.signature, QEIdentityChain: qe.chain,
		PCKCRL: derOf(crl.Body), PCKCRLChain: chain, RootCRL: derOf(root.Body),
	})
	if err != nil {
		return nil, fmt.Errorf("asking for TDX collateral: %w", err)
	}
	if got := collateral.FMSPC(); got != k.FMSPC {
		return nil, fmt.Errorf("asking for TDX collateral: the service sent TCB info of platform %x, want %x", got, k.FMSPC)
	}
	return collateral, nil
}

// document is a signed document of the PCS.
type document struct {
	what, path, header string
	// split cuts the signed bytes and the signature out of the answer. Written again by a JSON library, the bytes would
	// be others than Intel signed.
	split func([]byte) (signed, signature []byte, err error)
}

// signed is what was signed, and by whom.
type signed struct{ body, signature, chain []byte }

func (c *Client) signed(ctx context.Context, doc document) (signed, error) {
	var s signed
	_, err := c.fetch.Get(ctx, fetch.Request{
		What: doc.what, URL: c.pcs + doc.path, Limit: maxJSON, Keep: []string{doc.header}, Next: nextIntel,
		Accept: func(d fetch.Document) (time.Time, error) {
			var err error
			if s.body, s.signature, err = doc.split(d.Body); err != nil {
				return time.Time{}, err
			}
			if s.chain, err = issuerChain(d.Header, doc.header); err != nil {
				return time.Time{}, err
			}
			return c.until(nextUpdate(s.body)), nil
		},
	})
	return s, err
}

// issuerChain reads a header that holds a percent-encoded PEM chain.
func issuerChain(headers map[string]string, name string) ([]byte, error) {
	chain, err := url.PathUnescape(headers[name]) // not QueryUnescape: base64 has a plus sign
	if err != nil {
		return nil, fmt.Errorf("header %s is not percent-encoded: %w", name, err)
	}
	if n, err := countCertificates([]byte(chain)); err != nil || n == 0 {
		return nil, fmt.Errorf("header %s holds %d certificates: %w", name, n, orNil(err))
	}
	return []byte(chain), nil
}

// nextUpdate reads when Intel means to publish the document anew; the zero time if it does not say.
func nextUpdate(body []byte) time.Time {
	var m struct {
		NextUpdate time.Time `json:"nextUpdate"`
	}
	if json.Unmarshal(body, &m) != nil {
		return time.Time{}
	}
	return m.NextUpdate
}

func (c *Client) intelCRL(ctx context.Context, what, address string) (fetch.Document, error) {
	return c.fetch.Get(ctx, fetch.Request{
		What: what, URL: address, Limit: maxCRL, Keep: []string{headerPCKCRL}, Next: nextIntel,
		Accept: func(d fetch.Document) (time.Time, error) { return c.acceptCRL(derOf(d.Body)) },
	})
}

// derOf gives the DER of a list that a PCCS sends in hexadecimal and the PCS as it is.
func derOf(body []byte) []byte {
	if der, err := hex.DecodeString(string(bytes.TrimSpace(body))); err == nil && len(der) != 0 {
		return der
	}
	return body
}

// CA is an authority that signs PCK certificates.
type CA string

// The authorities, as the PCS names them.
const (
	Platform  CA = "platform"
	Processor CA = "processor"
)

func (c CA) valid() bool { return c == Platform || c == Processor }

// The common names of the authorities (Intel "Intel SGX PCK Certificate and Certificate Revocation List Profile
// Specification", section 1.3).
const (
	nameMark      = "Intel SGX PCK "
	namePlatform  = "Platform CA"
	nameProcessor = "Processor CA"
)

func caOf(cert *x509.Certificate) (CA, error) {
	name, ok := strings.CutPrefix(cert.Issuer.CommonName, nameMark)
	switch {
	case ok && name == namePlatform:
		return Platform, nil
	case ok && name == nameProcessor:
		return Processor, nil
	}
	return "", fmt.Errorf("the PCK certificate's issuer is %.80q, want one of Intel's PCK authorities", cert.Issuer.CommonName)
}
