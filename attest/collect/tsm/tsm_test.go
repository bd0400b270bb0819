// SPDX-License-Identifier: Apache-2.0

package tsm

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-configfs-tsm/configfs/configfsi"
	"github.com/google/go-configfs-tsm/configfs/faketsm"
	"go.uber.org/goleak"

	"github.com/kettle/attest/attest/collect/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a kernel whose attributes a test may change.
type fake struct {
	*faketsm.ReportSubsystem
	attr    map[string]func(*faketsm.ReportEntry) ([]byte, error)
	made    atomic.Int32
	removed atomic.Int32
	mkdir   error
	rmdir   error
}

func newFake(p Provider, floor uint) *fake {
	base := faketsm.Report611(floor)
	f := &fake{ReportSubsystem: base, attr: map[string]func(*faketsm.ReportEntry) ([]byte, error){
		"provider": func(*faketsm.ReportEntry) ([]byte, error) { return []byte(p + "\n"), nil },
		"outblob": func(e *faketsm.ReportEntry) ([]byte, error) {
			if len(e.InAttrs["inblob"].Value) != ReportDataSize {
				return nil, syscall.EINVAL
			}
			return append([]byte("report over "), e.InAttrs["inblob"].Value...), nil
		},
		"auxblob":      func(*faketsm.ReportEntry) ([]byte, error) { return []byte("table"), nil },
		"manifestblob": func(*faketsm.ReportEntry) ([]byte, error) { return []byte("manifest"), nil },
	}}
	inner, makeEntry := base.ReadAttr, base.MakeEntry
	base.Random = rand.Reader
	base.MakeEntry = func() *faketsm.ReportEntry {
		e := makeEntry()
		e.ReadGeneration = 1 << 40 // never what was written: faketsm then asks ReadAttr each time, as Linux does for provider
		return e
	}
	base.ReadAttr = func(e *faketsm.ReportEntry, attr string) ([]byte, error) {
		if read := f.attr[attr]; read != nil {
			return read(e)
		}
		if p == TDX && strings.HasPrefix(attr, "privlevel") { // Linux shows these for SEV-SNP alone
			return nil, os.ErrNotExist
		}
		return inner(e, attr)
	}
	return f
}

func (f *fake) MkdirTemp(dir, pattern string) (string, error) {
	if f.mkdir != nil {
		return "", f.mkdir
	}
	f.made.Add(1)
	return f.ReportSubsystem.MkdirTemp(dir, pattern)
}

func (f *fake) RemoveAll(name string) error {
	if f.rmdir != nil {
		return f.rmdir
	}
	f.removed.Add(1)
	return f.ReportSubsystem.RemoveAll(name)
}

func fails(err error) func(*faketsm.ReportEntry) ([]byte, error) {
	return func(*faketsm.ReportEntry) ([]byte, error) { return nil, err }
}

func gives(s string) func(*faketsm.ReportEntry) ([]byte, error) {
	return func(*faketsm.ReportEntry) ([]byte, error) { return []byte(s), nil }
}

var data = [ReportDataSize]byte{0: 1, 63: 255}

func level(n uint) *uint { return &n }

func TestGet(t *testing.T) {
	t.Parallel()
	svsm := &Service{Provider: "svsm", GUID: "c476f1eb-0123-45a5-9641-b4e7dde5bfe3", ManifestVersion: "1"}
	for name, tt := range map[string]struct {
		provider Provider
		floor    uint
		request  Request
		level    *uint
		aux      string
		manifest string
		wrote    map[string]string
	}{
		"snp":           {provider: SNP, level: level(0), aux: "table", wrote: map[string]string{"privlevel": "0"}},
		"snp at floor":  {provider: SNP, floor: 2, level: level(2), aux: "table", wrote: map[string]string{"privlevel": "2"}},
		"snp at level":  {provider: SNP, floor: 1, request: Request{Level: level(3)}, level: level(3), aux: "table", wrote: map[string]string{"privlevel": "3"}},
		"tdx":           {provider: TDX},
		"svsm":          {provider: SNP, request: Request{Service: svsm}, level: level(0), aux: "table", manifest: "manifest", wrote: map[string]string{"service_provider": "svsm", "service_guid": svsm.GUID, "service_manifest_version": "1"}},
		"svsm, just so": {provider: SNP, request: Request{Service: &Service{Provider: "svsm"}}, level: level(0), aux: "table", manifest: "manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(tt.provider, tt.floor)
			wrote := map[string]string{}
			check := f.CheckInAttr
			f.CheckInAttr = func(e *faketsm.ReportEntry, attr string, contents []byte) error {
				wrote[attr] = string(contents)
				return check(e, attr, contents)
			}
			r := tt.request
			r.Provider, r.ReportData = tt.provider, data
			got, err := Get(f, r)
			if err != nil {
				t.Fatal(err)
			}
			if got.Provider != tt.provider || !bytes.Equal(got.Out, append([]byte("report over "), data[:]...)) || got.Via != "configfs-tsm" ||
				string(got.Aux) != tt.aux || string(got.Manifest) != tt.manifest {
				t.Errorf("%+v", got)
			}
			if (got.Level == nil) != (tt.level == nil) || got.Level != nil && *got.Level != *tt.level {
				t.Errorf("level %v", got.Level)
			}
			for attr, want := range tt.wrote {
				if wrote[attr] != want {
					t.Errorf("%s: wrote %q, want %q", attr, wrote[attr], want)
				}
			}
			if f.made.Load() != 1 || f.removed.Load() != 1 || len(f.Entries) != 0 {
				t.Error("the entry was left behind")
			}
		})
	}
}

func TestGetFails(t *testing.T) {
	t.Parallel()
	denied := &os.PathError{Op: "mkdir", Path: "entry", Err: syscall.EACCES}
	svsm := &Service{Provider: "svsm"}
	for name, tt := range map[string]struct {
		change      func(*fake)
		request     Request
		unsupported bool
		cause       error
		says        string
	}{
		"no driver":           {change: func(f *fake) { f.mkdir = &os.PathError{Err: syscall.ENXIO} }, unsupported: true, says: "configfs-tsm has none"},
		"no configfs":         {change: func(f *fake) { f.mkdir = &os.PathError{Err: syscall.ENOENT} }, unsupported: true, says: "Linux 6.7"},
		"another provider":    {change: func(f *fake) { f.attr["provider"] = gives("arm_cca_guest\n") }, unsupported: true, says: `"arm_cca_guest"`},
		"no provider":         {change: func(f *fake) { f.attr["provider"] = gives("") }, unsupported: true, says: `""`},
		"denied":              {change: func(f *fake) { f.mkdir = denied }, cause: syscall.EACCES},
		"provider fails":      {change: func(f *fake) { f.attr["provider"] = fails(syscall.EIO) }, says: "provider"},
		"the host is busy":    {change: func(f *fake) { f.attr["outblob"] = fails(syscall.EBUSY) }, says: "busy"},
		"the firmware fails":  {change: func(f *fake) { f.attr["outblob"] = fails(syscall.EIO) }, says: "input/output"},
		"no table":            {change: func(f *fake) { f.attr["auxblob"] = fails(syscall.EIO) }, says: "auxblob"},
		"an empty report":     {change: func(f *fake) { f.attr["outblob"] = gives("") }, says: "0 bytes"},
		"a huge report":       {change: func(f *fake) { f.attr["outblob"] = gives(strings.Repeat("x", maxOut+1)) }, says: "bytes"},
		"a huge table":        {change: func(f *fake) { f.attr["auxblob"] = gives(strings.Repeat("x", maxOut+1)) }, says: "bytes"},
		"below the floor":     {change: func(f *fake) { f.attr["privlevel_floor"] = gives("2\n") }, request: Request{Level: level(1)}, says: "level 1 is asked for"},
		"no floor":            {change: func(f *fake) { f.attr["privlevel_floor"] = fails(syscall.EIO) }, says: "privlevel_floor"},
		"floor is no number":  {change: func(f *fake) { f.attr["privlevel_floor"] = gives("low\n") }, says: "parse"},
		"no manifest":         {change: func(f *fake) { f.attr["manifestblob"] = gives("") }, request: Request{Service: svsm}, says: "manifest"},
		"manifest fails":      {change: func(f *fake) { f.attr["manifestblob"] = fails(syscall.EIO) }, request: Request{Service: svsm}, says: "manifest"},
		"a guid that is none": {change: func(*fake) {}, request: Request{Service: &Service{Provider: "svsm", GUID: "x"}}, says: "service_guid"},
		"entry stays":         {change: func(f *fake) { f.rmdir = syscall.EBUSY }, cause: syscall.EBUSY, says: "removing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(SNP, 0)
			tt.change(f)
			r := tt.request
			r.Provider, r.ReportData = SNP, data
			got, err := Get(f, r)
			if err == nil || got.Out != nil {
				t.Fatalf("got %+v, %v", got, err)
			}
			if errors.Is(err, fault.ErrUnsupported) != tt.unsupported || errors.Is(err, fault.ErrBroken) == tt.unsupported {
				t.Errorf("the wrong kind: %v", err)
			}
			if tt.cause != nil && !errors.Is(err, tt.cause) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
			var u *fault.UnsupportedError
			if errors.As(err, &u) && u.Platform != "snp" {
				t.Errorf("platform %q", u.Platform)
			}
			if f.rmdir == nil && f.made.Load() != f.removed.Load() {
				t.Error("the entry was left behind")
			}
		})
	}
}

// TestAttackEntrySharedWithAnother: another program that writes to our entry, between our writing and our reading, gets
// its report data signed and not handed to us.
func TestAttackEntrySharedWithAnother(t *testing.T) {
	t.Parallel()
	for _, attr := range []string{"auxblob", "provider", "outblob"} {
		f := newFake(SNP, 0)
		inner := f.attr[attr]
		reads := 0
		f.attr[attr] = func(e *faketsm.ReportEntry) ([]byte, error) {
			b, err := inner(e)
			if reads++; attr != "provider" || reads > 0 {
				e.WriteGeneration++ // what a write of another program does
			}
			return b, err
		}
		got, err := Get(f, Request{Provider: SNP, ReportData: data})
		if !errors.Is(err, fault.ErrBroken) || !strings.Contains(err.Error(), "generation") || got.Out != nil {
			t.Errorf("%s: got %v", attr, err)
		}
		if f.made.Load() != f.removed.Load() {
			t.Error("the entry was left behind")
		}
	}
}

func TestClientOfThisMachine(t *testing.T) {
	t.Parallel()
	c, err := Client(TDX)
	if _, there := os.Stat(configfsi.TsmPrefix + "/report"); there == nil {
		if err != nil || c == nil {
			t.Error(err)
		}
		return
	}
	var u *fault.UnsupportedError
	if !errors.As(err, &u) || u.Platform != "tdx" || c != nil {
		t.Errorf("got %v", err)
	}
}
