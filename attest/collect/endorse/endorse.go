// SPDX-License-Identifier: Apache-2.0

// Package endorse gathers what makers say about their chips, so that evidence can be verified offline for years: AMD's
// endorsement key certificates and revocation lists, Intel's TDX collateral, Google's launch endorsements.
//
// It guarantees that what it returns is of the right kind and belongs to the evidence it was asked for (a certificate
// parses as one, a TCB info is of the quote's platform), and that signed bytes are handed on exactly as they were
// signed. It verifies no signature and no date: that is the verifier's work, on the verifier's clock. It trusts
// neither the services nor the network; a wrong answer costs a refused bundle, not a wrong verdict.
//
// Sources: AMD 57230 "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (KDS), Intel
// "API for Provisioning Certification Service" version 4 (PCS), Google "gce-tcb-verifier" (GCE).
package endorse

import (
	"context"
	"strings"
	"time"

	"github.com/kettle/attest/attest/collect/fetch"
)

// The services of the makers.
const (
	DefaultKDS     = "https://kdsintf.amd.com"
	DefaultPCS     = "https://api.trustedservices.intel.com"
	DefaultRootCRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
	DefaultGCE     = "https://storage.googleapis.com/gce_tcb_integrity"
)

const (
	maxCertificate = 64 << 10
	maxCRL         = 4 << 20
	maxJSON        = 1 << 20
	maxLaunch      = 1 << 20

	keepCertificate = 30 * 24 * time.Hour // a key certificate and a launch endorsement never change
	keepAtMost      = 24 * time.Hour      // of what is published anew: lists and collateral
)

// Fetcher gets documents; [fetch.Client] is one.
type Fetcher interface {
	Get(context.Context, fetch.Request) (fetch.Document, error)
}

// Config names the services. Its zero value means the makers' own. An operator's caching proxy, such as Intel's PCCS,
// takes their place; it need not be trusted.
type Config struct {
	KDS     string // before /vcek/v1/...
	PCS     string // before /tdx/certification/v4/... and /sgx/certification/v4/...
	RootCRL string // the whole address of Intel's root revocation list
	GCE     string // before /ovmf_x64_csm/...
	// Now is the clock for how long a document may be kept; nil for the system's.
	Now func() time.Time
}

// Client gathers endorsements. It is safe for concurrent use.
type Client struct {
	fetch                  Fetcher
	kds, pcs, rootCRL, gce string
	now                    func() time.Time
}

// New makes a client.
func New(f Fetcher, c Config) *Client {
	or := func(v, otherwise string) string {
		if v == "" {
			return otherwise
		}
		return strings.TrimSuffix(v, "/")
	}
	e := &Client{fetch: f, kds: or(c.KDS, DefaultKDS), pcs: or(c.PCS, DefaultPCS), rootCRL: or(c.RootCRL, DefaultRootCRL), gce: or(c.GCE, DefaultGCE), now: c.Now}
	if e.now == nil {
		e.now = time.Now
	}
	return e
}

// until bounds how long something with its own date of renewal is kept. What is past that date is used, for the
// verifier to judge, and not kept.
func (c *Client) until(next time.Time) time.Time {
	now := c.now()
	if !next.After(now) {
		return time.Time{}
	}
	if most := now.Add(keepAtMost); next.After(most) {
		return most
	}
	return next
}
