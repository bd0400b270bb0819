// SPDX-License-Identifier: Apache-2.0

package collect

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/collect/quoteport"
	"github.com/kettle/attest/attest/collect/tsm"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/sim"
	"github.com/kettle/attest/attest/snp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testTime = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

var authority = sync.OnceValue(func() *sim.Authority {
	a, err := sim.NewAuthority(testTime)
	if err != nil {
		panic(err)
	}
	return a
})

// connect gives a device whose other end is a simulated processor, served until the test ends.
func connect(t *testing.T) (*Device, *sim.Processor) {
	t.Helper()
	p, err := authority().NewProcessor([48]byte{1}, testTime)
	if err != nil {
		t.Fatal(err)
	}
	guest, host := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- p.Serve(context.Background(), host) }() //nolint:usetesting // Ends with the stream.
	d := New(guest)
	t.Cleanup(func() {
		_ = d.Close()
		if err := <-done; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Serve: %v", err)
		}
	})
	return d, p
}

func TestQuoteAndExtend(t *testing.T) {
	t.Parallel()
	d, p := connect(t)
	if d.Platform() != "sim" {
		t.Errorf("platform %s", d.Platform())
	}
	if err := d.Extend(t.Context(), [32]byte{9}); err != nil {
		t.Fatal(err)
	}
	data := [64]byte{0: 1, 63: 255}
	q, err := d.Quote(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	if q.Provider != ProviderSNP || len(q.AuxBlob) != 0 {
		t.Errorf("provider %s, auxblob %d", q.Provider, len(q.AuxBlob))
	}
	leaf, err := snp.EndorsementKey(q.Endorsements)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := snp.ParseRoots(authority().RootsPEM())
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.Verify(q.Report, leaf, roots, testTime)
	if err != nil {
		t.Fatal(err)
	}
	if r.ReportData() != data || r.HostData() != p.Register() || p.Register() == [32]byte{} {
		t.Error("the report says something else")
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	d, _ := connect(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			data := [64]byte{byte(i)}
			q, err := d.Quote(t.Context(), data)
			if err != nil || [64]byte(q.Report[0x50:0x90]) != data {
				t.Errorf("quote %d: %v", i, err)
			}
			if err := d.Extend(t.Context(), [32]byte{byte(i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// fake is a host that answers each request with the next of its frames, as they are.
func fake(t *testing.T, answers ...string) *Device {
	t.Helper()
	guest, host := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, a := range answers {
			if _, err := quoteport.ReadFrame(host); err != nil {
				return
			}
			if _, err := host.Write([]byte(a)); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, host)
	}()
	d := newPort(guest)
	d.limit = 200 * time.Millisecond
	device := &Device{d}
	t.Cleanup(func() { _ = device.Close(); _ = host.Close(); <-done })
	return device
}

func framed(body string) string {
	var b bytes.Buffer
	if err := quoteport.WriteFrame(&b, []byte(body)); err != nil {
		panic(err)
	}
	return b.String()
}

func reportReply(report []byte) string {
	return framed(fmt.Sprintf(`{"ok":{"report":%q,"endorsements":"pem"}}`, base64.StdEncoding.EncodeToString(report)))
}

// A host that answers out of step or in another language breaks the device: nothing is asked of it again.
func TestBadAnswersBreakTheDevice(t *testing.T) {
	t.Parallel()
	other := make([]byte, reportSize)
	other[0x50] = 1
	tests := map[string]string{
		"silence":             "",
		"no json":             framed("hello"),
		"other report data":   reportReply(other),
		"short report":        reportReply(make([]byte, reportSize-1)),
		"long report":         reportReply(make([]byte, reportSize+1)),
		"register":            framed(`{"ok":{"register":"` + strings.Repeat("00", 32) + `"}}`),
		"too long":            "\x00\x01\x00\x01",
		"half a frame":        "\x00\x00\x00\x10{",
		"report and a secret": framed(`{"ok":{"report":"AA==","endorsements":"pem","more":"x"}}`),
		"unknown code":        framed(`{"refusal":{"code":"tired","link":"a","want":"b","got":"c","next":"d"}}`),
		"refusal with a gap":  framed(`{"refusal":{"code":"policy","link":"a","want":"b","got":"c"}}`),
		"ok and refusal":      framed(`{"ok":{},"refusal":{}}`),
		"null":                framed(`{"ok":null}`),
		"loose base64":        framed(`{"ok":{"report":"AA==\n","endorsements":"pem"}}`),
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := fake(t, answer)
			q, err := d.Quote(t.Context(), [64]byte{})
			if !errors.Is(err, ErrBroken) || len(q.Report) != 0 {
				t.Fatalf("want a broken device, got %v", err)
			}
			if _, again := d.Quote(t.Context(), [64]byte{}); !errors.Is(again, ErrBroken) {
				t.Errorf("the device was asked again: %v", again)
			}
			if err := d.Extend(t.Context(), [32]byte{}); !errors.Is(err, ErrBroken) {
				t.Errorf("the device was asked again: %v", err)
			}
		})
	}
}

// A refusal leaves the device in step.
func TestRefusal(t *testing.T) {
	t.Parallel()
	d := fake(t,
		framed(`{"refusal":{"code":"policy","link":"a","want":"b","got":"c","next":"d"}}`),
		reportReply(make([]byte, reportSize)))
	_, err := d.Quote(t.Context(), [64]byte{})
	if !errors.Is(err, refusal.ErrPolicy) || errors.Is(err, ErrBroken) {
		t.Errorf("want the processor's refusal, got %v", err)
	}
	if _, err := d.Quote(t.Context(), [64]byte{}); err != nil {
		t.Error(err)
	}
}

// A caller that gives up must not put the next caller out of step.
func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	guest, host := net.Pipe()
	d := New(guest)
	t.Cleanup(func() { _ = d.Close(); _ = host.Close() })
	asked, answer := make(chan struct{}), make(chan struct{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		for i := range 2 {
			body, err := quoteport.ReadFrame(host)
			if err != nil {
				return
			}
			if i == 0 {
				close(asked)
				<-answer
			}
			request, err := quoteport.ParseRequest(body)
			if err != nil {
				return
			}
			report := make([]byte, reportSize)
			copy(report[0x50:], request.ReportData[:])
			_, _ = host.Write([]byte(reportReply(report)))
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := d.Quote(ctx, [64]byte{1}); !errors.Is(err, context.Canceled) {
		t.Fatalf("want the caller's own end, got %v", err)
	}
	short, cancelShort := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancelShort()
	if _, err := d.Quote(short, [64]byte{3}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("want the deadline while waiting for the turn, got %v", err)
	}
	close(answer)
	q, err := d.Quote(t.Context(), [64]byte{2})
	if err != nil || q.Report[0x50] != 2 {
		t.Fatalf("the second caller got %v", err)
	}
	if _, err := d.Quote(ctx, [64]byte{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that is done before it starts: %v", err)
	}
	<-served
}

// absent is a port whose other side is not there for the first reads.
type absent struct {
	io.ReadWriteCloser
	reads atomic.Int32
}

func (a *absent) Read(b []byte) (int, error) {
	if a.reads.Add(1) <= 3 {
		return 0, io.EOF
	}
	return a.ReadWriteCloser.Read(b)
}

func TestWaitsForTheOtherSide(t *testing.T) {
	t.Parallel()
	d := fake(t, reportReply(make([]byte, reportSize)))
	p := d.source.(*port)
	late := &absent{ReadWriteCloser: p.stream}
	p.stream, p.limit = late, exchangeLimit
	if _, err := d.Quote(t.Context(), [64]byte{}); err != nil {
		t.Fatal(err)
	}
	if late.reads.Load() < 4 {
		t.Error("no wait")
	}
}

func TestOtherSideNeverComes(t *testing.T) {
	t.Parallel()
	d := fake(t)
	p := d.source.(*port)
	never := &absent{ReadWriteCloser: p.stream}
	never.reads.Store(-1 << 30)
	p.stream, p.limit = never, 50*time.Millisecond
	if _, err := d.Quote(t.Context(), [64]byte{}); !errors.Is(err, ErrBroken) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestOpenUnsupported(t *testing.T) {
	t.Parallel()
	for _, platform := range []string{"", "snp", "tdx", "az-snp", "az-tdx", "vtpm", "SIM", "sgx"} {
		bare := thisMachine()
		bare.root, bare.tsm = t.TempDir(), func(p tsm.Provider) (configfsi.Client, error) {
			return nil, &UnsupportedError{Platform: string(p), Need: "configfs-tsm"}
		}
		d, err := Config{}.open(t.Context(), platform, bare)
		var unsupported *UnsupportedError
		if d != nil || !errors.Is(err, ErrUnsupported) || !errors.As(err, &unsupported) || unsupported.Platform != platform || unsupported.Need == "" {
			t.Errorf("%q: %v", platform, err)
		}
	}
}

func TestOpenSim(t *testing.T) {
	t.Parallel()
	sys, dev := ports(t, map[string]string{"vport0p1": "dev.kettle.control\n", "vport0p2": "dev.kettle.quote\n", "other": "dev.kettle.quote\n"})
	if err := syscall.Mkfifo(filepath.Join(dev, "vport0p2"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := openSim(t.Context(), sys, dev)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenSimWaitsForTheName(t *testing.T) {
	t.Parallel()
	sys, dev := ports(t, map[string]string{"vport0p2": ""})
	if err := os.WriteFile(filepath.Join(dev, "vport0p2"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	named := make(chan error, 1)
	go func() {
		time.Sleep(2 * retryPause)
		named <- os.WriteFile(filepath.Join(sys, "vport0p2", "name"), []byte("dev.kettle.quote\n"), 0o600)
	}()
	d, err := openSim(t.Context(), sys, dev)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(<-named, d.Close()); err != nil {
		t.Error(err)
	}
}

func TestOpenSimRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		ports       map[string]string
		unsupported bool
	}{
		"no ports":     {nil, true},
		"others":       {map[string]string{"vport0p1": "dev.kettle.control\n"}, true},
		"longer name":  {map[string]string{"vport0p1": "dev.kettle.quote2\n"}, true},
		"no such node": {map[string]string{"vport0p1": "dev.kettle.quote\n"}, false},
		"two of them":  {map[string]string{"vport0p1": "dev.kettle.quote\n", "vport1p1": "dev.kettle.quote\n"}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sys, dev := ports(t, tt.ports)
			ctx, cancel := context.WithTimeout(t.Context(), 3*retryPause)
			defer cancel()
			d, err := openSim(ctx, sys, dev)
			if err == nil || d != nil || errors.Is(err, ErrUnsupported) != tt.unsupported {
				t.Errorf("got %v", err)
			}
		})
	}
}

func ports(t *testing.T, names map[string]string) (sys, dev string) {
	t.Helper()
	sys, dev = filepath.Join(t.TempDir(), "virtio-ports"), t.TempDir()
	for port, name := range names {
		if err := os.MkdirAll(filepath.Join(sys, port), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sys, port, "name"), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return sys, dev
}
