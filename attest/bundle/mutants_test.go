// SPDX-License-Identifier: Apache-2.0

//go:build mutants

package bundle

import (
	"testing"

	"github.com/kettle/attest/internal/mutant"
)

// TestMutants cuts out what stands between sigstore-go and a signer that is believed. What sigstore-go or protojson
// refuses as well (a repeated key, a second signature, a missing timestamp) has no row: cutting our check alone changes
// the words and not the verdict.
func TestMutants(t *testing.T) {
	t.Parallel()
	const trust, certified, signer = "attest/bundle/trust.go", "attest/bundle/certified.go", "attest/bundle/signer.go"
	library := mutant.Mutant{
		File: certified, Old: "\t\treturn time.Time{}, i.why(b, leaf, err)\n", New: "\t\treturn leaf.NotBefore, nil\n",
	}
	rows := []struct {
		mutant.Mutant
		attack string
	}{
		{library, "AlteredStatement"},
		{library, "ExpiredCertificate"},
		{library, "SplicedProof"},
		{library, "RetiredAuthority"},
		{library, "WeakerInstance"},
		{mutant.Mutant{Check: "the certificate was logged", File: trust, Old: "sct: len(r.CTLogs()) > 0", New: "sct: false"}, "UnloggedCertificate"},
		{mutant.Mutant{Check: "the signature was logged", File: trust, Old: "log: len(r.RekorLogs()) > 0", New: "log: false"}, "UnloggedSignature"},
		{mutant.Mutant{Check: "the instance has a source of time", File: trust, Old: "case d.tsa && len(r.TimestampingAuthorities()) == 0:", New: "case false:"}, "TrustedRoot"},
		{mutant.Mutant{Check: "the instance has an authority", File: trust, Old: "case len(issuers) == 0:", New: "case false:"}, "TrustedRoot"},
		{mutant.Mutant{Check: "one authority, one instance", File: trust, Old: "if seen[string(c.RawSubjectPublicKeyInfo)] {", New: "if false {"}, "TrustedRoot"},
		{mutant.Mutant{Check: "a log in service", File: certified, Old: "if known && (on.Before", New: "if known && on.IsZero() && (on.Before"}, "RetiredAuthority"},
		{mutant.Mutant{Check: "one generation of the log", File: certified, Old: "err != nil || promised || raw.GetIntegratedTime() != 0 || origin != u.Hostname()", New: "err != nil || u == nil || origin == \"\""}, "MixedGenerations"},
		{mutant.Mutant{Check: "one version of the format", File: "attest/bundle/bundle.go", Old: "if inner.GetMediaType() != MediaType {", New: "if false {"}, "AmbiguousBundle"},
		{mutant.Mutant{Check: "one name", File: signer, Old: "len(names) != 1 {", New: "len(names) == 0 {"}, "SeveralNames"},
		{mutant.Mutant{Check: "the name is a URI", File: signer, Old: "if name.Class != asn1.ClassContextSpecific || name.Tag != tagURI || name.IsCompound {", New: "if false {"}, "SeveralNames"},
		{mutant.Mutant{Check: "one issuer", File: signer, Old: `case old != "" && old != s.Issuer:`, New: `case old == "\x00":`}, "TwoIdentities"},
		{mutant.Mutant{Check: "an issuer", File: signer, Old: `case s.Issuer == "":`, New: `case old == "\x00":`}, "TwoIdentities"},
		{mutant.Mutant{Check: "one signing workflow", File: signer, Old: `case signer != "" && signer != s.SAN:`, New: `case signer == "\x00":`}, "TwoIdentities"},
		{mutant.Mutant{Check: "one type of text", File: signer, Old: "raw.Tag != tagUTF8 ||", New: ""}, "UnreadableIdentity"},
		{mutant.Mutant{Check: "printable text", File: signer, Old: "|| !printable(raw.Bytes) {", New: "{"}, "UnreadableIdentity"},
		{mutant.Mutant{Check: "a certificate for signing", File: signer, Old: "len(leaf.UnknownExtKeyUsage) > 0:", New: "len(leaf.UnknownExtKeyUsage) > 0:\n\t\treturn nil\n\tcase false:"}, "OtherPurpose"},
		{mutant.Mutant{Check: "what was signed is verified", File: "attest/bundle/keyless.go", Old: "\tif err != nil {\n\t\treturn nil, fmt.Errorf(\"verifying what was signed: %w\", err)", New: "\tif got == nil {\n\t\treturn line, nil\n\t}\n\tif err != nil {\n\t\treturn nil, fmt.Errorf(\"verifying what was signed: %w\", err)"}, "SigningServices"},
	}
	for _, row := range rows {
		if row.Check == "" {
			row.Check = "the library's verdict: " + row.attack
		}
		t.Run(row.Check, func(t *testing.T) {
			t.Parallel()
			mutant.Run(t, row.Mutant, "attest/bundle", "^TestAttack"+row.attack+"$")
		})
	}
}
