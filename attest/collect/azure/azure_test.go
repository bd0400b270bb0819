// SPDX-License-Identifier: Apache-2.0

package azure_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/collect/azure"
	"github.com/kettle/attest/attest/collect/fault"
	"github.com/kettle/attest/attest/collect/fetch"
	"github.com/kettle/attest/attest/collect/tpm"
	"github.com/kettle/attest/attest/collect/tpm/tpmtest"
	"github.com/kettle/attest/attest/vtpm"
	"github.com/kettle/attest/attest/vtpm/vtpmtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noSleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }

// paravisor gives the TPM of an Azure confidential VM around an unsigned hardware report.
func paravisor(t *testing.T, hardware vtpm.Hardware) (*tpm.TPM, *tpmtest.Paravisor) {
	t.Helper()
	device := tpmtest.Start(t)
	ak := tpmtest.AzureKey(t, device)
	p := tpmtest.NewParavisor(t, device, func(user [64]byte) []byte {
		runtime := vtpmtest.Runtime{AK: ak, SecureBoot: true, UserData: user}.JSON()
		data := vtpmtest.ReportData(runtime)
		report, at := make([]byte, 1184), 0x50
		if hardware == vtpm.TDX {
			report, at = make([]byte, 1024), 128
		}
		copy(report[at:], data[:])
		return vtpmtest.HCL(hardware, report, runtime)
	})
	return tpm.New(p), p
}

func TestReadReport(t *testing.T) {
	t.Parallel()
	for platform, hardware := range map[string]vtpm.Hardware{"az-snp": vtpm.SNP, "az-tdx": vtpm.TDX} {
		d, _ := paravisor(t, hardware)
		r, err := azure.ReadReport(t.Context(), d, platform, hardware)
		if err != nil || r.Hardware() != hardware || len(r.Raw) == 0 {
			t.Fatalf("%s: %v", platform, err)
		}
		_, err = azure.ReadReport(t.Context(), d, "other", vtpm.SNP+vtpm.TDX-hardware)
		if !errors.Is(err, fault.ErrUnsupported) || errors.Is(err, fault.ErrBroken) || !strings.Contains(err.Error(), "here it is of") {
			t.Errorf("%s as the other: %v", platform, err)
		}
	}
}

func TestReadReportFails(t *testing.T) {
	t.Parallel()
	good := func() []byte {
		runtime := []byte(`{"keys":[],"user-data":""}`)
		data := vtpmtest.ReportData(runtime)
		report := make([]byte, 1184)
		copy(report[0x50:], data[:])
		return vtpmtest.HCL(vtpm.SNP, report, runtime)[:2000]
	}
	for name, tt := range map[string]struct {
		report      []byte
		unsupported bool
	}{
		"none":         {nil, true},
		"no hardware":  {func() []byte { b := good(); b[0x4c0+8] = 3; return b }(), true},
		"another kind": {func() []byte { b := good(); b[0] = 'X'; return b }(), false},
		"torn":         {func() []byte { b := good(); b[0x20+0x50]++; return b }(), false},
		"short":        {good()[:1000], false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			device := tpmtest.Start(t)
			if tt.report != nil {
				tpmtest.Define(t, device, 0x01400001, tt.report)
			}
			_, err := azure.ReadReport(t.Context(), tpm.New(device), "az-snp", vtpm.SNP)
			if errors.Is(err, fault.ErrUnsupported) != tt.unsupported || errors.Is(err, fault.ErrBroken) == tt.unsupported {
				t.Errorf("got %v", err)
			}
		})
	}
	d, _ := paravisor(t, vtpm.SNP)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := azure.ReadReport(ctx, d, "az-snp", vtpm.SNP); !errors.Is(err, context.Canceled) || errors.Is(err, fault.ErrBroken) {
		t.Errorf("got %v", err)
	}
}

func TestBindUserData(t *testing.T) {
	t.Parallel()
	d, p := paravisor(t, vtpm.SNP)
	for i, late := range []int{0, 5, 20} {
		p.Looks, p.Late = 0, late
		want := [64]byte{byte(i + 1), 63: 9}
		waits := 0
		r, err := azure.BindUserData(t.Context(), d, func(context.Context, time.Duration) error { waits++; return nil }, want)
		if err != nil || !bytes.Contains(r.Raw, fmt.Appendf(nil, `"user-data":"%x"`, want)) {
			t.Fatalf("late by %d: %v", late, err)
		}
		if late == 0 && waits != 0 || late != 0 && waits == 0 {
			t.Errorf("late by %d: %d waits", late, waits)
		}
	}
}

func TestBindUserDataFails(t *testing.T) {
	t.Parallel()
	d, p := paravisor(t, vtpm.SNP)
	p.Late = 1 << 30
	r, err := azure.BindUserData(t.Context(), d, noSleep, [64]byte{1})
	if !errors.Is(err, fault.ErrBroken) || !strings.Contains(err.Error(), "other user data") || r.Raw != nil {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stop := func(context.Context, time.Duration) error { cancel(); return ctx.Err() }
	if _, err := azure.BindUserData(ctx, d, stop, [64]byte{2}); !errors.Is(err, context.Canceled) || errors.Is(err, fault.ErrBroken) {
		t.Errorf("got %v", err)
	}
	p.Late, p.Looks = 0, 0
	p.Report = func([64]byte) []byte { return make([]byte, 10) }
	if _, err := azure.BindUserData(t.Context(), d, noSleep, [64]byte{3}); !errors.Is(err, fault.ErrBroken) {
		t.Errorf("a report that never is one: %v", err)
	}
	if _, err := azure.BindUserData(ctx, d, noSleep, [64]byte{3}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestAttackReportOfAnotherQuestion: a report whose hardware part does not bind its runtime data, put together from two
// moments or by whoever holds the TPM, is never taken for an answer.
func TestAttackReportOfAnotherQuestion(t *testing.T) {
	t.Parallel()
	d, p := paravisor(t, vtpm.SNP)
	honest := p.Report
	p.Report = func(user [64]byte) []byte {
		b := honest(user)
		copy(b[0x20:], honest([64]byte{})[0x20:0x4c0]) // the hardware's report of before
		return b
	}
	r, err := azure.BindUserData(t.Context(), d, noSleep, [64]byte{1})
	if !errors.Is(err, fault.ErrBroken) || r.Raw != nil {
		t.Errorf("got %v", err)
	}
}

// host plays the services of Azure's host.
func host(t *testing.T, handle http.HandlerFunc) *azure.Host {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return azure.NewHost(fetch.New(fetch.Config{Transport: fetch.Direct(), Sleep: noSleep, Attempts: 2, AttemptLimit: 200 * time.Millisecond}), s.URL)
}

func answer(v any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) }
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	h := host(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/metadata/THIM/amd/certification" || r.Header.Get("Metadata") != "true" || r.Method != http.MethodGet {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answer(map[string]string{"vcekCert": "VCEK\n", "certificateChain": "ASK\nARK\n", "tcbm": "DB18000000000004", "cacheControl": "86400"})(w, r)
	})
	c, err := h.Certificates(t.Context())
	if err != nil || string(c.VCEK) != "VCEK\n" || string(c.Chain) != "ASK\nARK\n" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestCertificatesFail(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"no service":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) },
		"a page":          func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"no certificate":  answer(map[string]string{"certificateChain": "x"}),
		"no chain":        answer(map[string]string{"vcekCert": "x"}),
		"another type":    answer(map[string]any{"vcekCert": 1, "certificateChain": "x"}),
		"other spelling":  answer(map[string]string{"VCEKCERT": "x", "certificateChain": "x"}),
		"a huge answer":   answer(map[string]string{"vcekCert": strings.Repeat("x", 1<<20), "certificateChain": "x"}),
		"an endless wait": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.test/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := host(t, handler).Certificates(t.Context())
			if !errors.Is(err, fetch.ErrUnavailable) || c.VCEK != nil || !strings.Contains(err.Error(), azure.DefaultHost) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	report := bytes.Repeat([]byte{0xfb, 0xff}, 512) // its base64 has the letters that tell the alphabets apart
	quote := append([]byte("quote over "), report[128:192]...)
	for name, encode := range map[string]func([]byte) string{"raw": base64.RawURLEncoding.EncodeToString, "padded": base64.URLEncoding.EncodeToString} {
		h := host(t, func(w http.ResponseWriter, r *http.Request) {
			var ask map[string]string
			err := json.NewDecoder(r.Body).Decode(&ask)
			got, err2 := base64.RawURLEncoding.DecodeString(ask["report"])
			if r.URL.Path != "/acc/tdquote" || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" ||
				err != nil || err2 != nil || !bytes.Equal(got, report) {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			answer(map[string]string{"quote": encode(quote)})(w, r)
		})
		got, err := h.Quote(t.Context(), report)
		if err != nil || !bytes.Equal(got, quote) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, handler := range map[string]http.HandlerFunc{
		"no quote":          answer(map[string]string{}),
		"no base64":         answer(map[string]string{"quote": "*"}),
		"another type":      answer(map[string]any{"quote": []int{1}}),
		"over other data":   answer(map[string]string{"quote": base64.RawURLEncoding.EncodeToString(make([]byte, 5000))}),
		"a page":            func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"an internal error": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := host(t, handler).Quote(t.Context(), report)
			if !errors.Is(err, fetch.ErrUnavailable) || got != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}
