// SPDX-License-Identifier: Apache-2.0

package endorse_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"testing"

	"github.com/kettle/attest/attest/collect/endorse"
	"github.com/kettle/attest/attest/collect/fetch"
	"github.com/kettle/attest/attest/tdx"
	"github.com/kettle/attest/attest/tdx/tdxtest"
)

// intel serves a PKI's collateral as the PCS does.
func intel(t *testing.T, s *service, p *tdxtest.PKI) {
	t.Helper()
	f := p.Collateral(p.NewCollateral())
	escape := func(pem string) string { return url.PathEscape(pem) }
	s.set("/tdx/certification/v4/tcb?fmspc="+hex.EncodeToString(p.FMSPC[:]),
		fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, f["tcb_info"], f["tcb_info_signature"]), "TCB-Info-Issuer-Chain", escape(f["tcb_info_issuer_chain"]))
	s.set("/tdx/certification/v4/qe/identity",
		fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%s"}`, f["qe_identity"], f["qe_identity_signature"]), "SGX-Enclave-Identity-Issuer-Chain", escape(f["qe_identity_issuer_chain"]))
	crl, err := hex.DecodeString(f["pck_crl"])
	if err != nil {
		t.Fatal(err)
	}
	s.set("/sgx/certification/v4/pckcrl?ca=platform&encoding=der", crl, "SGX-PCK-CRL-Issuer-Chain", escape(f["pck_crl_issuer_chain"]))
	s.set("/root.der", []byte(f["root_ca_crl"]+"\n")) // in hexadecimal, as a PCCS sends it
}

func TestTDX(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{})
	c, s := start(t, p.Day())
	intel(t, s, p)
	quote := p.Quote(tdxtest.NewQuote())
	k, err := endorse.ReadPCK(quote)
	if err != nil || k.FMSPC != p.FMSPC || k.CA != endorse.Platform {
		t.Fatalf("%+v, %v", k, err)
	}
	got, err := c.TDX(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	file, err := got.JSON()
	if err != nil {
		t.Fatal(err)
	}
	// Byte for byte what Intel signed: the verifier takes it.
	collateral, err := tdx.ParseCollateral(file)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := tdx.ParseRoots(p.PEM(tdxtest.Root))
	if err != nil {
		t.Fatal(err)
	}
	q, err := tdx.Verify(quote, roots, p.Day())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.TCB(collateral, p.Day()); err != nil {
		t.Error(err)
	}
	var members map[string]string
	if err := json.Unmarshal(file, &members); err != nil {
		t.Fatal(err)
	}
	for name, want := range p.Collateral(p.NewCollateral()) {
		if name != "pck_crl" && name != "root_ca_crl" && members[name] != want {
			t.Errorf("%s differs", name)
		}
	}
	asked := s.asked.Load()
	if _, err := c.TDX(t.Context(), k); err != nil || s.asked.Load() != asked {
		t.Errorf("not from the cache: %v", err)
	}
}

func TestTDXFails(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{})
	other := tdxtest.New(tdxtest.Config{FMSPC: [6]byte{9}})
	f, of := p.Collateral(p.NewCollateral()), other.Collateral(other.NewCollateral())
	k := endorse.PCK{FMSPC: p.FMSPC, CA: endorse.Platform}
	tcb, qe := "/tdx/certification/v4/tcb?fmspc="+hex.EncodeToString(p.FMSPC[:]), "/tdx/certification/v4/qe/identity"
	pck := "/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
	answer := func(info, signature string) []byte {
		return fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, info, signature)
	}
	chain := url.PathEscape(f["tcb_info_issuer_chain"])
	type fault struct {
		path   string
		body   []byte
		header string
	}
	for name, tt := range map[string]fault{
		"no TCB info":          {tcb, nil, chain},
		"a page":               {tcb, []byte("<html>"), chain},
		"no chain":             {tcb, answer(f["tcb_info"], f["tcb_info_signature"]), ""},
		"a chain of nothing":   {tcb, answer(f["tcb_info"], f["tcb_info_signature"]), "abc"},
		"a chain badly quoted": {tcb, answer(f["tcb_info"], f["tcb_info_signature"]), "%zz"},
		"a short signature":    {tcb, answer(f["tcb_info"], "00"), chain},
		"no signature":         {tcb, []byte(`{"tcbInfo":` + f["tcb_info"] + `}`), chain},
		"the info twice":       {tcb, []byte(`{"tcbInfo":` + f["tcb_info"] + `,"tcbInfo":` + of["tcb_info"] + `,"signature":"` + f["tcb_info_signature"] + `"}`), chain},
		"the info in capitals": {tcb, []byte(`{"TCBINFO":` + f["tcb_info"] + `,"signature":"` + f["tcb_info_signature"] + `"}`), chain},
		"another platform's":   {tcb, answer(of["tcb_info"], of["tcb_info_signature"]), chain},
		"cut":                  {tcb, answer(f["tcb_info"], f["tcb_info_signature"])[:300], chain},
		"huge":                 {tcb, bytes.Repeat([]byte(" "), 2<<20), chain},
		"no identity":          {qe, nil, ""},
		"an identity of info":  {qe, answer(f["tcb_info"], f["tcb_info_signature"]), ""},
		"no PCK list":          {pck, nil, ""},
		"PCK list of text":     {pck, []byte("list"), ""},
		"no root list":         {"/root.der", nil, ""},
		"root list of text":    {"/root.der", []byte("list"), ""},
		"root list is a page":  {"/root.der", []byte("abcd"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, s := start(t, p.Day())
			intel(t, s, p)
			if tt.body == nil {
				s.mu.Lock()
				delete(s.answers, tt.path)
				s.mu.Unlock()
			} else {
				s.set(tt.path, tt.body, "TCB-Info-Issuer-Chain", tt.header, "SGX-PCK-CRL-Issuer-Chain", chain)
			}
			got, err := c.TDX(t.Context(), k)
			if err == nil || got != nil {
				t.Fatal("it was taken")
			}
			if name != "another platform's" && !errors.Is(err, fetch.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		})
	}
	c, s := start(t, p.Day())
	if _, err := c.TDX(t.Context(), endorse.PCK{CA: "elsewhere&x="}); err == nil || s.asked.Load() != 0 {
		t.Errorf("got %v", err)
	}
}

// What is past its own date is handed on for the verifier to judge, and asked for again the next time.
func TestStaleIsNotKept(t *testing.T) {
	t.Parallel()
	p := tdxtest.New(tdxtest.Config{})
	c, s := start(t, p.At.AddDate(2, 0, 0))
	intel(t, s, p)
	k := endorse.PCK{FMSPC: p.FMSPC, CA: endorse.Platform}
	for n := range int32(2) {
		if _, err := c.TDX(t.Context(), k); err != nil || s.asked.Load() != 4*(n+1) {
			t.Errorf("%d requests, %v", s.asked.Load(), err)
		}
	}
}
