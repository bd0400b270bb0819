// SPDX-License-Identifier: Apache-2.0

package bootattack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/kettle/attest/image/launch"
)

// The store of variables (edk2 MdeModulePkg/Include/Guid/VariableFormat.h).
const (
	storeHeader    = 28
	variableHeader = 60
	variableStart  = 0x55aa
	variableAdded  = 0x3f
	// everywhere is non-volatile, and visible to firmware and to the running system.
	everywhere = 7
	// loaderVendor is the GUID of the variables of systemd's, 8cf2644b-4b0b-428f-9387-6d876050dc67.
	loaderVendor = "\x4b\x64\xf2\x8c\x0b\x4b\x8f\x42\x93\x87\x6d\x87\x60\x50\xdc\x67"
)

func wide(text string) []byte {
	var b []byte
	for _, unit := range append(utf16.Encode([]rune(text)), 0) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

// variables gives the offsets of the variables in a file, and where the next one goes.
func variables(b []byte) (found []int, end int) {
	le := binary.LittleEndian
	at := int(le.Uint16(b[48:])) + storeHeader
	for le.Uint16(b[at:]) == variableStart {
		found = append(found, at)
		at += variableHeader + int(le.Uint32(b[at+36:])) + int(le.Uint32(b[at+40:]))
		at = (at + 3) &^ 3
	}
	return found, at
}

// withVariable gives the firmware's variables with one of the host's, by which systemd takes words of a command line.
func withVariable(t *testing.T) []byte {
	t.Helper()
	_, path, err := launch.FindOVMF()
	must(t, err)
	b, err := os.ReadFile(path)
	must(t, err)
	name, value := wide("SystemdOptions"), wide(`systemd.run="echo injected >/dev/ttyS0"`)
	v := make([]byte, variableHeader)
	le := binary.LittleEndian
	le.PutUint16(v, variableStart)
	v[2] = variableAdded
	le.PutUint32(v[4:], everywhere)
	le.PutUint32(v[36:], uint32(len(name)))
	le.PutUint32(v[40:], uint32(len(value)))
	copy(v[44:], loaderVendor)
	_, at := variables(b)
	copy(b[at:], append(append(v, name...), value...))
	return b
}

// TestAttackUKIInjection offers the image what [TestAttackInjection] does when firmware starts it from the disk, and an EFI
// variable of systemd's besides, which nobody measured. Nothing of it has any effect.
func TestAttackUKIInjection(t *testing.T) {
	t.Parallel()
	m := fromDisk(t)
	m.inject(t)
	path := m.file(t, "variables", withVariable(t))
	m.replace("if=pflash,unit=1", "if=pflash,unit=1,format=raw,file="+path)
	c := m.boot(t)
	c.unharmed(t)
	if strings.Contains(c.console, "injected") {
		t.Error("the host's words had an effect")
	}
	after, err := os.ReadFile(path)
	must(t, err)
	if before, _ := variables(withVariable(t)); len(before) == 0 {
		t.Error("the variable is not there")
	} else if now, _ := variables(after); len(now) <= len(before) {
		t.Error("firmware wrote none of its own behind the variable: it did not take it for one")
	}
}

// changeUKI changes the unified kernel image on a disk: the time in its header, which nobody looks at and the builder leaves 0.
func (w *world) changeUKI(t *testing.T, path string) {
	t.Helper()
	uki, err := os.ReadFile(w.File(w.manifest.Files.UKI))
	must(t, err)
	file, err := os.Open(path)
	must(t, err)
	head := make([]byte, w.layout().ESP.End())
	_, err = file.ReadAt(head, 0)
	must(t, errors.Join(err, file.Close()))
	at := bytes.Index(head, uki[:4096]) // it lies in one piece
	if at < 0 {
		t.Fatal("the image is not on its disk")
	}
	patch(t, path, int64(at)+int64(binary.LittleEndian.Uint32(uki[0x3c:]))+8, []byte("host"))
}
