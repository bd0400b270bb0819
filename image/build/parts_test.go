// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/image"
)

// whole is a configuration without a fault.
func whole(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	c := Config{
		Output: filepath.Join(dir, "out"), Cache: filepath.Join(dir, "cache"), Settings: filepath.Join(dir, "settings"), Policy: "rules.yaml", Profile: Strict,
		Kettled: write(t, filepath.Join(dir, "kettled"), "\x7fELF", 0o700), Action: write(t, filepath.Join(dir, "action"), "\x7fELF2", 0o700),
		Hook: write(t, filepath.Join(dir, "hook"), "#!/bin/sh", 0o700), Firmware: write(t, filepath.Join(dir, "firmware"), "firmware", 0o600),
		Runner: Runner{Folder: filepath.Join(dir, "runner"), Release: write(t, filepath.Join(dir, "runner.json"), "{}", 0o600), Version: "2.336.0"},
		Mirror: Mirror{Archive: "http://a.test/debian", Security: "http://a.test/debian-security"}, Formats: Formats(),
	}
	write(t, filepath.Join(c.Settings, "config.yaml"), "config", 0o600)
	write(t, filepath.Join(c.Settings, "rules.yaml"), "rules", 0o600)
	write(t, filepath.Join(c.Settings, "root.pem"), "root", 0o600)
	write(t, filepath.Join(c.Runner.Folder, listener), "listener", 0o700)
	return c
}

func TestValidateEach(t *testing.T) {
	t.Parallel()
	good := whole(t)
	must(t, good.Validate())
	for want, spoil := range map[string]func(*Config){
		"output":           func(c *Config) { c.Output = "" },
		"cache":            func(c *Config) { c.Cache = "" },
		"kettled":          func(c *Config) { c.Kettled = "" },
		"settings":         func(c *Config) { c.Settings = "" },
		"policy: absent":   func(c *Config) { c.Policy = "" },
		"policy: want":     func(c *Config) { c.Policy = "../policy.yaml" },
		"firmware":         func(c *Config) { c.Firmware = "" },
		"action":           func(c *Config) { c.Action = "" },
		"hook":             func(c *Config) { c.Hook = "" },
		"runner folder":    func(c *Config) { c.Runner.Folder = "" },
		"runner version":   func(c *Config) { c.Runner.Version = "" },
		"runner release":   func(c *Config) { c.Runner.Release = "" },
		"mirror archive":   func(c *Config) { c.Mirror.Archive = "" },
		"mirror security":  func(c *Config) { c.Mirror.Security = "" },
		"profile":          func(c *Config) { c.Profile = "" },
		"format":           func(c *Config) { c.Formats = []Format{"iso"} },
		"extra: want":      func(c *Config) { c.Extra = []Tree{{Source: "/x", Target: "relative"}} },
		"extra: want a so": func(c *Config) { c.Extra = []Tree{{Target: "/x"}} },
		"an owner":         func(c *Config) { c.Extra = []Tree{{Source: "/x", Target: "/x", Owner: -1}} },
	} {
		c := whole(t)
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error about %q, got %v", want, err)
		}
	}
}

// TestComponents names everything that people judge by itself.
func TestComponents(t *testing.T) {
	t.Parallel()
	c := whole(t)
	all, err := (&parts{Config: &c}).components(t.Context())
	must(t, err)
	var got []string
	for _, c := range all {
		got = append(got, c.Name+" "+c.Path)
	}
	want := []string{
		"configuration /etc/kettle/config.yaml", "configuration/root.pem /etc/kettle/root.pem", "kettle-action /usr/lib/kettle/kettle-action", "kettled /init",
		"policy /etc/kettle/rules.yaml", "runner /usr/lib/kettle/runner",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if all[0].SHA256 != sha256sum([]byte("config")) || all[3].SHA256 != sha256sum([]byte("\x7fELF")) || all[5].Version != "2.336.0" {
		t.Errorf("got %+v", all)
	}
	before := all[5].SHA256
	write(t, filepath.Join(c.Runner.Folder, listener), "another", 0o700)
	if all, err = (&parts{Config: &c}).components(t.Context()); err != nil || all[5].SHA256 == before {
		t.Errorf("another runner is the same component: %v", err)
	}
	c.Runner.Archive = image.SHA256{7}
	if all, err = (&parts{Config: &c}).components(t.Context()); err != nil || all[5].SHA256 != c.Runner.Archive {
		t.Errorf("a release is not known by its archive: %v", err)
	}
	must(t, os.Mkdir(filepath.Join(c.Settings, "folder"), 0o700))
	if _, err = (&parts{Config: &c}).components(t.Context()); err == nil {
		t.Error("a folder in the configuration is passed over")
	}
}

// TestForget shows that a build that fails leaves nothing that could be taken for its result.
func TestForget(t *testing.T) {
	t.Parallel()
	c := whole(t)
	c.Mirror.Archive = "file://" + t.TempDir()
	c.Mirror.Security = c.Mirror.Archive
	for _, name := range []string{image.ManifestName, signedFile, "disk.raw", "disk.vhd", "disk.qcow2", "disk.tar.gz"} {
		write(t, c.path(name), "old", 0o600)
	}
	if m, err := Build(t.Context(), c); err == nil {
		t.Fatalf("an image of nothing: %+v", m)
	}
	left, err := os.ReadDir(c.Output)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for formats, want := range map[string][]Format{"": nil, "vhd": {Raw, VHD}, "raw": {Raw}, "tar.gz,qcow2": {Raw, QCOW2, GCP}} {
		c := Config{}
		for f := range strings.SplitSeq(formats, ",") {
			if f != "" {
				c.Formats = append(c.Formats, Format(f))
			}
		}
		var got []Format
		for _, f := range Formats() {
			if c.wants(f) {
				got = append(got, f)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: got %v", formats, got)
		}
	}
}
