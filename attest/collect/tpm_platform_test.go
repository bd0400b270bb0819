// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/kettle/attest/attest/collect/fetch"
	"github.com/kettle/attest/attest/collect/tpm"
	"github.com/kettle/attest/attest/collect/tpm/tpmtest"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

const (
	thim    = "/metadata/THIM/amd/certification"
	tdquote = "/acc/tdquote"
)

// withTPM gives the machine a TPM.
func (b *bench) withTPM(h *tpmtest.Hook) {
	b.tpm = func(string, string) (*tpm.TPM, error) { return tpm.New(h), nil }
}

// azureSNP makes the machine an Azure confidential VM on a chip of AMD's.
func (b *bench) azureSNP(t *testing.T, m *snptest.Machine) *tpmtest.Paravisor {
	t.Helper()
	device := tpmtest.Start(t)
	ak := tpmtest.AzureKey(t, device)
	p := tpmtest.NewParavisor(t, device, func(user [64]byte) []byte {
		runtime := vtpmtest.Runtime{AK: ak, SecureBoot: true, UserData: user}.JSON()
		m.SetReportData(vtpmtest.ReportData(runtime))
		return vtpmtest.HCL(vtpm.SNP, m.Signed(t), runtime)
	})
	b.withTPM(p.Hook)
	return p
}

func thimAnswer(t *testing.T, m *snptest.Machine) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]string{
		"vcekCert": string(snptest.PEM(m.LeafDER(t))), "certificateChain": string(snptest.PEM(m.ASKDER(t))) + string(snptest.PEM(m.ARKDER(t))),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// values gives a quote's registers as the verifier wants them.
func values(q *TPMQuote) [][]byte {
	var v [][]byte
	for _, p := range q.PCRs {
		v = append(v, bytes.Clone(p[:]))
	}
	return v
}

// verifyTPM demands that the TPM's quote verifies under a trusted key and is over the question.
func verifyTPM(t *testing.T, q Quote, ak *vtpm.AK) *vtpm.Quote {
	t.Helper()
	v, err := vtpm.Verify(ak, q.TPM.Attest, q.TPM.Signature, values(q.TPM))
	if err != nil {
		t.Fatal(err)
	}
	if extra := sha256.Sum256(question[:]); !bytes.Equal(v.ExtraData(), extra[:]) {
		t.Error("a quote over other data")
	}
	return v
}

func TestAzureSNP(t *testing.T) {
	t.Parallel()
	b, m := newBench(t), snptest.New("Milan", "VCEK")
	p := b.azureSNP(t, m)
	tpmtest.Define(t, p.TPMCloser, 0x01c101d0, []byte("certificate of the key"))
	b.kds(t, m)
	b.serve(thim, thimAnswer(t, m))
	b.file(t, tpmLog, []byte("log"))
	d := b.opened(t, PlatformAzSNP)
	for i := range 2 {
		if err := d.Extend(t.Context(), [32]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		q, err := d.Quote(t.Context(), question)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := snp.EndorsementKey(q.Endorsements)
		if err != nil {
			t.Fatal(err)
		}
		r, err := snp.Verify(q.Report, leaf, m.Roots(t), m.At)
		if err != nil {
			t.Fatal(err)
		}
		h, err := vtpm.ParseHCL(q.HCLReport)
		if err != nil {
			t.Fatal(err)
		}
		guest, err := h.Bind(r.ReportData())
		if err != nil || !bytes.Equal(guest.UserData(), question[:]) {
			t.Fatalf("user data %x, %v", guest.UserData(), err)
		}
		verifyTPM(t, q, guest.AK())
		if q.Provider != ProviderSNP || q.Register.Name != "pcr15:sha256" || !bytes.Equal(q.Register.Value, values(q.TPM)[15]) || len(q.TPM.PCRs) != 24 ||
			string(q.TPMLog) != "log" || len(q.Revocations) != 1 || len(q.Notes) != 0 || string(q.TPM.AKCertificate) != "certificate of the key" {
			t.Errorf("%+v %v", q.Register, q.Notes)
		}
		if b.asked.Load() != 2 { // the host once, the list once
			t.Errorf("%d requests", b.asked.Load())
		}
	}
	if _, err := d.Activate(t.Context(), nil, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if _, err := b.open(t, PlatformAzTDX); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrBroken) {
		t.Errorf("as az-tdx: %v", err)
	}
}

// Without the host's service the chip's maker is asked, as anywhere else.
func TestAzureSNPWithoutTHIM(t *testing.T) {
	t.Parallel()
	b, m := newBench(t), snptest.New("Genoa", "VCEK")
	b.azureSNP(t, m)
	if _, err := b.open(t, PlatformAzSNP); !errors.Is(err, fetch.ErrUnavailable) || errors.Is(err, ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	b.kds(t, m)
	q, err := b.opened(t, PlatformAzSNP).Quote(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err := snp.EndorsementKey(q.Endorsements); err != nil || len(leaf) == 0 || len(q.TPM.AKCertificate) != 0 {
		t.Error(err)
	}
}

func TestAzureTDX(t *testing.T) {
	t.Parallel()
	b, p := newBench(t), tdxtest.New(tdxtest.Config{})
	device := tpmtest.Start(t)
	ak := tpmtest.AzureKey(t, device)
	paravisor := tpmtest.NewParavisor(t, device, func(user [64]byte) []byte {
		runtime := vtpmtest.Runtime{AK: ak, SecureBoot: true, UserData: user}.JSON()
		data, report := vtpmtest.ReportData(runtime), make([]byte, 1024)
		copy(report[128:], data[:])
		return vtpmtest.HCL(vtpm.TDX, report, runtime)
	})
	b.withTPM(paravisor.Hook)
	b.pcs(t, p)
	if _, err := b.open(t, PlatformAzTDX); !errors.Is(err, fetch.ErrUnavailable) || errors.Is(err, ErrUnsupported) {
		t.Errorf("without the host's service: %v", err)
	}
	b.handle(tdquote, func(w http.ResponseWriter, r *http.Request) {
		var ask map[string]string
		body, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(body, &ask)
		report, err := base64.RawURLEncoding.DecodeString(ask["report"])
		if err != nil || len(report) != 1024 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		q := tdxtest.NewQuote()
		copy(q.Body.ReportData[:], report[128:])
		_ = json.NewEncoder(w).Encode(map[string]string{"quote": base64.RawURLEncoding.EncodeToString(p.Quote(q))})
	})
	q, err := b.opened(t, PlatformAzTDX).Quote(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := tdx.ParseRoots(p.PEM(tdxtest.Root))
	if err != nil {
		t.Fatal(err)
	}
	verified, err := tdx.Verify(q.Report, roots, p.Day())
	if err != nil {
		t.Fatal(err)
	}
	h, err := vtpm.ParseHCL(q.HCLReport)
	if err != nil {
		t.Fatal(err)
	}
	guest, err := h.Bind(verified.ReportData())
	if err != nil || !bytes.Equal(guest.UserData(), question[:]) {
		t.Fatalf("%v", err)
	}
	verifyTPM(t, q, guest.AK())
	if _, err := tdx.ParseCollateral(q.Collateral); err != nil || q.Provider != ProviderTDX || noted(q, "tpm event log") == "" {
		t.Errorf("%v, %v", err, q.Notes)
	}
	if _, err := b.open(t, PlatformAzSNP); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrBroken) {
		t.Errorf("as az-snp: %v", err)
	}
}

func TestAzureFails(t *testing.T) {
	t.Parallel()
	t.Run("no paravisor", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		h := &tpmtest.Hook{TPMCloser: tpmtest.Start(t)}
		b.withTPM(h)
		if _, err := b.open(t, PlatformAzSNP); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrBroken) || !h.Closed {
			t.Errorf("got %v, closed: %v", err, h.Closed)
		}
	})
	t.Run("no key", func(t *testing.T) {
		t.Parallel()
		b, m := newBench(t), snptest.New("Milan", "VCEK")
		p := b.azureSNP(t, m)
		inner := p.Hook.Before
		p.Hook.Before = func(code tpm2.TPMCC, handle uint32, command []byte) ([]byte, error) {
			if code == tpm2.TPMCCReadPublic {
				return tpmtest.Error(tpm2.TPMRCHandle + 0x100), nil
			}
			return inner(code, handle, command)
		}
		if _, err := b.open(t, PlatformAzSNP); !errors.Is(err, ErrBroken) || errors.Is(err, ErrUnsupported) || !p.Closed {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a TPM that fails", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		h := &tpmtest.Hook{TPMCloser: tpmtest.Start(t), Before: func(tpm2.TPMCC, uint32, []byte) ([]byte, error) { return tpmtest.Error(tpm2.TPMRCFailure), nil }}
		b.withTPM(h)
		for _, platform := range []string{PlatformAzSNP, PlatformAzTDX, PlatformVTPM} {
			if _, err := b.open(t, platform); !errors.Is(err, ErrBroken) || errors.Is(err, ErrUnsupported) {
				t.Errorf("%s: %v", platform, err)
			}
		}
	})
	t.Run("a paravisor that does not answer", func(t *testing.T) {
		t.Parallel()
		b, m := newBench(t), snptest.New("Milan", "VCEK")
		p := b.azureSNP(t, m)
		b.kds(t, m)
		d := b.opened(t, PlatformAzSNP)
		p.Late = 1 << 30
		if q, err := d.Quote(t.Context(), question); !errors.Is(err, ErrBroken) || q.Report != nil {
			t.Errorf("got %v", err)
		}
	})
}

func TestVTPM(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	device := tpmtest.Start(t)
	h := &tpmtest.Hook{TPMCloser: device}
	b.withTPM(h)
	b.config.PCRs = []int{0, 7, 15}
	authority, err := vtpmtest.NewAuthority(testTime.AddDate(-1, 0, 0), testTime.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	chain, ekPublic := certifyEK(t, tpm.New(h), authority)
	tpmtest.Define(t, h, 0x01c0000a, chain[0])
	tpmtest.Define(t, h, 0x01c00100, []byte("chain "))
	tpmtest.Define(t, h, 0x01c00101, []byte("of the maker"))
	d := b.opened(t, PlatformVTPM)
	event := [32]byte{5}
	if err := d.Extend(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	q, err := d.Quote(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(append(make([]byte, 32), event[:]...))
	if q.Provider != ProviderTPM || q.Report != nil || !bytes.Equal(q.Register.Value, want[:]) || len(q.TPM.PCRs) != 3 || string(q.TPM.EKChain) != "chain of the maker" ||
		!bytes.Equal(q.TPM.EKCertificate, chain[0]) || !bytes.Equal(q.TPM.EKPublic, ekPublic) || noted(q, "tpm event log") == "" {
		t.Errorf("%+v", q)
	}
	ek, err := vtpm.CertifiedEK(chain, q.TPM.EKPublic, []*x509.Certificate{authority.Root()}, testTime)
	if err != nil {
		t.Fatal(err)
	}
	ak := activated(t, d, ek, q.TPM.AKPublic)
	verifyTPM(t, q, ak)
	if _, err := d.Activate(t.Context(), []byte("no"), []byte("challenge")); !errors.Is(err, ErrBroken) {
		t.Errorf("got %v", err)
	}
	if b.asked.Load() != 0 {
		t.Errorf("%d requests", b.asked.Load())
	}
}

func TestVTPMOfProviders(t *testing.T) {
	t.Parallel()
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		b.withTPM(&tpmtest.Hook{TPMCloser: tpmtest.Start(t)})
		q, err := b.opened(t, PlatformVTPM).Quote(t.Context(), question)
		if err != nil || q.TPM.AKCertificate != nil || q.TPM.EKCertificate != nil || noted(q, "endorsement key certificate") == "" || len(q.TPM.EKPublic) == 0 {
			t.Errorf("%v, %v", err, q.Notes)
		}
	})
	t.Run("google", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		h := &tpmtest.Hook{TPMCloser: tpmtest.Start(t)}
		b.withTPM(h)
		key, err := tpm.New(h).CreateAK(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		tpmtest.Define(t, h, 0x01c10002, []byte("certificate"))
		tpmtest.Define(t, h, 0x01c10003, key.Public)
		d := b.opened(t, PlatformVTPM)
		q, err := d.Quote(t.Context(), question)
		if err != nil || string(q.TPM.AKCertificate) != "certificate" || q.TPM.EKPublic != nil {
			t.Errorf("%v", err)
		}
		if _, err := d.Activate(t.Context(), nil, nil); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "certified") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("azure trusted launch", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		h := &tpmtest.Hook{TPMCloser: tpmtest.Start(t)}
		b.withTPM(h)
		public := tpmtest.AzureKey(t, h)
		tpmtest.Define(t, h, 0x01c101d0, []byte("certificate"))
		q, err := b.opened(t, PlatformVTPM).Quote(t.Context(), question)
		if err != nil || string(q.TPM.AKCertificate) != "certificate" || !bytes.Contains(q.TPM.AKPublic, public.N.Bytes()) {
			t.Errorf("%v", err)
		}
	})
}

// certifyEK has a manufacturer certify the TPM's endorsement key.
func certifyEK(t *testing.T, d *tpm.TPM, a *vtpmtest.Authority) (chain [][]byte, public []byte) {
	t.Helper()
	ek, err := d.CreateEK(t.Context(), tpm.P256)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Flush(ek); err != nil {
		t.Fatal(err)
	}
	parsed, err := tpm2.Unmarshal[tpm2.TPMTPublic](ek.Public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.Pub(*parsed)
	if err != nil {
		t.Fatal(err)
	}
	if chain, err = a.EK(key); err != nil {
		t.Fatal(err)
	}
	return chain, ek.Public
}

// activated has a device answer a verifier's challenge, which makes its key trusted.
func activated(t *testing.T, d *Device, ek *vtpm.EK, akPublic []byte) *vtpm.AK {
	t.Helper()
	a, err := vtpm.Activate(ek, akPublic, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := a.Challenge()
	secret, err := d.Activate(t.Context(), c.IDObject, c.EncryptedSecret)
	if err != nil {
		t.Fatal(err)
	}
	ak, err := a.Complete(secret)
	if err != nil {
		t.Fatal(err)
	}
	return ak
}
