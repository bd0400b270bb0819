// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"

	"github.com/kettle/attest/attest/collect/endorse"
	"github.com/kettle/attest/attest/collect/fault"
	"github.com/kettle/attest/attest/collect/fetch"
	"github.com/kettle/attest/attest/collect/tpm"
	"github.com/kettle/attest/attest/collect/tsm"
	"github.com/kettle/attest/attest/snp/snptest"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// bench is a machine made of fakes and the makers' services beside it.
type bench struct {
	machine
	config Config
	asked  atomic.Int32
	mu     sync.Mutex
	serves map[string]http.HandlerFunc // by path and query, guarded by mu
}

// newBench makes a machine that has nothing, with services that know nothing.
func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{serves: map[string]http.HandlerFunc{}}
	b.machine = machine{
		root: t.TempDir(),
		tsm: func(p tsm.Provider) (configfsi.Client, error) {
			return nil, &UnsupportedError{Platform: string(p), Need: "configfs-tsm"}
		},
		guest: tsm.OpenGuest, tpm: tpm.Open,
		sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked.Add(1)
		b.mu.Lock()
		h := b.serves[r.URL.RequestURI()]
		b.mu.Unlock()
		if h == nil {
			http.NotFound(w, r)
			return
		}
		h(w, r)
	}))
	t.Cleanup(s.Close)
	now := func() time.Time { return snptest.Time() }
	b.config = Config{
		Fetch:   fetch.Config{Transport: fetch.Direct(), Sleep: b.sleep, Attempts: 2, Now: now},
		Endorse: endorse.Config{KDS: s.URL, PCS: s.URL, RootCRL: s.URL + "/root", GCE: s.URL, Now: now},
		Host:    s.URL,
	}
	return b
}

func (b *bench) open(t *testing.T, platform string) (*Device, error) {
	t.Helper()
	d, err := b.config.open(t.Context(), platform, b.machine)
	if err == nil {
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return d, err
}

func (b *bench) opened(t *testing.T, platform string) *Device {
	t.Helper()
	d, err := b.open(t, platform)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (b *bench) serve(path string, body []byte, header ...string) {
	b.handle(path, func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		_, _ = w.Write(body)
	})
}

func (b *bench) handle(path string, h http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serves[path] = h
}

// file writes a file of the kernel's.
func (b *bench) file(t *testing.T, path string, data []byte) {
	t.Helper()
	path = filepath.Join(b.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// chip is a configfs-tsm whose reports a maker's synthetic chip signs.
type chip struct {
	mu     sync.Mutex
	out    func(data [64]byte) []byte // guarded by mu
	aux    []byte
	before func()
}

func (b *bench) configfs(p tsm.Provider, c *chip) {
	base := faketsm.Report611(0)
	base.Random = rand.Reader
	makeEntry, inner := base.MakeEntry, base.ReadAttr
	base.MakeEntry = func() *faketsm.ReportEntry {
		e := makeEntry()
		e.ReadGeneration = 1 << 40 // never what was written: faketsm then asks ReadAttr each time
		return e
	}
	base.ReadAttr = func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch attr {
		case "provider":
			return []byte(string(p) + "\n"), nil
		case "auxblob":
			return c.aux, nil
		case "outblob":
			if c.before != nil {
				c.before()
			}
			return c.out([64]byte(e.InAttrs["inblob"].Value)), nil
		}
		return inner(e, attr)
	}
	client := &faketsm.Client{Subsystems: map[string]configfsi.Client{"report": base}}
	b.tsm = func(tsm.Provider) (configfsi.Client, error) { return client, nil }
}

// snp gives the machine a chip of AMD's, without a certificate table.
func (b *bench) snp(t *testing.T, m *snptest.Machine) *chip {
	t.Helper()
	c := &chip{out: func(data [64]byte) []byte { m.SetReportData(data); return m.Signed(t) }}
	b.configfs(tsm.SNP, c)
	return c
}

// kds serves AMD's documents for a chip and gives the leaf's address.
func (b *bench) kds(t *testing.T, m *snptest.Machine) string {
	t.Helper()
	kind := map[string]string{"VCEK": "vcek", "VLEK": "vlek"}[m.Key]
	b.serve("/"+kind+"/v1/"+m.Line+"/cert_chain", append(snptest.PEM(m.ASKDER(t)), snptest.PEM(m.ARKDER(t))...))
	b.serve("/"+kind+"/v1/"+m.Line+"/crl", m.CRL(t))
	r := m.Report
	address := fmt.Sprintf("/vcek/v1/%s/%x?blSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d", m.Line, r[0x1a0:0x1e0], r[0x180], r[0x181], r[0x186], r[0x187])
	if m.Line == "Turin" {
		address = fmt.Sprintf("/vcek/v1/Turin/%x?fmcSPL=%02d&blSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d", r[0x1a0:0x1a8], r[0x180], r[0x181], r[0x182], r[0x183], r[0x187])
	}
	if m.Key == "VCEK" {
		b.serve(address, m.LeafDER(t))
	}
	return address
}

// tdx gives the machine a platform of Intel's and serves its collateral.
func (b *bench) tdx(t *testing.T, p *tdxtest.PKI) *chip {
	t.Helper()
	c := &chip{out: func(data [64]byte) []byte {
		q := tdxtest.NewQuote()
		q.Body.ReportData = data
		return p.Quote(q)
	}}
	b.configfs(tsm.TDX, c)
	b.pcs(t, p)
	return c
}

func (b *bench) pcs(t *testing.T, p *tdxtest.PKI) {
	t.Helper()
	f := p.Collateral(p.NewCollateral())
	raw := func(name string) []byte {
		der, err := hex.DecodeString(f[name])
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	b.serve("/tdx/certification/v4/tcb?fmspc="+hex.EncodeToString(p.FMSPC[:]),
		fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, f["tcb_info"], f["tcb_info_signature"]), "TCB-Info-Issuer-Chain", url.PathEscape(f["tcb_info_issuer_chain"]))
	b.serve("/tdx/certification/v4/qe/identity",
		fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%s"}`, f["qe_identity"], f["qe_identity_signature"]), "SGX-Enclave-Identity-Issuer-Chain", url.PathEscape(f["qe_identity_issuer_chain"]))
	b.serve("/sgx/certification/v4/pckcrl?ca=platform&encoding=der", raw("pck_crl"), "SGX-PCK-CRL-Issuer-Chain", url.PathEscape(f["pck_crl_issuer_chain"]))
	b.serve("/root", raw("root_ca_crl"))
}

// noted gives the reason of a note, "" if there is none of that item.
func noted(q Quote, item string) string {
	for _, n := range q.Notes {
		if n.Item == item {
			return n.Reason
		}
	}
	return ""
}

// broken is a client or device that is there and fails.
func broken() error { return fault.Broken("opening", os.ErrPermission) }
