// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"crypto/x509"
	"time"
)

// Quote is a verified quote. Only [Verify] makes one; the zero value meets no floor and names no platform.
type Quote struct {
	body
	verified bool
	version  uint16
	bodyType BodyType
	userData [20]byte
	qeReport [qeReportSize]byte
	root     Root
	ca, leaf *x509.Certificate
	pck      PCK
}

// The names of the platforms, see [Quote.Platform].
const (
	PlatformTDX = "tdx"
	PlatformSim = "sim"
)

// Platform is "tdx" under Intel's pinned root and "sim" under a private root, whatever the quote itself says.
func (q *Quote) Platform() string {
	switch {
	case !q.verified:
		return ""
	case q.root.intel:
		return PlatformTDX
	}
	return PlatformSim
}

// Root is the root that the quote's PCK leads to.
func (q *Quote) Root() Root { return q.root }

// Version is the version of the quote's format, 4 or 5.
func (q *Quote) Version() uint16 { return q.version }

// BodyType says which TD report the quote holds. Version 4 always holds that of TDX 1.0, whatever the module.
func (q *Quote) BodyType() BodyType { return q.bodyType }

// UserData is the user data of the header: 16 bytes that name the quoting enclave's platform, then 4.
func (q *Quote) UserData() [20]byte { return q.userData }

// MRTD is the measurement of the TD's initial memory: SHA-384, by the TDX module.
func (q *Quote) MRTD() [48]byte { return q.mrTD }

// RTMRs gives the four run-time registers, RTMR0 first.
func (q *Quote) RTMRs() [4][48]byte { return q.rtmr }

// ReportData is the 64 bytes that the guest asked to be signed.
func (q *Quote) ReportData() [64]byte { return q.reportData }

// MRConfigID is the identifier of a configuration, chosen by the host at launch.
func (q *Quote) MRConfigID() [48]byte { return q.mrConfigID }

// MROwner is the identifier of the TD's owner, chosen by the host at launch.
func (q *Quote) MROwner() [48]byte { return q.mrOwner }

// MROwnerConfig is the identifier of the owner's configuration, chosen by the host at launch.
func (q *Quote) MROwnerConfig() [48]byte { return q.mrOwnerConfig }

// MRSEAM is the SHA-384 of the TDX module that launched the TD.
func (q *Quote) MRSEAM() [48]byte { return q.mrSEAM }

// MRServiceTD is the digest of the service TDs bound to the TD, zero for none; false when the body does not say (type 2).
func (q *Quote) MRServiceTD() ([48]byte, bool) { return q.mrServiceTD, q.bodyType == BodyTDX15 }

// Attributes is the attributes of the TD.
func (q *Quote) Attributes() TDAttributes { return q.attributes }

// XFAM is the mask of extended processor features that the TD may use.
func (q *Quote) XFAM() uint64 { return q.xfam }

// TEETCBSVN is the security versions of the TDX module at launch: byte 0 its minor, byte 1 its major version.
func (q *Quote) TEETCBSVN() [16]byte { return q.teeTCBSVN }

// TEETCBSVN2 is the same for the module that runs now; false when the body does not say (type 2).
func (q *Quote) TEETCBSVN2() ([16]byte, bool) { return q.teeTCBSVN2, q.bodyType == BodyTDX15 }

// PCK is what the platform's certificate says of it.
func (q *Quote) PCK() PCK {
	p := q.pck
	if p.Instance != nil {
		instance := *p.Instance
		p.Instance = &instance
	}
	if p.Configuration != nil {
		configuration := *p.Configuration
		p.Configuration = &configuration
	}
	return p
}

// FMSPC names the kind of platform; collateral is for one of it.
func (q *Quote) FMSPC() [6]byte { return q.pck.FMSPC }

// PCKIssuer is "platform" or "processor": the CA of Intel's that certified the platform, and whose revocation list
// collateral has to hold.
func (q *Quote) PCKIssuer() string {
	switch {
	case !q.verified:
		return ""
	case q.ca.Subject.CommonName == nameProcessorCA:
		return "processor"
	}
	return "platform"
}

// EndorsementExpires is the end of validity of the PCK certificate.
func (q *Quote) EndorsementExpires() time.Time {
	if !q.verified {
		return time.Time{}
	}
	return q.leaf.NotAfter
}
