// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/kettle/attest/attest/collect/fetch"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

var question = [64]byte{0: 1, 31: 2, 63: 255}

// verifySNP demands that a quote verifies with nothing but what it carries and the chip's roots.
func verifySNP(t *testing.T, q Quote, m *snptest.Machine) {
	t.Helper()
	leaf, err := snp.EndorsementKey(q.Endorsements)
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.Verify(q.Report, leaf, m.Roots(t), m.At)
	if err != nil {
		t.Fatal(err)
	}
	if r.ReportData() != question {
		t.Error("a report over other report data")
	}
	if bytes.Count(q.Endorsements, []byte("BEGIN CERTIFICATE")) != 3 || len(q.Revocations) != 1 {
		t.Errorf("%d bytes of endorsements, %d revocation lists: %v", len(q.Endorsements), len(q.Revocations), q.Notes)
	}
}

func TestSNP(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"Milan", "Genoa", "Turin"} {
		t.Run(line+" with a table", func(t *testing.T) {
			t.Parallel()
			b, m := newBench(t), snptest.New(line, "VCEK")
			c := b.snp(t, m)
			c.aux = m.CertTable(t)
			b.kds(t, m)
			q, err := b.opened(t, PlatformSNP).Quote(t.Context(), question)
			if err != nil {
				t.Fatal(err)
			}
			verifySNP(t, q, m)
			if q.Provider != ProviderSNP || q.Via != "configfs-tsm" || !bytes.Equal(q.AuxBlob, c.aux) || b.asked.Load() != 1 { // for the revocations
				t.Errorf("%d requests, %v", b.asked.Load(), q.Notes)
			}
		})
		t.Run(line+" without a table", func(t *testing.T) {
			t.Parallel()
			b, m := newBench(t), snptest.New(line, "VCEK")
			b.snp(t, m)
			b.kds(t, m)
			d := b.opened(t, PlatformSNP)
			for range 2 {
				q, err := d.Quote(t.Context(), question)
				if err != nil {
					t.Fatal(err)
				}
				verifySNP(t, q, m)
				if b.asked.Load() != 3 {
					t.Errorf("%d requests", b.asked.Load())
				}
				if r := noted(q, "register"); r != "not available: SEV-SNP has no run-time register" {
					t.Errorf("the missing register is noted as %q", r)
				}
			}
			if err := d.Extend(t.Context(), [32]byte{1}); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrBroken) {
				t.Errorf("got %v", err)
			}
			if _, err := d.Activate(t.Context(), nil, nil); !errors.Is(err, ErrUnsupported) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// AWS signs with a VLEK, which comes with the report and from nowhere else.
func TestVLEK(t *testing.T) {
	t.Parallel()
	b, m := newBench(t), snptest.New("Milan", "VLEK")
	c := b.snp(t, m)
	c.aux = m.CertTable(t)
	b.kds(t, m)
	q, err := b.opened(t, PlatformSNP).Quote(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	verifySNP(t, q, m)
	c.aux = nil
	if _, err := b.open(t, PlatformSNP); err == nil || errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "VLEK") {
		t.Errorf("without a table: %v", err)
	}
}

// A host's cache that a firmware update left behind is not what travels with the evidence, and a chip whose firmware
// changes while the machine runs is asked about again.
func TestStaleCertificateTable(t *testing.T) {
	t.Parallel()
	b, m := newBench(t), snptest.New("Milan", "VCEK")
	c := b.snp(t, m)
	c.aux = m.CertTable(t)
	m.SetTCB(6, 3, 25)
	b.kds(t, m)
	d := b.opened(t, PlatformSNP)
	q, err := d.Quote(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	verifySNP(t, q, m)
	c.mu.Lock()
	m.SetTCB(6, 3, 26)
	b.kds(t, m)
	c.mu.Unlock()
	if q, err = d.Quote(t.Context(), question); err != nil {
		t.Fatal(err)
	}
	verifySNP(t, q, m)
}

func TestSNPVersion2(t *testing.T) {
	t.Parallel()
	b, m := newBench(t), snptest.New("Milan", "VCEK")
	m.SetVersion(2)
	b.snp(t, m)
	b.kds(t, m)
	if _, err := b.open(t, PlatformSNP); err == nil {
		t.Error("nobody could know whom to ask")
	}
	b.file(t, cpuInfo, []byte("processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: EPYC\n\nprocessor\t: 1\ncpu family\t: 3\n"))
	q, err := b.opened(t, PlatformSNP).Quote(t.Context(), question)
	if err != nil {
		t.Fatal(err)
	}
	verifySNP(t, q, m)
}

func TestSNPWithoutServices(t *testing.T) {
	t.Parallel()
	t.Run("key", func(t *testing.T) {
		t.Parallel()
		b, m := newBench(t), snptest.New("Milan", "VCEK")
		b.snp(t, m)
		_, err := b.open(t, PlatformSNP)
		if !errors.Is(err, fetch.ErrUnavailable) || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrBroken) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("lists", func(t *testing.T) {
		t.Parallel()
		b, m := newBench(t), snptest.New("Milan", "VCEK")
		b.snp(t, m)
		b.serve(b.kds(t, m), m.LeafDER(t))
		b.handle("/vcek/v1/Milan/crl", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
		b.handle("/vcek/v1/Milan/cert_chain", nil)
		q, err := b.opened(t, PlatformSNP).Quote(t.Context(), question)
		if err != nil || len(q.Revocations) != 0 || len(q.Endorsements) == 0 {
			t.Fatal(err)
		}
		for _, item := range []string{"revocations", "intermediates"} {
			if !strings.HasPrefix(noted(q, item), "not available: ") {
				t.Errorf("%s: %v", item, q.Notes)
			}
		}
	})
	t.Run("offline", func(t *testing.T) {
		t.Parallel()
		b, m := newBench(t), snptest.New("Milan", "VCEK")
		b.config.Offline = true
		b.file(t, dmiDir+"/sys_vendor", []byte("Google\n"))
		c := b.snp(t, m)
		for items, aux := range map[string][]byte{
			"endorsements revocations launch":             nil,
			"endorsements revocations certificate table ": []byte("table"),
			"revocations intermediates":                   snptest.EncodeCertTable(t, snptest.Entry{GUID: snptest.GUIDVCEK, Data: m.LeafDER(t)}),
			"":                                            m.CertTable(t, snptest.Entry{GUID: snptest.GUIDCRL, Data: m.CRL(t)}, snptest.Entry{GUID: guidLaunch, Data: []byte("launch")}),
		} {
			c.aux = aux
			q, err := b.opened(t, PlatformSNP).Quote(t.Context(), question)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range strings.Fields(items) {
				if item == "certificate" || item == "table" {
					item = "certificate table"
				}
				if noted(q, item) == "" {
					t.Errorf("%q: no note of %s: %v", items, item, q.Notes)
				}
			}
			if items == "" && (len(q.Notes) != 1 || string(q.Launch) != "launch" || len(q.Revocations) != 1) {
				t.Errorf("%v", q.Notes)
			}
		}
		if b.asked.Load() != 0 {
			t.Errorf("%d requests", b.asked.Load())
		}
	})
	t.Run("offline with a stale table", func(t *testing.T) {
		t.Parallel()
		b, m := newBench(t), snptest.New("Milan", "VCEK")
		b.config.Offline = true
		c := b.snp(t, m)
		c.aux = m.CertTable(t)
		m.SetTCB(6, 3, 25)
		q, err := b.opened(t, PlatformSNP).Quote(t.Context(), question)
		if err != nil || len(q.Endorsements) == 0 || noted(q, "endorsement that fits") == "" {
			t.Errorf("%v, %v", err, q.Notes)
		}
	})
}

func TestLaunchEndorsement(t *testing.T) {
	t.Parallel()
	b, m := newBench(t), snptest.New("Milan", "VCEK")
	c := b.snp(t, m)
	b.kds(t, m)
	b.file(t, dmiDir+"/product_name", []byte("Google Compute Engine\n"))
	path := "/ovmf_x64_csm/sevsnp/" + hexOf(m.Report[0x90:0xc0]) + ".binarypb"
	q, err := b.opened(t, PlatformSNP).Quote(t.Context(), question)
	if err != nil || q.Launch != nil || !strings.Contains(noted(q, "launch"), "404") {
		t.Errorf("%v, %v", err, q.Notes)
	}
	b.serve(path, []byte{0x0a, 1, 7})
	if q, err = b.opened(t, PlatformSNP).Quote(t.Context(), question); err != nil || !bytes.Equal(q.Launch, []byte{0x0a, 1, 7}) {
		t.Errorf("%v, %v", err, q.Notes)
	}
	c.aux = m.CertTable(t, snptest.Entry{GUID: guidLaunch, Data: []byte("from the table")})
	if q, err = b.opened(t, PlatformSNP).Quote(t.Context(), question); err != nil || string(q.Launch) != "from the table" {
		t.Errorf("%v, %q", err, q.Launch)
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, x := range b {
		s.WriteByte(digits[x>>4])
		s.WriteByte(digits[x&15])
	}
	return s.String()
}

// TestAttackAnswerOfAnotherQuestion: a kernel interface that answers with a report over other data, or of another
// length, gives no quote.
func TestAttackAnswerOfAnotherQuestion(t *testing.T) {
	t.Parallel()
	m, p := snptest.New("Milan", "VCEK"), tdxtest.New(tdxtest.Config{})
	for name, out := range map[string]func([64]byte) []byte{
		"other data": func([64]byte) []byte { m.SetReportData([64]byte{9}); return m.Signed(t) },
		"too short":  func([64]byte) []byte { return m.Signed(t)[:1183] },
		"too long":   func([64]byte) []byte { return append(m.Signed(t), 0) },
		"a TD quote": func([64]byte) []byte { return p.Quote(tdxtest.NewQuote()) },
	} {
		b := newBench(t)
		b.snp(t, m).out = out
		if _, err := b.open(t, PlatformSNP); !errors.Is(err, ErrBroken) || errors.Is(err, ErrUnsupported) {
			t.Errorf("snp, %s: %v", name, err)
		}
	}
	for name, out := range map[string]func([64]byte) []byte{
		"other data":     func([64]byte) []byte { return p.Quote(tdxtest.NewQuote()) },
		"too short":      func([64]byte) []byte { return p.Quote(tdxtest.NewQuote())[:600] },
		"another format": func([64]byte) []byte { q := tdxtest.NewQuote(); q.Version = 3; return p.Quote(q) },
	} {
		b := newBench(t)
		b.tdx(t, p).out = out
		if _, err := b.open(t, PlatformTDX); !errors.Is(err, ErrBroken) || errors.Is(err, ErrUnsupported) {
			t.Errorf("tdx, %s: %v", name, err)
		}
	}
}

func TestEventLogs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if _, err := b.readLog(ccelData); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrBroken) {
		t.Errorf("got %v", err)
	}
	b.file(t, ccelData, nil)
	if _, err := b.readLog(ccelData); !errors.Is(err, ErrBroken) {
		t.Errorf("an empty log: %v", err)
	}
	b.file(t, ccelData, make([]byte, maxLog))
	if log, err := b.readLog(ccelData); err != nil || len(log) != maxLog {
		t.Errorf("the longest log: %v", err)
	}
	b.file(t, ccelData, make([]byte, maxLog+1))
	if log, err := b.readLog(ccelData); !errors.Is(err, ErrBroken) || log != nil {
		t.Errorf("a log that is too long: %v", err)
	}
	if err := os.MkdirAll(b.path(tpmLog), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := b.readLog(tpmLog); !errors.Is(err, ErrBroken) {
		t.Errorf("a folder: %v", err)
	}
}

// A caller that gives up leaves; the kernel's answer is waited for before the next question.
func TestCallerGivesUpOnTheKernel(t *testing.T) {
	t.Parallel()
	b, m := newBench(t), snptest.New("Milan", "VCEK")
	c := b.snp(t, m)
	b.kds(t, m)
	d := b.opened(t, PlatformSNP)
	entered, leave := make(chan struct{}), make(chan struct{})
	c.mu.Lock()
	c.before = func() { entered <- struct{}{}; <-leave }
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if _, err := d.Quote(ctx, question); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if _, err := d.Quote(ctx, question); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	waiting, stop := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	stop(why)
	if _, err := d.Quote(waiting, question); !errors.Is(err, why) {
		t.Fatalf("got %v", err)
	}
	go func() { close(leave); <-entered }()
	q, err := d.Quote(t.Context(), [64]byte{7})
	if err != nil || q.Report[0x50] != 7 {
		t.Errorf("got %v", err)
	}
}

func TestDetect(t *testing.T) {
	t.Parallel()
	likely := func(b *bench) string {
		var found []string
		for _, f := range b.detect() {
			if len(f.Reasons) == 0 || !strings.HasPrefix(f.String(), f.Platform+": ") {
				t.Errorf("no reasons: %s", f)
			}
			if f.Likely {
				found = append(found, f.Platform)
			}
		}
		return strings.Join(found, " ")
	}
	amd, intel := []byte("vendor_id : AuthenticAMD\nflags : sev_snp hypervisor\n"), []byte("vendor_id : GenuineIntel\nflags : tdx_guest\n")
	for want, files := range map[string]map[string][]byte{
		"":            {},
		"snp":         {"/dev/sev-guest": nil, cpuInfo: amd},
		"tdx":         {"/dev/tdx_guest": nil, cpuInfo: intel, configTSM + "/x": nil},
		"az-snp vtpm": {"/dev/tpmrm0": nil, cpuInfo: amd, dmiDir + "/sys_vendor": []byte("Microsoft Corporation\n")},
		"az-tdx vtpm": {"/dev/tpmrm0": nil, cpuInfo: intel, dmiDir + "/sys_vendor": []byte("Microsoft Corporation\n")},
		"vtpm":        {"/dev/tpmrm0": nil, cpuInfo: amd, dmiDir + "/sys_vendor": []byte("Amazon EC2\n")},
		"snp vtpm":    {"/dev/tpmrm0": nil, "/dev/sev-guest": nil, cpuInfo: amd, dmiDir + "/sys_vendor": []byte("Google\n")},
		"sim":         {sysPorts + "/vport0p1/name": []byte("dev.kettle.quote\n")},
	} {
		b := newBench(t)
		for path, data := range files {
			b.file(t, path, data)
		}
		if got := likely(b); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	b := newBench(t)
	for _, n := range []string{"1", "2"} {
		b.file(t, sysPorts+"/vport0p"+n+"/name", []byte("dev.kettle.quote\n"))
	}
	if got := likely(b); got != "" || !strings.Contains(b.detect()[0].String(), "both") {
		t.Errorf("%s", b.detect()[0])
	}
	if len(Detect()) != 6 {
		t.Error("this machine has not six findings")
	}
}

func TestShapeOfTDQuote(t *testing.T) {
	t.Parallel()
	b := make([]byte, 2000)
	for version, ok := range map[uint16]bool{3: false, 4: true, 5: true, 6: false} {
		binary.LittleEndian.PutUint16(b, version)
		if _, err := tdBody(b); (err == nil) != ok {
			t.Errorf("version %d: %v", version, err)
		}
	}
}
