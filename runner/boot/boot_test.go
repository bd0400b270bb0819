// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"crypto/sha256"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kettle/attest/image"
)

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEnterOutsideOfABoot(t *testing.T) {
	t.Parallel()
	if environment, err := Enter(t.Context()); err == nil || environment != nil {
		t.Errorf("want an error, got %v", environment)
	}
}

func TestReadConfig(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "config.yaml"), "kind: test\n")
	config, err := readConfig(path, sha256.Sum256([]byte("kind: test\n")))
	if err != nil || string(config) != "kind: test\n" {
		t.Errorf("got %q, %v", config, err)
	}
	if _, err := readConfig(path+".not", image.SHA256{1}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no configuration: got %v", err)
	}
}

func TestAttackOtherConfiguration(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "config.yaml"), "kind: test\n")
	if _, err := readConfig(path, sha256.Sum256([]byte("kind: other\n"))); err == nil || !strings.Contains(err.Error(), "not the one on the measured command line") {
		t.Errorf("another configuration: got %v", err)
	}
}

func TestAttackLinkedConfiguration(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "config.yaml"), "kind: test\n")
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := readConfig(link, sha256.Sum256([]byte("kind: test\n"))); err == nil {
		t.Error("a link was followed")
	}
}

func TestReadCommandLine(t *testing.T) {
	t.Parallel()
	want := image.CommandLine{Config: image.SHA256{1}, Root: image.Verity{RootHash: image.SHA256{2}, DataBlocks: 1}}
	path := write(t, filepath.Join(t.TempDir(), "cmdline"), want.String()+"\n")
	if got, err := readCommandLine(path); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	path = write(t, filepath.Join(t.TempDir(), "cmdline"), want.String()+" init=/bin/sh\n")
	if got, err := readCommandLine(path); err == nil {
		t.Errorf("a word more was accepted: %v", got)
	}
}

func TestLoadModulesDemandsEach(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := loadModules(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no list: got %v", err)
	}
	write(t, filepath.Join(dir, "list"), "absent.ko rd_nr=1\n")
	if err := loadModules(dir); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "absent.ko rd_nr=1") {
		t.Errorf("a module that is not there: got %v", err)
	}
	write(t, filepath.Join(dir, "list"), "?absent.ko\n")
	if err := loadModules(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an optional module that is not there: got %v", err)
	}
	write(t, filepath.Join(dir, "list"), "../absent.ko\n")
	if err := loadModules(dir); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("a path in the list: got %v", err)
	}
}

// TestAttackMountedHost looks for file systems in which the host would hand something over.
func TestAttackMountedHost(t *testing.T) {
	t.Parallel()
	kinds := []string{"proc", "sysfs", "devtmpfs", "devpts", "tmpfs", "cgroup2", "configfs"}
	for _, m := range slices.Concat(earlyMounts, lateMounts) {
		if !slices.Contains(kinds, m.kind) {
			t.Errorf("%s is mounted on %s", m.kind, m.target)
		}
	}
}

func TestFindPort(t *testing.T) {
	t.Parallel()
	class := t.TempDir()
	write(t, filepath.Join(class, "vport0p1", "name"), image.ControlPort+"\n")
	if got, err := findPort(class, image.ControlPort); err != nil || got != "vport0p1" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := findPort(class, image.QuotePort); err != nil || got != "" {
		t.Errorf("a port that is not there: got %q, %v", got, err)
	}
}

func TestOneLine(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, want string }{
		"plain":      {"all is lost", "all is lost"},
		"lines":      {"all\nis\r\n\tlost\n", "all is lost"},
		"escapes":    {"all\x1b[2Jis", "all [2Jis"},
		"not UTF-8":  {"all\xff\xfeis", "all is"},
		"very long":  {strings.Repeat("é", 2000), strings.Repeat("é", 500) + "…"},
		"empty":      {"", ""},
		"right-left": {"a\u202eb", "a b"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := oneLine(tt.text); got != tt.want {
				t.Errorf("want %q, got %q", tt.want, got)
			}
		})
	}
}

func TestNetworkValidate(t *testing.T) {
	t.Parallel()
	good := func() Network {
		return Network{
			Interface: "eth0", Address: netip.MustParsePrefix("10.0.2.15/24"),
			Hosts: map[string]netip.Addr{"github.demo.test": netip.MustParseAddr("10.0.2.100")},
		}
	}
	if err := good().Validate(); err != nil {
		t.Errorf("a good network: %v", err)
	}
	tests := map[string]struct {
		spoil func(*Network)
		want  string
	}{
		"no interface":     {func(n *Network) { n.Interface = "" }, "interface"},
		"long interface":   {func(n *Network) { n.Interface = "an-interface-too-long" }, "interface"},
		"no address":       {func(n *Network) { n.Address = netip.Prefix{} }, "address"},
		"IPv6 address":     {func(n *Network) { n.Address = netip.MustParsePrefix("fe80::1/64") }, "address"},
		"IPv6 gateway":     {func(n *Network) { n.Gateway = netip.MustParseAddr("fe80::1") }, "gateway"},
		"empty name":       {func(n *Network) { n.Hosts[""] = netip.MustParseAddr("10.0.2.1") }, "hosts"},
		"name with a line": {func(n *Network) { n.Hosts["a\n1.1.1.1 b"] = netip.MustParseAddr("10.0.2.1") }, "hosts"},
		"name without":     {func(n *Network) { n.Hosts["a"] = netip.Addr{} }, "hosts"},
		"four resolvers":   {func(n *Network) { n.Resolvers = make([]netip.Addr, 4) }, "at most 3"},
		"no resolver":      {func(n *Network) { n.Resolvers = []netip.Addr{{}} }, "want addresses"},
		"zoned resolver":   {func(n *Network) { n.Resolvers = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} }, "want addresses"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := good()
			tt.spoil(&n)
			if err := n.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want an error about %s, got %v", tt.want, err)
			}
		})
	}
}

func TestHostsFile(t *testing.T) {
	t.Parallel()
	got := hostsFile(map[string]netip.Addr{"b.test": netip.MustParseAddr("10.0.2.100"), "a.test": netip.MustParseAddr("fd00::1")})
	if want := "127.0.0.1 localhost kettle\nfd00::1 a.test\n10.0.2.100 b.test\n"; got != want {
		t.Errorf("want %q, got %q", want, got)
	}
}

func TestResolverFile(t *testing.T) {
	t.Parallel()
	got := resolverFile([]netip.Addr{netip.MustParseAddr("10.0.2.3"), netip.MustParseAddr("fd00::3")})
	if want := "nameserver 10.0.2.3\nnameserver fd00::3\n"; got != want {
		t.Errorf("want %q, got %q", want, got)
	}
}

func TestHandover(t *testing.T) {
	t.Parallel()
	environ, err := state{Phases: []Phase{{Name: "kernel", Duration: time.Second}}}.environ()
	if err != nil {
		t.Fatal(err)
	}
	want := `KETTLE_BOOT={"phases":[{"name":"kernel","start":0,"duration":1000000000}]}`
	if !slices.Contains(environ, want) {
		t.Errorf("want %q in %q", want, environ)
	}
}
