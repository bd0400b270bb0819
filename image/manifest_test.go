// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/imagetest"
)

// golden is a whole manifest. A change of these bytes is a new schema.
func golden(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile("testdata/image.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestManifestGolden(t *testing.T) {
	t.Parallel()
	written, err := imagetest.Manifest().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if want := golden(t); string(written) != want {
		t.Errorf("want %s\ngot  %s", want, written)
	}
	m, err := image.Parse(written)
	if err != nil || !reflect.DeepEqual(m, imagetest.Manifest()) {
		t.Errorf("not the same after a round: %+v, %v", m, err)
	}
	if c, ok := m.Component(image.ComponentRunner); !ok || c.Version != "2.336.0" {
		t.Errorf("the runner: %v, %v", c, ok)
	}
	if _, ok := m.Component("nobody"); ok {
		t.Error("a component that is not there")
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	text := golden(t)
	swap := func(old, replacement string) string {
		if !strings.Contains(text, old) {
			t.Fatalf("the golden manifest has no %q", old)
		}
		return strings.Replace(text, old, replacement, 1)
	}
	five := strings.Repeat("5", 64)
	tests := map[string]struct{ manifest, want string }{
		"empty":             {"", "EOF"},
		"nothing in it":     {"{}", "schema"},
		"unknown field":     {swap(`"schema"`, `"extra":1,"schema"`), "unknown field"},
		"unknown in a file": {swap(`"name":"vmlinuz"`, `"mode":1,"name":"vmlinuz"`), "unknown field"},
		"field twice":       {swap(`"build":"production"`, `"build":"debug","build":"production"`), "duplicate key"},
		"field in capitals": {swap(`"build":`, `"Build":"debug","build":`), "duplicate key"},
		"data after it":     {text + "{}", "data after"},
		"too long":          {text + strings.Repeat(" ", 256<<10), "at most"},
		"no kernel":         {swap(`"kernel":{"name":"vmlinuz","sha256":"`+five+`","size":6},`, ""), "files.kernel: name"},
		"upper-case digest": {swap(five, strings.Repeat("A", 64)), "lower-case"},
		"short digest":      {swap(five, "55"), "64 lower-case"},
		"not hexadecimal":   {swap(five, strings.Repeat("g", 64)), "invalid byte"},
		"fraction":          {swap(`"size":6}`, `"size":6.5}`), "size"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := image.Parse([]byte(tt.manifest))
			if err == nil || m != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want an error about %q, got %v", tt.want, err)
			}
		})
	}
}

// TestValidateRefuses spoils one field after the other.
func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	at := func(m *image.Manifest, name string) *image.Component {
		return &m.Components[slices.IndexFunc(m.Components, func(c image.Component) bool { return c.Name == name })]
	}
	without := func(name string) func(*image.Manifest) {
		return func(m *image.Manifest) {
			m.Components = slices.DeleteFunc(m.Components, func(c image.Component) bool { return c.Name == name })
		}
	}
	tests := map[string]struct {
		spoil func(*image.Manifest)
		want  string
	}{
		"other schema":            {func(m *image.Manifest) { m.SchemaName = "kettle.image/v2" }, "schema"},
		"no name":                 {func(m *image.Manifest) { m.Name = "" }, "name"},
		"name with a slash":       {func(m *image.Manifest) { m.Name = "a/b" }, "name"},
		"name in capitals":        {func(m *image.Manifest) { m.Name = "Kettle" }, "name"},
		"no profile":              {func(m *image.Manifest) { m.Profile = "" }, "profile"},
		"other profile":           {func(m *image.Manifest) { m.Profile = "loose" }, "profile"},
		"no build":                {func(m *image.Manifest) { m.Build = "" }, "build"},
		"debug, not measured":     {func(m *image.Manifest) { m.Build = image.Debug }, "not that of a \"debug\" build"},
		"debug, not said":         {func(m *image.Manifest) { m.Build = image.Debug; imagetest.Relabel(m); m.Build = image.Production }, "not that of a"},
		"no kernel version":       {func(m *image.Manifest) { m.KernelVersion = "" }, "kernelVersion"},
		"kernel version of words": {func(m *image.Manifest) { m.KernelVersion = "6.12 x" }, "kernelVersion"},
		"no go version":           {func(m *image.Manifest) { m.Toolchain.Go = "" }, "toolchain.go"},
		"no packages": {func(m *image.Manifest) {
			m.Toolchain.Packages, m.Files.Packages.SHA256 = image.SHA256{}, image.SHA256{}
		}, "toolchain.packages"},
		"other packages":            {func(m *image.Manifest) { m.Toolchain.Packages[0]++ }, "toolchain.packages"},
		"no recipe":                 {func(m *image.Manifest) { m.Toolchain.Recipe = image.SHA256{} }, "toolchain.recipe"},
		"no lock":                   {func(m *image.Manifest) { m.Toolchain.Lock = image.SHA256{} }, "toolchain.lock"},
		"path as a name":            {func(m *image.Manifest) { m.Files.Kernel.Name = "../vmlinuz" }, "files.kernel: name"},
		"dots as a name":            {func(m *image.Manifest) { m.Files.Kernel.Name = ".." }, "files.kernel: name"},
		"one name twice":            {func(m *image.Manifest) { m.Files.Kernel.Name = m.Files.Initrd.Name }, "the same file name as initrd"},
		"name of the manifest":      {func(m *image.Manifest) { m.Files.SBOM.Name = image.ManifestName }, "the same file name as the manifest"},
		"size of 0":                 {func(m *image.Manifest) { m.Files.UKI.Size = 0 }, "files.uki: size"},
		"size below 0":              {func(m *image.Manifest) { m.Files.SBOM.Size = -1 }, "files.sbom: size"},
		"digest of zeros":           {func(m *image.Manifest) { m.Files.Root.SHA256 = image.SHA256{} }, "files.root: sha256"},
		"other root hash":           {func(m *image.Manifest) { m.Verity.RootHash[0]++ }, "kettle.root is not"},
		"other number of blocks":    {func(m *image.Manifest) { m.Verity.DataBlocks++ }, "kettle.root is not"},
		"command line with more":    {func(m *image.Manifest) { m.CommandLine = "init=/bin/sh " + m.CommandLine }, "commandLine"},
		"command line with its end": {func(m *image.Manifest) { m.CommandLine += "\n" }, "newline"},
		"other configuration":       {func(m *image.Manifest) { at(m, image.ComponentConfiguration).SHA256[0]++ }, "kettle.config is not"},
		"no components":             {func(m *image.Manifest) { m.Components = nil }, "absent"},
		"no kettled":                {without(image.ComponentKettled), "kettled: absent"},
		"no kettle-action":          {without(image.ComponentAction), "kettle-action: absent"},
		"no runner":                 {without(image.ComponentRunner), "runner: absent"},
		"no configuration":          {without(image.ComponentConfiguration), "configuration: absent"},
		"no policy":                 {without(image.ComponentPolicy), "policy: absent"},
		"components out of order":   {func(m *image.Manifest) { slices.Reverse(m.Components) }, "in order"},
		"component twice": {func(m *image.Manifest) {
			again := m.Components[0]
			again.Path = "/elsewhere"
			m.Components = append(m.Components[:1:1], append([]image.Component{again}, m.Components[1:]...)...)
		}, "each once"},
		"too many components":  {func(m *image.Manifest) { m.Components = make([]image.Component, 257) }, "at most 256"},
		"component's name":     {func(m *image.Manifest) { at(m, image.ComponentRunner).Name = "Runner!" }, "components"},
		"component's path":     {func(m *image.Manifest) { at(m, image.ComponentRunner).Path = "runner" }, "absolute path"},
		"path with dots":       {func(m *image.Manifest) { at(m, image.ComponentRunner).Path = "/a/../b" }, "absolute path"},
		"path of a root":       {func(m *image.Manifest) { at(m, image.ComponentRunner).Path = "/" }, "absolute path"},
		"one path twice":       {func(m *image.Manifest) { at(m, image.ComponentRunner).Path = "/init" }, "the same path"},
		"component's digest":   {func(m *image.Manifest) { at(m, image.ComponentKettled).SHA256 = image.SHA256{} }, "sha256"},
		"component's version":  {func(m *image.Manifest) { at(m, image.ComponentKettled).Version = "v1\n" }, "version"},
		"configuration's path": {func(m *image.Manifest) { at(m, "configuration/sink.pem").Path = "/etc/sink.pem" }, "want /etc/kettle/sink.pem"},
		"disk too small":       {func(m *image.Manifest) { m.Disk.Size = 67 << 20 }, "disk.bundle"},
		"no disk":              {func(m *image.Manifest) { m.Disk = image.Disk{} }, "disk.esp"},
		"partitions overlap":   {func(m *image.Manifest) { m.Disk.Root.Offset-- }, "disk.root"},
		"root too small":       {func(m *image.Manifest) { m.Disk.Root.Size = 4096 }, "disk.root"},
		"ESP too small":        {func(m *image.Manifest) { m.Disk.ESP.Size = 4095 }, "disk.esp"},
		"ESP at the beginning": {func(m *image.Manifest) { m.Disk.ESP.Offset = 0 }, "disk.esp"},
		"no bundle partition":  {func(m *image.Manifest) { m.Disk.Bundle.Size = 0 }, "disk.bundle"},
		"offset that wraps":    {func(m *image.Manifest) { m.Disk.Bundle.Offset = 1<<63 - 1 }, "disk.bundle"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := imagetest.Manifest()
			tt.spoil(m)
			data, err := m.Marshal()
			if err == nil || data != nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want an error about %q, got %v", tt.want, err)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(golden(f)))
	f.Add([]byte(`{"schema":"kettle.image/v1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := image.Parse(data)
		if err != nil {
			return
		}
		written, err := m.Marshal()
		if err != nil {
			t.Fatalf("parsed but not written: %v", err)
		}
		again, err := image.Parse(written)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("not the same after a round: %v, %v", again, err)
		}
	})
}
