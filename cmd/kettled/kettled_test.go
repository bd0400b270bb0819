// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/attest/appraise"
	"github.com/kettle/attest/attest/evidence"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/attest/snp"
	"github.com/kettle/attest/runner"
	"github.com/kettle/attest/runner/config"
	"github.com/kettle/attest/runner/sandbox"
)

// TestOpenWorkerLog: the log is the one regular file that the fresh runner wrote, and nothing that a link leads to.
func TestOpenWorkerLog(t *testing.T) {
	t.Parallel()
	const log = "Worker_20261121-120000-utc.log"
	tests := map[string]struct {
		make func(t *testing.T, diag string)
		want string // part of the error; empty for success
	}{
		"one": {make: func(t *testing.T, diag string) { write(t, filepath.Join(diag, log), "text") }},
		"beside the listener's": {make: func(t *testing.T, diag string) {
			write(t, filepath.Join(diag, log), "text")
			write(t, filepath.Join(diag, "Runner_20261121-115900-utc.log"), "other")
		}},
		"none": {make: func(*testing.T, string) {}, want: "found 0"},
		"two": {make: func(t *testing.T, diag string) {
			write(t, filepath.Join(diag, log), "text")
			write(t, filepath.Join(diag, "Worker_20261121-120001-utc.log"), "text")
		}, want: "found 2"},
		"a link": {make: func(t *testing.T, diag string) {
			write(t, filepath.Join(diag, "other"), "text")
			link(t, "other", filepath.Join(diag, log))
		}, want: "found 0"},
		"a folder": {make: func(t *testing.T, diag string) {
			if err := os.Mkdir(filepath.Join(diag, log), 0o700); err != nil {
				t.Fatal(err)
			}
		}, want: "found 0"},
		"the folder is a link out": {make: func(t *testing.T, diag string) {
			out := t.TempDir()
			write(t, filepath.Join(out, log), "text")
			if err := os.Remove(diag); err != nil {
				t.Fatal(err)
			}
			link(t, out, diag)
		}, want: "escapes"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			diag := filepath.Join(home, strings.TrimPrefix(sandbox.RunnerRoot, sandbox.Home), "_diag")
			if err := os.MkdirAll(diag, 0o700); err != nil {
				t.Fatal(err)
			}
			tc.make(t, diag)
			f, err := openWorkerLog(home)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("error %v, want one with %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if text, err := io.ReadAll(f); err != nil || string(text) != "text" {
				t.Errorf("read %q, %v", text, err)
			}
		})
	}
}

// TestAppraiser: a quote of a root that this image does not allow is refused, even a good one.
func TestAppraiser(t *testing.T) {
	t.Parallel()
	authority, err := sim.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	processor, err := authority.NewProcessor([48]byte{1}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	report, err := processor.Report([64]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := snp.EndorsementKey(processor.Endorsements())
	if err != nil {
		t.Fatal(err)
	}
	roots, err := appraise.Roots{}.WithPrivate(authority.RootsPEM())
	if err != nil {
		t.Fatal(err)
	}
	q := runner.Quote{Evidence: evidence.Evidence{Kind: evidence.SNP, Report: report, Endorsements: evidence.Endorsements{Leaf: leaf}}}
	self, err := appraiser{roots: roots, allowed: []string{"sim"}}.Appraise(q, time.Now())
	if err != nil || self.Instance.Platform != "sim" || self.Measurement != [48]byte{1} || len(self.Instance.ReportID) != 64 {
		t.Errorf("%+v, %v", self, err)
	}
	if _, err := (appraiser{roots: roots, allowed: []string{"snp"}}).Appraise(q, time.Now()); err == nil {
		t.Error("a platform that the image does not allow was accepted")
	}
	amd, err := appraise.Pinned()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (appraiser{roots: amd, allowed: []string{"sim", "snp"}}).Appraise(q, time.Now()); !errors.Is(err, refusal.ErrNotVerified) {
		t.Errorf("a simulator's quote under AMD's roots: %v", err)
	}
}

// TestSpeak: the job reads refusals as they are, and nothing of what went wrong inside.
func TestSpeak(t *testing.T) {
	t.Parallel()
	said := &refusal.Refusal{Link: "outputs", Code: refusal.Missing, Want: "a file", Got: "none"}
	if got := speak(said); !errors.Is(got, refusal.ErrMissing) || got.Error() != said.Error() {
		t.Errorf("a refusal became %v", got)
	}
	inside := errors.New("dial tcp 10.9.8.7: secret host")
	got := speak(inside)
	if r := (*refusal.Refusal)(nil); !errors.As(got, &r) || strings.Contains(r.Error(), "secret host") || !errors.Is(got, inside) {
		t.Errorf("an internal error became %v", got)
	}
	if speak(nil) != nil {
		t.Error("nil became an error")
	}
}

// TestDoor: anyone may connect; the directory of responses is readable and a response is never written twice.
func TestDoor(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "door")
	d, err := openDoor(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	info, err := os.Stat(filepath.Join(dir, "door.sock"))
	if err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("socket %v, %v", info, err)
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", filepath.Join(dir, "door.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	man := doorman{dir: dir}
	a, err := man.deliver(&runner.Response{Sequence: 1, Bundle: []byte("bundle\n"), Statement: []byte("{}")})
	if err != nil || a.Bundle != "/run/kettle/out/1/bundle.intoto.jsonl" || a.Level != "none" {
		t.Errorf("%+v, %v", a, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "out/1/bundle.intoto.jsonl")); err != nil || string(text) != "bundle\n" { //nolint:gosec // the test's own.
		t.Errorf("%q, %v", text, err)
	}
	if _, err := man.deliver(&runner.Response{Sequence: 1}); !errors.Is(err, refusal.ErrNotVerified) {
		t.Errorf("a second response 1: %v", err)
	}
	if err := errors.Join(d.close(), d.close()); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	n, err := network(config.Network{Address: "10.0.2.15/24", Gateway: "10.0.2.2", Resolve: map[string]string{"a.test": "10.0.2.100"}})
	if err != nil || n.Validate() != nil || n.Hosts["a.test"].String() != "10.0.2.100" {
		t.Errorf("%+v, %v", n, err)
	}
	for name, c := range map[string]config.Network{
		"address": {Address: "10.0.2.15"}, "gateway": {Address: "10.0.2.15/24", Gateway: "x"},
		"resolve": {Address: "10.0.2.15/24", Resolve: map[string]string{"a.test": "b.test"}},
	} {
		if _, err := network(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPackageVersion(t *testing.T) {
	t.Parallel()
	list := []byte("bash 5.2 amd64\ncrun 1.8.1-1 amd64\n")
	if v, err := packageVersion(list, "crun"); err != nil || v != "1.8.1-1" {
		t.Errorf("%q, %v", v, err)
	}
	if _, err := packageVersion(list, "cru"); err == nil {
		t.Error("a part of a name was found")
	}
}

func TestOpenDevice(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := openDevice(ctx, []string{"snp"}); err == nil || !strings.Contains(err.Error(), "snp") {
		t.Errorf("a platform without a collector: %v", err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}
