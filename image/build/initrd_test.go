// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"

	"github.com/kettle/attest/image"
)

func TestWriteArchive(t *testing.T) {
	t.Parallel()
	entries := func() []entry {
		return []entry{
			{path: "/etc/b", mode: cpio.TypeReg | 0o444, data: []byte("b")},
			{path: "/init", mode: cpio.TypeReg | 0o755, data: []byte("init")},
			{path: "/etc", mode: cpio.TypeDir | 0o755},
		}
	}
	var first, second bytes.Buffer
	reversed := entries()
	slices.Reverse(reversed)
	if err := errors.Join(writeArchive(&first, entries()), writeArchive(&second, reversed)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the order of the inputs shows")
	}
	archive := cpio.NewReader(&first)
	var names []string
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
		if header.ModTime.Unix() != 0 || header.Uid != 0 || header.Guid != 0 {
			t.Errorf("%s: time %v, owner %d:%d", header.Name, header.ModTime, header.Uid, header.Guid)
		}
	}
	if want := []string{"etc", "etc/b", "init"}; !slices.Equal(names, want) {
		t.Errorf("want %v, got %v", want, names)
	}
}

func TestConfigEntriesRefuse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.yaml"), "x", 0o600)
	if got, err := configEntries(dir); err != nil || len(got) != 1 || got[0].path != image.ConfigFile {
		t.Errorf("got %v, %v", got, err)
	}
	must(t, os.Symlink("config.yaml", filepath.Join(dir, "link")))
	if _, err := configEntries(dir); err == nil {
		t.Error("a link was taken")
	}
}

// TestInitrd uses the kernel that is in the cache, if there is one.
func TestInitrd(t *testing.T) {
	t.Parallel()
	kernel := cachedKernel(t)
	dir := t.TempDir()
	in := Initrd{Init: write(t, filepath.Join(dir, "init"), "\x7fELF", 0o755), Config: filepath.Join(dir, "c"), Modules: kernel.Modules, Profile: Strict}
	write(t, filepath.Join(in.Config, "config.yaml"), "x", 0o600)
	var first, second bytes.Buffer
	digest, err := WriteInitrd(t.Context(), &first, in)
	must(t, err)
	if digest != sha256sum([]byte("x")) {
		t.Errorf("the configuration's digest: got %s", digest)
	}
	_, err = WriteInitrd(t.Context(), &second, in)
	must(t, err)
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("two initrds of the same inputs differ")
	}
	must(t, os.Remove(filepath.Join(in.Config, "config.yaml")))
	if _, err := WriteInitrd(t.Context(), io.Discard, in); err == nil {
		t.Error("an initrd without configuration was written")
	}
	write(t, filepath.Join(in.Config, "config.yaml"), "x", 0o600)
	write(t, in.Init, "#!/bin/sh", 0o755)
	if _, err := WriteInitrd(t.Context(), io.Discard, in); err == nil {
		t.Error("a script became init")
	}
}

// cachedKernel gives the kernel that is in the cache, if there is one.
func cachedKernel(t *testing.T) *Kernel {
	t.Helper()
	cache, err := CacheDir(os.Getenv)
	must(t, err)
	kernel, err := CachedKernel(cache)
	if err != nil {
		if os.Getenv("KETTLE_REQUIRE_VM") == "1" {
			t.Fatalf("KETTLE_REQUIRE_VM=1: %v", err)
		}
		t.Skipf("%v; scripts/build-image --kernel fetches it", err)
	}
	return kernel
}

// TestModules shows everything that a guest's kernel ever has beyond itself. What grows here grows what a job can attack.
func TestModules(t *testing.T) {
	t.Parallel()
	kernel := cachedKernel(t)
	const strict = "virtio_blk failover net_failover virtio_net dm_mod dm_bufio reed_solomon dm_verity libcrc32c erofs brd xfs" +
		" dm_crypt xor async_tx async_xor dm_integrity authenc xts overlay veth"
	const docker = " llc stp bridge br_netfilter tun binfmt_misc" +
		" nfnetlink nf_tables x_tables nft_compat nf_defrag_ipv6 nf_defrag_ipv4 nf_conntrack nf_nat nft_chain_nat nft_nat nft_masq" +
		" nft_redir nft_ct nft_fib nft_fib_ipv6 nft_fib_ipv4 nft_fib_inet nf_conntrack_netlink" +
		" xt_MASQUERADE xt_nat xt_addrtype xt_conntrack xt_comment xt_multiport xt_mark xt_tcpudp ip_tables iptable_filter iptable_nat"
	const hardware = " ?sha256_ssse3 cryptd crypto_simd gf128mul ?aesni_intel scsi_common scsi_mod ?virtio_scsi ?sd_mod" +
		" ?hv_vmbus scsi_transport_fc ?hv_storvsc ?hv_netvsc ?gve ?ena configfs ?tsm ?sev_guest ?tdx_guest"
	for profile, want := range map[Profile]string{Strict: strict + hardware, Docker: strict + docker + hardware} {
		modules, err := loadOrder(t.Context(), kernel.Modules, profile.modules(), hardwareModules)
		must(t, err)
		var names []string
		for _, m := range modules {
			name, parameters, _ := strings.Cut(m.String(), " ")
			names = append(names, strings.TrimSuffix(name, ".ko"))
			if want := map[string]string{"brd.ko": "rd_nr=1 rd_size=1073741824"}[name]; parameters != want {
				t.Errorf("%s: want parameters %q, got %q", name, want, parameters)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: want %s, got %s", profile, want, got)
		}
	}
	for _, unknown := range [][]string{{"no_such_module"}, nil} {
		if _, err := loadOrder(t.Context(), kernel.Modules, unknown, []string{"no_such_module"}); err == nil {
			t.Error("a module that does not exist was resolved")
		}
	}
}

// TestAttackHostsGifts looks for modules through which the guest would take what the host chooses and nobody measures.
func TestAttackHostsGifts(t *testing.T) {
	t.Parallel()
	kernel := cachedKernel(t)
	modules, err := loadOrder(t.Context(), kernel.Modules, Docker.modules(), hardwareModules)
	must(t, err)
	for _, m := range modules {
		for _, gift := range []string{
			"qemu_fw_cfg", "dmi_sysfs", "efivarfs", "efivars", "efi_pstore", "pstore", "acpi_configfs", "virtio_rng", "virtio_balloon", "hv_balloon",
			"hv_utils", "hv_sock", "vsock", "9p", "virtiofs", "fuse", "virtio_input", "virtio_mem", "virtio_pmem", "vfat", "isofs", "uio",
		} {
			if strings.TrimSuffix(m.File, ".ko") == gift {
				t.Errorf("the guest loads %s", gift)
			}
		}
	}
}
