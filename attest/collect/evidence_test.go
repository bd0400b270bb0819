// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"bytes"
	"encoding/pem"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kettle/attest/attest/collect/tpm"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/snp/snptest"
)

// TestEvidence makes evidence of every kind of quote, and refuses quotes of none.
func TestEvidence(t *testing.T) {
	t.Parallel()
	m := snptest.New("Genoa", "VCEK")
	leaf := m.LeafDER(t)
	certificates := append(snptest.PEM(leaf), snptest.PEM(m.ASKDER(t))...)
	pcr := [32]byte{15}
	quote := &TPMQuote{Quote: tpm.Quote{Attest: []byte("attest"), Signature: []byte("signature"), PCRs: [][32]byte{pcr}}, AKCertificate: []byte("certificate")}
	tpmPart := evidence.Evidence{TPMQuote: []byte("attest"), TPMSignature: []byte("signature"), PCRs: [][]byte{pcr[:]}, BootLog: []byte("log")}
	with := func(e evidence.Evidence, change func(*evidence.Evidence)) evidence.Evidence {
		change(&e)
		return e
	}
	for name, tc := range map[string]struct {
		quote Quote
		want  evidence.Evidence
	}{
		"snp": {
			Quote{Provider: ProviderSNP, Report: []byte("report"), Endorsements: certificates, Revocations: [][]byte{[]byte("crl"), []byte("other")}},
			evidence.Evidence{Kind: evidence.SNP, Report: []byte("report"), Endorsements: evidence.Endorsements{Leaf: leaf, CRL: []byte("crl")}},
		},
		"tdx": {
			Quote{Provider: ProviderTDX, Report: []byte("quote"), Collateral: []byte("{}"), CCEL: []byte("no log")},
			evidence.Evidence{Kind: evidence.TDX, Report: []byte("quote"), BootLog: []byte("no log"), Endorsements: evidence.Endorsements{Collateral: []byte("{}")}},
		},
		"az-snp": {
			Quote{Provider: ProviderSNP, Report: []byte("report"), HCLReport: []byte("HCLA"), TPM: quote, TPMLog: []byte("log"), Endorsements: certificates},
			with(tpmPart, func(e *evidence.Evidence) { e.Kind, e.HCLReport, e.Leaf = evidence.AzureSNP, []byte("HCLA"), leaf }),
		},
		"az-tdx": {
			Quote{Provider: ProviderTDX, Report: []byte("quote"), HCLReport: []byte("HCLA"), TPM: quote, TPMLog: []byte("log"), Collateral: []byte("{}")},
			with(tpmPart, func(e *evidence.Evidence) {
				e.Kind, e.HCLReport, e.Report, e.Collateral = evidence.AzureTDX, []byte("HCLA"), []byte("quote"), []byte("{}")
			}),
		},
		"vtpm": {
			Quote{Provider: ProviderTPM, TPM: quote, TPMLog: []byte("log")},
			with(tpmPart, func(e *evidence.Evidence) {
				e.Kind = evidence.VTPM
				e.AKCertificates = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("certificate")})
			}),
		},
	} {
		got, err := tc.quote.Evidence()
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	for name, q := range map[string]Quote{
		"nothing":                 {},
		"a TPM without quote":     {Provider: ProviderTPM},
		"a report without report": {Provider: ProviderSNP, Endorsements: certificates},
		"no certificate":          {Provider: ProviderSNP, Report: []byte("report")},
		"a paravisor without TPM": {Provider: ProviderTDX, Report: []byte("quote"), HCLReport: []byte("HCLA")},
	} {
		if e, err := q.Evidence(); err == nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// TestWithoutFill cuts what lies behind a log, and nothing of it.
func TestWithoutFill(t *testing.T) {
	t.Parallel()
	log := ccLog()
	for _, fill := range []byte{0, 0xff} {
		area := append(bytes.Clone(log), bytes.Repeat([]byte{fill}, 4096)...)
		if got := withoutFill(area); !bytes.Equal(got, log) {
			t.Errorf("fill %#x: %d bytes, want %d", fill, len(got), len(log))
		}
	}
	if got := withoutFill([]byte("no log")); string(got) != "no log" {
		t.Errorf("what is no log became %q", got)
	}
}

// ccLog is the log of a confidential VM with one event: TCG PC Client Platform Firmware Profile 1.06, section 10.2, with
// the register's number one above the RTMR's.
func ccLog() []byte {
	spec := append([]byte("Spec ID Event03\x00"),
		0, 0, 0, 0, // platform class
		0, 2, 0, 2, // version 2.0, errata 0, size of UINTN
		1, 0, 0, 0, 0x0c, 0, 48, 0, // one algorithm: SHA-384
		0, // vendor information
	)
	log := append([]byte{1, 0, 0, 0, 3, 0, 0, 0}, make([]byte, 20)...) // register 1, EV_NO_ACTION, no digest
	log = append(append(log, byte(len(spec)), 0, 0, 0), spec...)
	log = append(log, 1, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0x0c, 0) // RTMR 0, EV_SEPARATOR, one digest
	log = append(log, bytes.Repeat([]byte{0xff}, 48)...)           // it may end as the fill begins
	return append(log, 4, 0, 0, 0, 0, 0, 0, 0)
}
