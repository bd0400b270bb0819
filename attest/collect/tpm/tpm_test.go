// SPDX-License-Identifier: Apache-2.0

package tpm_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/collect/fault"
	"github.com/kettle/attest/attest/collect/tpm"
	"github.com/kettle/attest/attest/collect/tpm/tpmtest"
	"github.com/kettle/attest/attest/vtpm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start gives a fresh TPM and the hook in front of it.
func start(t *testing.T) (*tpm.TPM, *tpmtest.Hook) {
	t.Helper()
	h := &tpmtest.Hook{TPMCloser: tpmtest.Start(t)}
	return tpm.New(h), h
}

func TestOpen(t *testing.T) {
	t.Parallel()
	_, err := tpm.Open("vtpm", filepath.Join(t.TempDir(), "tpmrm0"))
	var u *fault.UnsupportedError
	if !errors.As(err, &u) || u.Platform != "vtpm" || errors.Is(err, fault.ErrBroken) {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.Open("vtpm", file); !errors.Is(err, fault.ErrBroken) || errors.Is(err, fault.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	d, err := tpm.Open("vtpm", os.DevNull) // a device that answers nothing
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.PCRs(t.Context(), []int{0}); !errors.Is(err, fault.ErrBroken) {
		t.Errorf("got %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestExtendAndRead(t *testing.T) {
	t.Parallel()
	d, _ := start(t)
	var want [32]byte
	for i := range 3 {
		digest := [32]byte{byte(i + 1)}
		got, err := d.Extend(t.Context(), 15, digest)
		want = sha256.Sum256(append(want[:], digest[:]...))
		if err != nil || got != want {
			t.Fatalf("%x, %v", got, err)
		}
	}
	all := make([]int, 24)
	for i := range all {
		all[i] = i
	}
	values, err := d.PCRs(t.Context(), all)
	if err != nil || len(values) != 24 || values[15] != want || values[14] != [32]byte{} || values[17] == [32]byte{} {
		t.Errorf("%x, %v", values, err)
	}
}

func TestSelection(t *testing.T) {
	t.Parallel()
	d, _ := start(t)
	ak, err := d.CreateAK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, pcrs := range [][]int{nil, {}, {24}, {-1}, {1, 1}, {2, 1}} {
		if _, err := d.PCRs(t.Context(), pcrs); err == nil {
			t.Errorf("%v was read", pcrs)
		}
		if q, err := d.Quote(t.Context(), ak, nil, pcrs); err == nil || q.Attest != nil {
			t.Errorf("%v was quoted", pcrs)
		}
	}
	if _, err := d.Quote(t.Context(), ak, make([]byte, 67), []int{0}); err == nil {
		t.Error("67 bytes of extra data were quoted")
	}
	if _, err := d.Extend(t.Context(), 24, [32]byte{}); err == nil {
		t.Error("PCR 24 was extended")
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	d, _ := start(t)
	ak, err := d.CreateAK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.CreateAK(t.Context())
	if err != nil || !bytes.Equal(ak.Public, again.Public) {
		t.Errorf("another key after another start: %v", err)
	}
	if err := d.Flush(again); err != nil {
		t.Error(err)
	}
	name, err := vtpm.Name(ak.Public)
	if err != nil || !bytes.Equal(name, ak.Name) {
		t.Errorf("the key's name is %x, of its public area %x, %v", ak.Name, name, err)
	}
	extra := bytes.Repeat([]byte{7}, 64)
	for _, pcrs := range [][]int{{0}, {15}, {0, 7, 15, 23}} {
		q, err := d.Quote(t.Context(), ak, extra, pcrs)
		if err != nil {
			t.Fatal(err)
		}
		if len(q.PCRs) != len(pcrs) || !bytes.Equal(q.AKPublic, ak.Public) || len(q.Signature) == 0 {
			t.Errorf("%+v", q)
		}
		a, err := tpm2.Unmarshal[tpm2.TPMSAttest](q.Attest)
		if err != nil || !bytes.Equal(a.ExtraData.Buffer, extra) {
			t.Errorf("%v", err)
		}
	}
}

// A quote and the values beside it are of one moment, or there is none.
func TestAttackRegisterChangedBehindQuote(t *testing.T) {
	t.Parallel()
	for changes, works := range map[int]bool{1: true, 3: true, 100: false} {
		d, h := start(t)
		ak, err := d.CreateAK(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		other := tpm.New(h.TPMCloser.(interface {
			Send([]byte) ([]byte, error)
			Close() error
		}))
		left := changes
		h.Before = func(code tpm2.TPMCC, _ uint32, _ []byte) ([]byte, error) {
			if code == tpm2.TPMCCPCRRead && left > 0 { // after the quote, before its values are read
				left--
				if _, err := other.Extend(t.Context(), 15, [32]byte{9}); err != nil {
					t.Error(err)
				}
			}
			return nil, nil
		}
		q, err := d.Quote(t.Context(), ak, nil, []int{15})
		if works && err != nil || !works && (!errors.Is(err, fault.ErrBroken) || q.Attest != nil) {
			t.Errorf("%d changes: %v", changes, err)
		}
	}
}

// TestAttackQuoteOfAnotherQuestion: a TPM that answers with a quote over other data or registers is found out at once.
func TestAttackQuoteOfAnotherQuestion(t *testing.T) {
	t.Parallel()
	d, h := start(t)
	ak, err := d.CreateAK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var recorded []byte
	record := func(extra []byte, pcrs []int) {
		h.Before = func(code tpm2.TPMCC, _ uint32, command []byte) ([]byte, error) {
			if code == tpm2.TPMCCQuote {
				var err error
				recorded, err = h.TPMCloser.Send(command)
				return recorded, err
			}
			return nil, nil
		}
		if _, err := d.Quote(t.Context(), ak, extra, pcrs); err != nil {
			t.Fatal(err)
		}
	}
	for says, ask := range map[string]func(){
		"other data":      func() { record([]byte("old"), []int{15}) },
		"other registers": func() { record([]byte("new"), []int{14}) },
	} {
		ask()
		h.Before = func(code tpm2.TPMCC, _ uint32, _ []byte) ([]byte, error) {
			if code == tpm2.TPMCCQuote {
				return recorded, nil
			}
			return nil, nil
		}
		q, err := d.Quote(t.Context(), ak, []byte("new"), []int{15})
		if !errors.Is(err, fault.ErrBroken) || !strings.Contains(err.Error(), says) || q.Attest != nil {
			t.Errorf("%s: %v", says, err)
		}
	}
}

func TestNV(t *testing.T) {
	t.Parallel()
	d, h := start(t)
	long := make([]byte, 2000)
	_, _ = rand.Read(long)
	tpmtest.Define(t, h, 0x01500001, long)
	if got, err := d.ReadNV(t.Context(), 0x01500001); err != nil || !bytes.Equal(got, long) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := d.ReadNV(t.Context(), 0x01500002); !errors.Is(err, tpm.ErrAbsent) || errors.Is(err, fault.ErrBroken) {
		t.Errorf("got %v", err)
	}
	for range 2 { // the first time defines the index
		if err := d.WriteNV(t.Context(), 0x01500003, long[:64]); err != nil {
			t.Fatal(err)
		}
		if got, err := d.ReadNV(t.Context(), 0x01500003); err != nil || !bytes.Equal(got, long[:64]) {
			t.Errorf("%x, %v", got, err)
		}
	}
	if err := d.WriteNV(t.Context(), 0x01500003, long[:32]); !errors.Is(err, fault.ErrBroken) {
		t.Errorf("an index of another size: %v", err)
	}
	for _, n := range []int{0, 513} {
		if err := d.WriteNV(t.Context(), 0x01500004, long[:n]); err == nil {
			t.Errorf("%d bytes were written", n)
		}
	}
	// An index that changes during every read.
	h.Before = func(code tpm2.TPMCC, handle uint32, _ []byte) ([]byte, error) {
		if code == tpm2.TPMCCNVReadPublic && handle == 0x01500001 {
			long[0]++
			tpmtest.Write(t, h.TPMCloser, 0x01500001, long)
		}
		return nil, nil
	}
	if _, err := d.ReadNV(t.Context(), 0x01500001); !errors.Is(err, fault.ErrBroken) {
		t.Errorf("got %v", err)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	d, h := start(t)
	if _, err := d.Key(t.Context(), 0x81000003); !errors.Is(err, tpm.ErrAbsent) {
		t.Errorf("got %v", err)
	}
	public := tpmtest.AzureKey(t, h)
	k, err := d.Key(t.Context(), 0x81000003)
	if err != nil || !bytes.Contains(k.Public, public.N.Bytes()) {
		t.Fatalf("%v", err)
	}
	if err := d.Flush(k); err != nil { // a persistent key stays
		t.Error(err)
	}
	if _, err := d.Quote(t.Context(), k, []byte("x"), []int{0}); err != nil {
		t.Error(err)
	}
	ak, err := d.CreateAK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same, err := d.CreateFrom(t.Context(), ak.Public)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(same.Public[:8], ak.Public[:8]) {
		t.Error("another kind of key")
	}
	if _, err := d.CreateFrom(t.Context(), []byte{1, 2, 3}); !errors.Is(err, fault.ErrBroken) {
		t.Errorf("got %v", err)
	}
	if err := d.Flush(ak); err != nil {
		t.Error(err)
	}
	if err := d.Flush(ak); !errors.Is(err, fault.ErrBroken) {
		t.Errorf("flushed twice: %v", err)
	}
}

func TestActivate(t *testing.T) {
	t.Parallel()
	for name, algorithm := range map[string]tpm.Algorithm{"P-256": tpm.P256, "RSA": tpm.RSA2048} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, _ := start(t)
			ak, err := d.CreateAK(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ek, err := d.CreateEK(t.Context(), algorithm)
			if err != nil {
				t.Fatal(err)
			}
			public, err := tpm2.Unmarshal[tpm2.TPMTPublic](ek.Public)
			if err != nil {
				t.Fatal(err)
			}
			key, err := tpm2.ImportEncapsulationKey(public)
			if err != nil {
				t.Fatal(err)
			}
			want := []byte("the verifier's secret")
			blob, secret, err := tpm2.CreateCredential(rand.Reader, key, ak.Name, want)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				got, err := d.Activate(t.Context(), ek, ak, blob, secret)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%q, %v", got, err)
				}
			}
			// A challenge for another key of this TPM.
			other, secret, err := tpm2.CreateCredential(rand.Reader, key, ek.Name, want)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := d.Activate(t.Context(), ek, ak, other, secret); !errors.Is(err, fault.ErrBroken) || got != nil {
				t.Errorf("%q, %v", got, err)
			}
			if got, err := d.Activate(t.Context(), ek, ak, blob, secret); err == nil {
				t.Errorf("the parts of two challenges: %q", got)
			}
		})
	}
}

// Every command may fail, be cut or be refused: each time that is a broken device, never an absent one, and no result.
func TestEveryCommandFails(t *testing.T) {
	t.Parallel()
	d, h := start(t)
	tpmtest.Define(t, h, 0x01500001, make([]byte, 600))
	ak, err := d.CreateAK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all := func(ctx context.Context) map[tpm2.TPMCC]func() error {
		return map[tpm2.TPMCC]func() error{
			tpm2.TPMCCPCRRead:       func() error { _, err := d.PCRs(ctx, []int{0}); return err },
			tpm2.TPMCCPCRExtend:     func() error { _, err := d.Extend(ctx, 15, [32]byte{}); return err },
			tpm2.TPMCCQuote:         func() error { _, err := d.Quote(ctx, ak, nil, []int{0}); return err },
			tpm2.TPMCCNVReadPublic:  func() error { _, err := d.ReadNV(ctx, 0x01500001); return err },
			tpm2.TPMCCNVRead:        func() error { _, err := d.ReadNV(ctx, 0x01500001); return err },
			tpm2.TPMCCNVWrite:       func() error { return d.WriteNV(ctx, 0x01500005, []byte{1}) },
			tpm2.TPMCCNVDefineSpace: func() error { return d.WriteNV(ctx, 0x01500006, []byte{1}) },
			tpm2.TPMCCReadPublic:    func() error { _, err := d.Key(ctx, 0x81000003); return err },
			tpm2.TPMCCCreatePrimary: func() error { _, err := d.CreateEK(ctx, tpm.P256); return err },
			tpm2.TPMCCPolicySecret:  func() error { _, err := d.Activate(ctx, ak, ak, nil, nil); return err },
		}
	}
	faults := map[string]func([]byte) ([]byte, error){
		"the line is cut":   func([]byte) ([]byte, error) { return nil, os.ErrDeadlineExceeded },
		"failure mode":      func([]byte) ([]byte, error) { return tpmtest.Error(tpm2.TPMRCFailure), nil },
		"half an answer":    func([]byte) ([]byte, error) { return []byte{0x80, 1, 0, 0}, nil },
		"an answer of none": func([]byte) ([]byte, error) { return tpmtest.Error(tpm2.TPMRCSuccess), nil },
	}
	for code, call := range all(t.Context()) {
		for name, answer := range faults {
			h.Before = func(c tpm2.TPMCC, _ uint32, command []byte) ([]byte, error) {
				if c == code {
					return answer(command)
				}
				return nil, nil
			}
			err := call()
			if code == tpm2.TPMCCPCRExtend && name == "an answer of none" || code == tpm2.TPMCCNVWrite && name == "an answer of none" || code == tpm2.TPMCCNVDefineSpace && name == "an answer of none" {
				if err == nil && code == tpm2.TPMCCPCRExtend {
					t.Errorf("%v, %s: an extension that had no effect was believed", code, name)
				}
				continue
			}
			if !errors.Is(err, fault.ErrBroken) || errors.Is(err, tpm.ErrAbsent) || errors.Is(err, fault.ErrUnsupported) {
				t.Errorf("%v, %s: got %v", code, name, err)
			}
		}
	}
	h.Before = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for code, call := range all(ctx) {
		if err := call(); !errors.Is(err, context.Canceled) || errors.Is(err, fault.ErrBroken) {
			t.Errorf("%v after the end: %v", code, err)
		}
	}
	if err := d.Close(); err != nil || !h.Closed {
		t.Error("not closed")
	}
}
