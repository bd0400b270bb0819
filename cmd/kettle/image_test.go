// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kettle/attest/image"
	"github.com/kettle/attest/image/imagetest"
	"github.com/kettle/attest/image/measure/measuretest"
)

// imageFiles are the files that the scripts about images find in their folder.
func imageFiles(t testing.TB) map[string][]byte {
	t.Helper()
	kernel := measuretest.Kernel("kernel")
	sections := []measuretest.Section{
		{Name: ".text", Data: []byte("stub")}, measuretest.Stub("257.9-1"),
		{Name: ".osrel", Data: []byte("ID=kettle\n")}, {Name: ".cmdline", Data: []byte("console=ttyS0")},
		{Name: ".initrd", Data: []byte("initrd")}, {Name: ".linux", Data: kernel},
	}
	old := append([]measuretest.Section{measuretest.Stub("251")}, sections[2:]...)
	files := map[string][]byte{
		"amdsev.fd": measuretest.AMDSEV().Bytes(), "plain.fd": measuretest.Plain().Bytes(), "tdvf.fd": measuretest.TDVF().Bytes(),
		"no-ovmf.fd": make([]byte, 4096), "vmlinuz": kernel, "initrd": []byte("initrd"), "disk.img": measuretest.Disk(),
		"uki.efi": measuretest.PE(sections, nil), "old.efi": measuretest.PE(old, nil), "root": []byte("root"),
	}
	file := func(name string) image.File {
		return image.File{Name: name, SHA256: sha256.Sum256(files[name]), Size: int64(len(files[name]))}
	}
	m := imagetest.Manifest()
	m.Files.Firmware, m.Files.Kernel, m.Files.Initrd, m.Files.Root = file("amdsev.fd"), file("vmlinuz"), file("initrd"), file("root")
	b, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	files["image.json"] = b
	for name := range map[string]int{"amdsev.fd": 0, "vmlinuz": 0, "initrd": 0} {
		files["altered/"+name] = append([]byte(nil), files[name]...)
	}
	files["altered/vmlinuz"][len(kernel)-1] ^= 1
	files["altered/image.json"] = b
	return files
}

func TestImageScripts(t *testing.T) {
	t.Parallel()
	files := imageFiles(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/image",
		Setup: func(env *testscript.Env) error {
			for name, b := range files {
				path := filepath.Join(env.WorkDir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					return err
				}
				if err := os.WriteFile(path, b, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": wantCode, "snapshot": snapshot, "unchanged": unchanged,
		},
		RequireExplicitExec: true,
	})
}
