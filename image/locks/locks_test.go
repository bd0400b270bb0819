// SPDX-License-Identifier: Apache-2.0

package locks_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/locks"
)

// small is a valid lock.
func small() *locks.Lock {
	pack := func(use locks.Use, name, version string, digest byte) locks.Package {
		return locks.Package{
			Name: name, Version: version, Architecture: "amd64", Archive: locks.Main, Use: use, Size: 100,
			Path: "pool/main/x/" + name + "/" + name + "_1_amd64.deb", SHA256: image.SHA256{digest},
		}
	}
	return &locks.Lock{
		Profile: "strict", Suite: "bookworm", Taken: time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC), Wanted: []string{"bash", "git"},
		Packages: []locks.Package{
			pack(locks.Install, "bash", "5.2.15-2+b7", 1), pack(locks.Install, "git", "1:2.39.5-0+deb12u3", 2), pack(locks.Unpack, "xfsprogs", "6.1.0-1", 3),
			pack(locks.Kernel, "linux-image-6.12-cloud-amd64", "6.12.1~1", 4), pack(locks.Stub, "systemd-boot-efi", "252", 5), pack(locks.Tool, "erofs-utils", "1.5-1", 6),
		},
	}
}

// TestGolden holds the bytes of a lock. A change of them is a new schema.
func TestGolden(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("testdata/small.lock.golden")
	if err != nil {
		t.Fatal(err)
	}
	got, err := small().Marshal()
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("want %s\ngot  %s, %v", want, got, err)
	}
	l, err := locks.Parse(got)
	if err != nil || !reflect.DeepEqual(l, small()) {
		t.Errorf("not the same after a round: %+v, %v", l, err)
	}
}

// TestPublished reads the locks of the published images. All profiles boot one kernel, with one stub, packed by one tool.
func TestPublished(t *testing.T) {
	t.Parallel()
	strict, err := locks.OfProfile("strict")
	if err != nil {
		t.Fatal(err)
	}
	docker, err := locks.OfProfile("docker")
	if err != nil {
		t.Fatal(err)
	}
	for _, use := range []locks.Use{locks.Kernel, locks.Stub, locks.Tool} {
		a, err := strict.Only(use)
		b, other := docker.Only(use)
		if err != nil || other != nil || a != b {
			t.Errorf("to %s: strict has %v, docker %v", use, a, b)
		}
	}
	versions := map[string]string{}
	for _, p := range docker.Packages {
		versions[p.Name] = p.Version
	}
	for _, p := range strict.Packages {
		if versions[p.Name] != p.Version {
			t.Errorf("strict has %s, docker %q: take both locks at one time", p, versions[p.Name])
		}
	}
	for _, name := range []string{"loose", "", "../strict", "small"} {
		if l, err := locks.OfProfile(name); !errors.Is(err, fs.ErrNotExist) || l != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := strict.Only(locks.Install); err == nil {
		t.Error("one package of many")
	}
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		spoil func(*locks.Lock)
		want  string
	}{
		"no profile":           {func(l *locks.Lock) { l.Profile = "" }, "profile"},
		"profile with a slash": {func(l *locks.Lock) { l.Profile = "a/b" }, "profile"},
		"no suite":             {func(l *locks.Lock) { l.Suite = "" }, "suite"},
		"no time":              {func(l *locks.Lock) { l.Taken = time.Time{} }, "taken"},
		"fractions of seconds": {func(l *locks.Lock) { l.Taken = l.Taken.Add(1) }, "taken"},
		"nothing wanted":       {func(l *locks.Lock) { l.Wanted = nil }, "wanted"},
		"wanted out of order":  {func(l *locks.Lock) { slices.Reverse(l.Wanted) }, "wanted"},
		"wanted twice":         {func(l *locks.Lock) { l.Wanted[1] = l.Wanted[0] }, "twice"},
		"wanted no name":       {func(l *locks.Lock) { l.Wanted[0] = "-o=x" }, "wanted"},
		"out of order":         {func(l *locks.Lock) { slices.Reverse(l.Packages) }, "in order"},
		"one twice":            {func(l *locks.Lock) { l.Packages[1].Name = "bash" }, "twice"},
		"nothing to install":   {func(l *locks.Lock) { l.Packages = l.Packages[2:] }, "0 to install"},
		"no kernel":            {func(l *locks.Lock) { l.Packages = slices.Delete(l.Packages, 3, 4) }, "0 to kernel"},
		"two kernels":          {func(l *locks.Lock) { l.Packages[4].Use = locks.Kernel }, "2 to kernel"},
		"no packages":          {func(l *locks.Lock) { l.Packages = nil }, "0 to install"},
		"no name":              {func(l *locks.Lock) { l.Packages[0].Name = "" }, "name"},
		"name with a slash":    {func(l *locks.Lock) { l.Packages[0].Name = "../bash" }, "name"},
		"no version":           {func(l *locks.Lock) { l.Packages[0].Version = "" }, "version"},
		"version with a space": {func(l *locks.Lock) { l.Packages[0].Version = "1 2" }, "version"},
		"other architecture":   {func(l *locks.Lock) { l.Packages[0].Architecture = "arm64" }, "architecture"},
		"other archive":        {func(l *locks.Lock) { l.Packages[0].Archive = "ubuntu" }, "archive"},
		"other use":            {func(l *locks.Lock) { l.Packages[0].Use = "run" }, "use"},
		"no digest":            {func(l *locks.Lock) { l.Packages[0].SHA256 = image.SHA256{} }, "sha256"},
		"no size":              {func(l *locks.Lock) { l.Packages[0].Size = 0 }, "size"},
		"huge":                 {func(l *locks.Lock) { l.Packages[0].Size = 3 << 30 }, "size"},
		"path with dots":       {func(l *locks.Lock) { l.Packages[0].Path = "pool/main/../../x/bash.deb" }, "path"},
		"absolute path":        {func(l *locks.Lock) { l.Packages[0].Path = "/pool/main/x/bash.deb" }, "path"},
		"path elsewhere":       {func(l *locks.Lock) { l.Packages[0].Path = "dists/main/x/bash.deb" }, "path"},
		"path of an address":   {func(l *locks.Lock) { l.Packages[0].Path = "pool/main/x/b?x=.deb" }, "path"},
		"no package":           {func(l *locks.Lock) { l.Packages[0].Path = "pool/main/x/bash.rpm" }, "path"},
		"long path":            {func(l *locks.Lock) { l.Packages[0].Path = "pool/main/x/" + strings.Repeat("a", 600) + ".deb" }, "path"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := small()
			tt.spoil(l)
			data, err := l.Marshal()
			if err == nil || data != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want an error about %q, got %v", tt.want, err)
			}
			if _, err := l.Digest(); err == nil {
				t.Error("it has a digest")
			}
		})
	}
}

// TestAttackSecondSpelling gives the bytes that a digest was taken of in another form, which might be read differently.
func TestAttackSecondSpelling(t *testing.T) {
	t.Parallel()
	data, err := small().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	swap := func(old, replacement string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("there is no %q", old)
		}
		return strings.Replace(text, old, replacement, 1)
	}
	for name, text := range map[string]string{
		"empty":                 "",
		"a space":               swap(`"profile":`, `"profile": `),
		"a key more":            swap(`"profile":`, `"extra":1,"profile":`),
		"a key twice":           swap(`"name":"bash"`, `"name":"dash","name":"bash"`),
		"keys out of order":     swap(`"profile":"strict","schema":"kettle.lock/v1"`, `"schema":"kettle.lock/v1","profile":"strict"`),
		"a key in capitals":     swap(`"profile":`, `"Profile":`),
		"an escape":             swap(`"bash"`, `"b\u0061sh"`),
		"no last newline":       strings.TrimSuffix(text, "\n"),
		"an empty line":         text + "\n",
		"a carriage return":     swap("\n", "\r\n"),
		"other schema":          swap("lock/v1", "lock/v2"),
		"a time with a zone":    swap("13:00:00Z", "14:00:00+01:00"),
		"no time":               swap(`"taken":"2026-11-22T13:00:00Z"`, `"taken":""`),
		"a digest in capitals":  swap("01000000", "0A000000"),
		"two packages, a line":  swap("}\n{\"architecture\"", "}{\"architecture\""),
		"a package before all":  text[strings.Index(text, "\n")+1:],
		"something behind":      text + "x",
		"more than is read":     text + strings.Repeat("\n", 4<<20),
		"a field not a string":  swap(`"size":100`, `"size":"100"`),
		"a number with a point": swap(`"size":100`, `"size":100.0`),
	} {
		if l, err := locks.Parse([]byte(text)); err == nil || l != nil {
			t.Errorf("%s: it was read", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	data, err := small().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"profile":"strict","schema":"kettle.lock/v1","suite":"bookworm","taken":"2026-11-22T13:00:00Z","wanted":["a"]}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := locks.Parse(data)
		if err != nil {
			return
		}
		if again, err := l.Marshal(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("two spellings: %q and %q, %v", data, again, err)
		}
	})
}
