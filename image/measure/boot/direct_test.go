// SPDX-License-Identifier: Apache-2.0

package boot_test

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/kettle/attest/image/measure/boot"
	"github.com/kettle/attest/image/measure/measuretest"
)

func direct() boot.Direct {
	return boot.Direct{
		Kernel: measuretest.Kernel("kernel"), Initrd: []byte("initrd"), CommandLine: "root=LABEL=cloudimg-rootfs ro console=ttyS0",
		Option: boot.InitrdFirst,
	}
}

// TestDirectGolden holds values that others published of a real trust domain: the digest of its command line, the digest of
// its initrd, and the RTMR2 that its quote has.
func TestDirectGolden(t *testing.T) {
	t.Parallel()
	digests, err := direct().Digests(boot.TDX)
	if err != nil {
		t.Fatal(err)
	}
	const line = "b8c85d40a1d555a451571e24d7d7c4c331bc15721d6e4b2a5cb5093214c44174822a0916aa4d622d4309644de99cd59c"
	if got := hex.EncodeToString(digests.CommandLine); got != line {
		t.Errorf("command line: want %s, got %s", line, got)
	}
	initrd, err := hex.DecodeString("88de90bedcc560064688c74ccd6609a25ed9d48b0a0e13d8b2a558212724d8755b2c8114dcf04b8d51ea4cf7782e3091")
	if err != nil {
		t.Fatal(err)
	}
	digests.Initrd = initrd
	l, err := digests.Log(boot.TDX)
	if err != nil {
		t.Fatal(err)
	}
	const rtmr2 = "972547466cb6bcb8a23cd479e9258c3affbbc4f0ba2805d732477200d0dff8432447c7a775e70453cdb51f018a306ece"
	if got, err := l.RTMR(2); err != nil || hex.EncodeToString(got[:]) != rtmr2 {
		t.Errorf("RTMR2: want %s, got %x, %v", rtmr2, got, err)
	}
}

func TestDirectEvents(t *testing.T) {
	t.Parallel()
	l, err := direct().Log(boot.TPM)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"4 kernel", "4 calling the boot option", "4 separator", "9 command line", "9 initrd",
		"5 exit of boot services", "5 exit of boot services, success",
	}
	if got := events(l); !slices.Equal(got, want) {
		t.Errorf("want %q, got %q", want, got)
	}
	d := direct()
	d.Initrd = nil
	if l, err = d.Log(boot.TDX); err != nil || len(l.Events()) != len(want)-1 {
		t.Errorf("without an initrd: %v", err)
	}
}

// TestInitrdOption: the word for the initrd stands before or behind the line, and only if there is an initrd.
func TestInitrdOption(t *testing.T) {
	t.Parallel()
	digest := func(line string) string {
		var b bytes.Buffer
		for _, c := range []byte(line) {
			b.Write([]byte{c, 0})
		}
		d := sha512.Sum384(append(b.Bytes(), 0, 0))
		return hex.EncodeToString(d[:])
	}
	for _, test := range []struct {
		option boot.InitrdOption
		initrd string
		want   string
	}{
		{boot.InitrdFirst, "x", "initrd=initrd quiet"},
		{boot.InitrdLast, "x", "quiet initrd=initrd"},
		{boot.InitrdFirst, "", "quiet"},
		{boot.InitrdLast, "", "quiet"},
	} {
		d := direct()
		d.CommandLine, d.Option, d.Initrd = "quiet", test.option, []byte(test.initrd)
		got, err := d.Digests(boot.TDX)
		if err != nil || hex.EncodeToString(got.CommandLine) != digest(test.want) {
			t.Errorf("%q: got %x, %v", test.want, got.CommandLine, err)
		}
	}
}

// TestSetupHeader: the bytes that QEMU before 10.2 changes, as published for a real guest of 2 GiB with an initrd of 11,100,864
// bytes.
func TestSetupHeader(t *testing.T) {
	t.Parallel()
	d := direct()
	d.Initrd = make([]byte, 11100864)
	d.Memory = 2 << 30
	got, err := d.Digests(boot.TDX)
	if err != nil {
		t.Fatal(err)
	}
	patched := bytes.Clone(d.Kernel)
	copy(patched[0x210:], "\xb0\x81")
	copy(patched[0x218:], "\x00\x10\x54\x7f\xc0\x62\xa9\x00")
	copy(patched[0x224:], "\x00\xfe")
	copy(patched[0x228:], "\x00\x00\x02\x00")
	want, err := boot.Direct{Kernel: patched, Initrd: d.Initrd, CommandLine: d.CommandLine, Option: d.Option}.Digests(boot.TDX)
	if err != nil || !bytes.Equal(got.Kernel, want.Kernel) {
		t.Errorf("want %x, got %x, %v", want.Kernel, got.Kernel, err)
	}
	if bytes.Equal(d.Kernel, patched) || !bytes.Equal(d.Kernel, measuretest.Kernel("kernel")) {
		t.Error("the caller's kernel was changed")
	}
	other := d
	other.Memory = 512 << 20 // the initrd is placed lower
	if o, err := other.Digests(boot.TDX); err != nil || bytes.Equal(o.Kernel, got.Kernel) {
		t.Errorf("memory does not matter, or %v", err)
	}
	d.Memory, other.Memory = 3<<30, 64<<30 // from 2816 MiB on, 2 GiB are low
	a, errA := d.Digests(boot.TDX)
	b, errB := other.Digests(boot.TDX)
	if errA != nil || errB != nil || !bytes.Equal(a.Kernel, b.Kernel) || !bytes.Equal(a.Kernel, got.Kernel) {
		t.Errorf("large guests differ, or %v, %v", errA, errB)
	}
}

func TestDirectRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change      func(*boot.Direct)
		want        string
		unsupported bool
	}{
		"no kernel":       {func(d *boot.Direct) { d.Kernel = nil }, "kernel", false},
		"no PE":           {func(d *boot.Direct) { d.Kernel = bytes.Repeat([]byte("x"), 4096) }, "DOS header", false},
		"no option":       {func(d *boot.Direct) { d.Option = 0 }, "unknown place", false},
		"no line":         {func(d *boot.Direct) { d.CommandLine = "" }, "command line", true},
		"a newline":       {func(d *boot.Direct) { d.CommandLine = "a\n" }, "0x0a", true},
		"vga=":            {func(d *boot.Direct) { d.Memory, d.CommandLine = 1<<30, "vga=ask" }, "vga=", true},
		"old header":      {func(d *boot.Direct) { d.Memory = 1 << 30; d.Kernel[0x206] = 0x0b }, "setup header", true},
		"no header":       {func(d *boot.Direct) { d.Memory = 1 << 30; d.Kernel[0x202] = 0 }, "setup header", true},
		"little memory":   {func(d *boot.Direct) { d.Memory = 1 << 10 }, "too few", false},
		"a large initrd":  {func(d *boot.Direct) { d.Memory = 1 << 20; d.Initrd = make([]byte, 2<<20) }, "does not fit", false},
		"a short kernel":  {func(d *boot.Direct) { d.Memory = 1 << 30; d.Kernel = d.Kernel[:0x100] }, "setup header", true},
		"a truncated one": {func(d *boot.Direct) { d.Kernel = d.Kernel[:0x400] }, "outside the file", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := direct()
			test.change(&d)
			_, err := d.Log(boot.TDX)
			var unsupported *boot.UnsupportedError
			if err == nil || !strings.Contains(err.Error(), test.want) || errors.As(err, &unsupported) != test.unsupported {
				t.Errorf("want an error with %q, got %v", test.want, err)
			}
		})
	}
	for name, d := range map[string]boot.DirectDigests{
		"nothing":          {},
		"no command line":  {Kernel: make([]byte, 48)},
		"of a TPM":         {Kernel: make([]byte, 32), CommandLine: make([]byte, 32)},
		"a short initrd's": {Kernel: make([]byte, 48), CommandLine: make([]byte, 48), Initrd: make([]byte, 32)},
	} {
		if l, err := d.Log(boot.TDX); err == nil || l != nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestAttackOtherCommandLine: another command line, or one bit of kernel or initrd, changes the registers.
func TestAttackOtherCommandLine(t *testing.T) {
	t.Parallel()
	both := func(d boot.Direct) string {
		l, err := d.Log(boot.TDX)
		if err != nil {
			t.Fatal(err)
		}
		one, err1 := l.RTMR(1)
		two, err2 := l.RTMR(2)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		return hex.EncodeToString(one[:]) + hex.EncodeToString(two[:])
	}
	good := both(direct())
	for name, change := range map[string]func(*boot.Direct){
		"command line": func(d *boot.Direct) { d.CommandLine += " init=/bin/sh" },
		"initrd":       func(d *boot.Direct) { d.Initrd[0] ^= 1 },
		"no initrd":    func(d *boot.Direct) { d.Initrd = nil },
		"kernel":       func(d *boot.Direct) { d.Kernel[len(d.Kernel)-1] ^= 1 },
	} {
		d := direct()
		change(&d)
		if both(d) == good {
			t.Errorf("%s changed: the same registers", name)
		}
	}
}

func TestPartitionTable(t *testing.T) {
	t.Parallel()
	image := uki("259", parts())
	rtmr1 := func(disk []byte) (string, error) {
		l, err := boot.UKI{Image: image, Loader: boot.Disk, GPT: disk}.Log(boot.TDX)
		if err != nil {
			return "", err
		}
		v, err := l.RTMR(1)
		return hex.EncodeToString(v[:]), err
	}
	good, err := rtmr1(measuretest.Disk())
	if err != nil {
		t.Fatal(err)
	}
	if longer, err := rtmr1(append(measuretest.Disk(), 1, 2, 3)); err != nil || longer != good {
		t.Errorf("what follows the table matters, or %v", err)
	}
	le := binary.LittleEndian
	summed := func(change func(b []byte)) []byte {
		b := measuretest.Disk()
		change(b)
		clear(b[512+16 : 512+20])
		le.PutUint32(b[512+88:], crc32.ChecksumIEEE(b[1024:1024+128*128]))
		le.PutUint32(b[512+16:], crc32.ChecksumIEEE(b[512:512+92]))
		return b
	}
	if moved, err := rtmr1(summed(func(b []byte) { b[1024+32] ^= 1 })); err != nil || moved == good {
		t.Errorf("a partition moved: the same RTMR1, or %v", err)
	}
	for name, disk := range map[string][]byte{
		"short":           measuretest.Disk()[:boot.GPTSize-1],
		"empty":           make([]byte, boot.GPTSize),
		"header changed":  func() []byte { b := measuretest.Disk(); b[512+56] ^= 1; return b }(),
		"entry changed":   func() []byte { b := measuretest.Disk(); b[1024+32] ^= 1; return b }(),
		"many entries":    summed(func(b []byte) { le.PutUint32(b[512+80:], 0xffffffff) }),
		"large entries":   summed(func(b []byte) { le.PutUint32(b[512+84:], 256) }),
		"entries nowhere": summed(func(b []byte) { le.PutUint64(b[512+72:], 1<<60) }),
		"a backup header": summed(func(b []byte) { le.PutUint64(b[512+24:], 2) }),
	} {
		if _, err := rtmr1(disk); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
