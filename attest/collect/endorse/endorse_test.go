// SPDX-License-Identifier: Apache-2.0

package endorse_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/collect/endorse"
	"github.com/kettle/attest/attest/collect/fetch"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/attest/snp/snptest"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
	"github.com/kettle/attest/internal/vectors"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service plays the services of AMD, Intel and Google: fixed answers by path and query.
type service struct {
	mu      sync.Mutex
	answers map[string]http.HandlerFunc // guarded by mu
	asked   atomic.Int32
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	s.mu.Lock()
	h := s.answers[r.URL.RequestURI()]
	s.mu.Unlock()
	if h == nil {
		http.NotFound(w, r)
		return
	}
	h(w, r)
}

func (s *service) set(path string, body []byte, header ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header()[header[i]] = []string{header[i+1]} // as Intel spells it
		}
		_, _ = w.Write(body)
	}
}

func start(t *testing.T, now time.Time) (*endorse.Client, *service) {
	t.Helper()
	s := &service{answers: map[string]http.HandlerFunc{}}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	clock := func() time.Time { return now }
	f := fetch.New(fetch.Config{
		Transport: fetch.Direct(), Now: clock, Attempts: 2,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	})
	return endorse.New(f, endorse.Config{KDS: h.URL + "/", PCS: h.URL, RootCRL: h.URL + "/root.der", GCE: h.URL, Now: clock}), s
}

func TestReadAMDKey(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		m    *snptest.Machine
		line endorse.Line
		vlek bool
	}{
		"Milan": {snptest.New("Milan", "VCEK"), endorse.Milan, false},
		"Genoa": {snptest.New("Genoa", "VCEK"), endorse.Genoa, false},
		"Turin": {snptest.New("Turin", "VCEK"), endorse.Turin, false},
		"VLEK":  {snptest.New("Milan", "VLEK"), endorse.Milan, true},
	} {
		k, err := endorse.ReadAMDKey(tt.m.Report)
		if err != nil || k.Line != tt.line || k.VLEK != tt.vlek || !bytes.Equal(k.ChipID[:], tt.m.Report[0x1a0:0x1e0]) || !bytes.Equal(k.TCB[:], tt.m.Report[0x180:0x188]) {
			t.Errorf("%s: %+v, %v", name, k, err)
		}
		if err := k.Fits(tt.m.LeafDER(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		tt.m.Report[0x187]++
		k, _ = endorse.ReadAMDKey(tt.m.Report)
		if err := k.Fits(tt.m.LeafDER(t)); err == nil {
			t.Errorf("%s: a certificate of another TCB fits", name)
		}
	}
	m := snptest.New("Milan", "VCEK")
	m.SetVersion(2)
	if k, err := endorse.ReadAMDKey(m.Report); err != nil || k.Line != "" {
		t.Errorf("version 2: %+v, %v", k, err)
	}
	clear(m.Report[0x1a0:0x1e0])
	if k, err := endorse.ReadAMDKey(m.Report); !errors.Is(err, endorse.ErrNoChip) || k.TCB == [8]byte{} {
		t.Errorf("no chip: %v", err)
	}
	m = snptest.New("Milan", "VCEK")
	m.Report[0x48] |= 2
	if _, err := endorse.ReadAMDKey(m.Report); !errors.Is(err, endorse.ErrNoChip) {
		t.Errorf("masked chip: %v", err)
	}
	m = snptest.New("Milan", "VCEK")
	m.Report[0x188] = 0x17
	if _, err := endorse.ReadAMDKey(m.Report); err == nil {
		t.Error("an unknown processor has a line")
	}
	if _, err := endorse.ReadAMDKey(m.Report[:1183]); err == nil {
		t.Error("a short report was read")
	}
	for _, c := range []struct {
		family, model uint8
		want          endorse.Line
	}{{0x19, 0xa0, endorse.Genoa}, {0x19, 0x11, endorse.Genoa}, {0x1a, 0x11, endorse.Turin}, {0x19, 1, endorse.Milan}, {0x19, 0x20, ""}, {0x1a, 0x20, ""}} {
		if line, _ := endorse.LineOf(c.family, c.model); line != c.want {
			t.Errorf("%#x %#x is %q", c.family, c.model, line)
		}
	}
}

// TestAddressesOfAMD fixes the addresses that AMD 57230 gives.
func TestAddressesOfAMD(t *testing.T) {
	t.Parallel()
	chip := [64]byte{0: 0xab, 7: 0xcd, 63: 0xef}
	old := "/vcek/v1/%s/" + hex.EncodeToString(chip[:]) + "?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"
	for line, address := range map[endorse.Line]string{
		endorse.Milan: fmt.Sprintf(old, "Milan"), endorse.Genoa: fmt.Sprintf(old, "Genoa"),
		endorse.Turin: "/vcek/v1/Turin/ab000000000000cd?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=81",
	} {
		c, s := start(t, snptest.Time())
		m := snptest.New(string(line), "VCEK")
		leaf := m.LeafDER(t)
		s.set(address, leaf)
		k := endorse.AMDKey{Line: line, ChipID: chip, TCB: [8]byte{4, 0, 0, 0, 0, 0, 24, 219}}
		if line == endorse.Turin {
			k.TCB = [8]byte{1, 2, 3, 4, 0, 0, 0, 81}
		}
		for range 2 { // the second from the cache
			got, err := c.VCEK(t.Context(), k)
			if err != nil || !bytes.Equal(got, leaf) {
				t.Errorf("%s: %v", line, err)
			}
		}
		if s.asked.Load() != 1 {
			t.Errorf("%d requests", s.asked.Load())
		}
	}
}

func TestAMD(t *testing.T) {
	t.Parallel()
	for kind, key := range map[string]string{"vcek": "VCEK", "vlek": "VLEK"} {
		c, s := start(t, snptest.Time())
		m := snptest.New("Genoa", key)
		k, err := endorse.ReadAMDKey(m.Report)
		if err != nil {
			t.Fatal(err)
		}
		chain := append(snptest.PEM(m.ASKDER(t)), snptest.PEM(m.ARKDER(t))...)
		s.set("/"+kind+"/v1/Genoa/cert_chain", chain)
		s.set("/"+kind+"/v1/Genoa/crl", m.CRL(t))
		if got, err := c.AMDChain(t.Context(), k); err != nil || !bytes.Equal(got, chain) {
			t.Errorf("%v", err)
		}
		if got, err := c.AMDCRL(t.Context(), k); err != nil || len(got) == 0 {
			t.Errorf("%v", err)
		}
		s.set("/"+kind+"/v1/Genoa/cert_chain", snptest.PEM(m.ASKDER(t)))
		asked := s.asked.Load()
		if _, err := c.AMDChain(t.Context(), k); err != nil || s.asked.Load() != asked {
			t.Errorf("not from the cache: %v", err)
		}
	}
}

func TestAMDFails(t *testing.T) {
	t.Parallel()
	m := snptest.New("Milan", "VCEK")
	k, err := endorse.ReadAMDKey(m.Report)
	if err != nil {
		t.Fatal(err)
	}
	ask := snptest.PEM(m.ASKDER(t))
	for name, body := range map[string][]byte{
		"a page": []byte("<html>"), "nothing": {}, "cut": m.LeafDER(t)[:100], "trailing": append(m.LeafDER(t), 0),
		"one of two": ask, "three": bytes.Repeat(ask, 3), "text behind": append(bytes.Repeat(ask, 2), "text"...),
		"another block": append(bytes.Clone(ask), "-----BEGIN X-----\nAAAA\n-----END X-----\n"...), "huge": make([]byte, 5<<20),
	} {
		c, s := start(t, snptest.Time())
		address := fmt.Sprintf("/vcek/v1/Milan/%x?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219", k.ChipID)
		for _, path := range []string{address, "/vcek/v1/Milan/cert_chain", "/vcek/v1/Milan/crl"} {
			s.set(path, body)
		}
		_, err1 := c.VCEK(t.Context(), k)
		_, err2 := c.AMDChain(t.Context(), k)
		_, err3 := c.AMDCRL(t.Context(), k)
		for i, err := range []error{err1, err2, err3} {
			if !errors.Is(err, fetch.ErrUnavailable) {
				t.Errorf("%s, document %d: got %v", name, i, err)
			}
		}
	}
	c, s := start(t, snptest.Time())
	if _, err := c.VCEK(t.Context(), k); !errors.Is(err, fetch.ErrUnavailable) || !strings.Contains(err.Error(), "key distribution service") {
		t.Errorf("got %v", err)
	}
	asked := s.asked.Load()
	for _, bad := range []endorse.AMDKey{{}, {Line: endorse.Milan}, {Line: endorse.Milan, VLEK: true, ChipID: k.ChipID}, {ChipID: k.ChipID}} {
		if _, err := c.VCEK(t.Context(), bad); err == nil || s.asked.Load() != asked {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := k.Fits([]byte("x")); err == nil {
		t.Error("no certificate fits")
	}
	if err := k.Fits(m.ASKDER(t)); err == nil {
		t.Error("a certificate without a TCB fits")
	}
}

func TestLaunch(t *testing.T) {
	t.Parallel()
	c, s := start(t, snptest.Time())
	digest := bytes.Repeat([]byte{0xab}, 48)
	want := []byte{0x0a, 3, 1, 2, 3}
	s.set("/ovmf_x64_csm/sevsnp/"+strings.Repeat("ab", 48)+".binarypb", want)
	s.set("/ovmf_x64_csm/tdx/"+strings.Repeat("ab", 48)+".binarypb", []byte("<html>"))
	if got, err := c.Launch(t.Context(), endorse.SEVSNP, digest); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v", got, err)
	}
	if _, err := c.Launch(t.Context(), endorse.TDX, digest); !errors.Is(err, fetch.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Launch(t.Context(), endorse.TDX, digest[1:]); err == nil {
		t.Error("a short measurement")
	}
	digest[0]++
	if _, err := c.Launch(t.Context(), endorse.SEVSNP, digest); !errors.Is(err, fetch.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestReadPCKFails(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{})
	leaf := p.PEM(tdxtest.PCKLeaf)
	for name, quote := range map[string][]byte{
		"empty": nil, "no certificate": []byte("quote"), "cut": leaf[:200], "no PCK": p.PEM(tdxtest.TCBSigning),
		"no end": []byte("-----BEGIN CERTIFICATE-----"), "no DER": []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"extension of nothing": tdxtest.New(tdxtest.Config{Extension: []byte{0x30, 0}}).PEM(tdxtest.PCKLeaf),
		"extension of bytes":   tdxtest.New(tdxtest.Config{Extension: []byte{4, 1, 0}}).PEM(tdxtest.PCKLeaf),
	} {
		if k, err := endorse.ReadPCK(quote); err == nil || k.CA != "" && k.FMSPC != [6]byte{} {
			t.Errorf("%s: %+v, %v", name, k, err)
		}
	}
}

// TestVectors asks real evidence whom to ask.
func TestVectors(t *testing.T) {
	t.Parallel()
	dir := vectors.TEE(t)
	reports, err := filepath.Glob(filepath.Join(dir, "snp-*", "report.bin"))
	if err != nil || len(reports) == 0 {
		t.Fatalf("%v", err)
	}
	for _, path := range reports {
		report, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		k, err := endorse.ReadAMDKey(report[:min(len(report), snp.ReportSize)])
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		cert, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cert.der"))
		if err != nil || strings.Contains(path, "wrong") {
			continue
		}
		if err := k.Fits(cert); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	quotes, err := filepath.Glob(filepath.Join(dir, "tdx*", "quote.bin"))
	if err != nil || len(quotes) == 0 {
		t.Fatalf("%v", err)
	}
	for _, path := range quotes {
		quote, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		k, err := endorse.ReadPCK(quote)
		if err != nil || k.FMSPC == [6]byte{} {
			t.Errorf("%s: %+v, %v", path, k, err)
		}
		file, err := os.ReadFile(filepath.Join(filepath.Dir(path), "collateral.json"))
		if err != nil {
			continue
		}
		if c, err := tdx.ParseCollateral(file); err != nil || c.FMSPC() != k.FMSPC {
			t.Logf("%s: the collateral is for another platform (%v)", path, err)
		}
	}
}

func FuzzReadPCK(f *testing.F) {
	p := tdxtest.New(tdxtest.Config{})
	f.Add(p.Quote(tdxtest.NewQuote()))
	f.Add(p.PEM(tdxtest.PCKLeaf))
	f.Fuzz(func(t *testing.T, quote []byte) {
		if k, err := endorse.ReadPCK(quote); err == nil && k.CA != endorse.Platform && k.CA != endorse.Processor {
			t.Fatalf("%+v", k)
		}
	})
}

func FuzzReadAMDKey(f *testing.F) {
	for _, line := range []string{"Milan", "Genoa", "Turin"} {
		report := make([]byte, snp.ReportSize) // small seeds: making a chip's keys takes longer than the fuzzing
		copy(report[0x188:], map[string]string{"Milan": "\x19\x01", "Genoa": "\x19\x11", "Turin": "\x1a\x02"}[line])
		report[0], report[0x1a0] = 3, 1
		f.Add(report, []byte{})
	}
	if dir := os.Getenv("KETTLE_VECTORS"); dir != "" { // real certificates, where there are any
		certs, _ := filepath.Glob(filepath.Join(dir, "tee", "snp-*", "cert.der"))
		for _, path := range certs {
			cert, err := os.ReadFile(path)
			report, err2 := os.ReadFile(filepath.Join(filepath.Dir(path), "report.bin"))
			if err == nil && err2 == nil {
				f.Add(report, cert)
			}
		}
	}
	f.Fuzz(func(t *testing.T, report, leaf []byte) {
		k, err := endorse.ReadAMDKey(report)
		if err == nil && len(report) != snp.ReportSize {
			t.Fatal("a report of another length")
		}
		_ = k.Fits(leaf)
	})
}
