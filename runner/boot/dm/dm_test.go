// SPDX-License-Identifier: Apache-2.0

package dm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func verity() Verity {
	return Verity{Device: "/dev/vda2", RootHash: [32]byte(bytes.Repeat([]byte{0xab}, 32)), DataBlocks: 300}
}

func key() []byte { return bytes.Repeat([]byte{0x5a}, KeySize) }

// TestTables fixes the tables. The first words are the kernel's format; what follows is what this package demands of it.
func TestTables(t *testing.T) {
	t.Parallel()
	root, err := verity().Target()
	if err != nil {
		t.Fatal(err)
	}
	tags, err := Integrity{Device: "/dev/vdb", Tags: "/dev/ram0", Bytes: 8192}.Target()
	if err != nil {
		t.Fatal(err)
	}
	crypt, err := Crypt{Device: "/dev/dm-1", Bytes: 8192, Key: key()}.Target()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		got     *Target
		kind    string
		sectors int64
		line    string
		flags   uint32
	}{
		{root, "verity", 2400, "1 /dev/vda2 /dev/vda2 4096 4096 300 300 sha256 " + strings.Repeat("ab", 32) + " - 2 panic_on_corruption panic_on_error", 1},
		{tags, "integrity", 16, "/dev/vdb 0 48 D 3 meta_device:/dev/ram0 journal_sectors:256 block_size:4096", 0},
		{crypt, "crypt", 16, "capi:authenc(hmac(sha256),xts(aes))-random " + strings.Repeat("5a", 96) + " 0 /dev/dm-1 0 2 integrity:48:aead sector_size:4096", 0x8000},
	} {
		if tt.got.kind != tt.kind || tt.got.sectors != tt.sectors || string(tt.got.parameters) != tt.line || tt.got.flags != tt.flags {
			t.Errorf("%s: got %s, %d, %q, %#x", tt.kind, tt.got.kind, tt.got.sectors, tt.got.parameters, tt.got.flags)
		}
	}
}

// TestAttackTable gives values that would say something else in a table, or nothing.
func TestAttackTable(t *testing.T) {
	t.Parallel()
	for _, device := range []string{"", "vda", "/dev/", "/dev/vda 0", "/dev/../vda", "/dev/mapper/root", "/dev/vda\n", "253:0", "/dev/" + strings.Repeat("a", 40)} {
		v := verity()
		v.Device = device
		if got, err := v.Target(); err == nil {
			t.Errorf("verity on %q: %q", device, got.parameters)
		}
		for _, i := range []Integrity{{Device: device, Tags: "/dev/ram0", Bytes: 4096}, {Device: "/dev/vdb", Tags: device, Bytes: 4096}} {
			if got, err := i.Target(); err == nil {
				t.Errorf("integrity on %q: %q", device, got.parameters)
			}
		}
		if got, err := (Crypt{Device: device, Bytes: 4096, Key: key()}).Target(); err == nil {
			t.Errorf("crypt on %q: %d bytes", device, len(got.parameters))
		}
	}
	for _, blocks := range []int64{-1, 0, 1<<50 + 1} {
		v := verity()
		v.DataBlocks = blocks
		if got, err := v.Target(); err == nil {
			t.Errorf("%d blocks: %q", blocks, got.parameters)
		}
	}
	v := verity()
	v.RootHash = [32]byte{}
	if got, err := v.Target(); err == nil {
		t.Errorf("no root hash: %q", got.parameters)
	}
	for _, size := range []int64{-4096, 0, 512, 4097} {
		if _, err := (Integrity{Device: "/dev/vdb", Tags: "/dev/ram0", Bytes: size}).Target(); err == nil {
			t.Errorf("tags for %d bytes", size)
		}
		if _, err := (Crypt{Device: "/dev/vdb", Bytes: size, Key: key()}).Target(); err == nil {
			t.Errorf("%d encrypted bytes", size)
		}
	}
	for _, short := range [][]byte{nil, key()[1:], append(key(), 0)} {
		if _, err := (Crypt{Device: "/dev/vdb", Bytes: 4096, Key: short}).Target(); err == nil {
			t.Errorf("a key of %d bytes", len(short))
		}
	}
}

// TestGolden fixes the bytes of a call, as linux/dm-ioctl.h lays them out on a 64-bit little-endian machine.
func TestGolden(t *testing.T) {
	t.Parallel()
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the golden bytes are little-endian")
	}
	for c, want := range map[command]uint{commandCreate: 0xc138fd03, commandRemove: 0xc138fd04, commandSuspend: 0xc138fd06, commandLoad: 0xc138fd09, commandStatus: 0xc138fd0c} {
		if got := c.number(); got != want {
			t.Errorf("call %d: want %#x, got %#x", c, want, got)
		}
	}
	r, err := newLoad("kettle-root", &Target{kind: "verity", sectors: 0x960, parameters: []byte("1 a b"), flags: flagReadOnly})
	if err != nil {
		t.Fatal(err)
	}
	want := "040000000000000000000000" + // version
		"68010000" + "38010000" + "01000000" + "00000000" + "01000000" + "00000000" + "00000000" + // sizes, one target, flags
		"0000000000000000" + hex.EncodeToString([]byte("kettle-root")) + strings.Repeat("00", 128-11) + strings.Repeat("00", 129+7) +
		"0000000000000000" + "6009000000000000" + "00000000" + "30000000" + hex.EncodeToString([]byte("verity")) + strings.Repeat("00", 10) +
		hex.EncodeToString([]byte("1 a b")) + "000000"
	if got := hex.EncodeToString(r); got != want {
		t.Errorf("want %s\ngot  %s", want, got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "-a", "A", "a/b", "a b", "../a", "a\x00b", strings.Repeat("a", 65)} {
		if _, err := newRequest(name, 0, 0); err == nil {
			t.Errorf("%q is a name", name)
		}
	}
	if _, err := newLoad("a", &Target{kind: "crypt", sectors: 1, parameters: make([]byte, maxBuffer)}); err == nil {
		t.Error("a table larger than the buffer")
	}
}

// kernel notes the calls and answers like one, until the call that is to fail.
type kernel struct {
	fails  command
	calls  []command
	seen   [][]byte  // copies of the requests
	buffer []request // the requests themselves
}

func (k *kernel) call(c command, r request) error {
	k.calls = append(k.calls, c)
	k.seen = append(k.seen, bytes.Clone(r))
	k.buffer = append(k.buffer, r)
	if c == k.fails {
		return unix.EINVAL
	}
	binary.NativeEndian.PutUint64(r[40:], unix.Mkdev(253, 300))
	return nil
}

func TestCreate(t *testing.T) {
	t.Parallel()
	k := &kernel{}
	c := &Control{call: k.call}
	target, err := verity().Target()
	if err != nil {
		t.Fatal(err)
	}
	path, err := c.Create("kettle-root", target)
	if err != nil || path != "/dev/dm-300" || !slices.Equal(k.calls, []command{commandCreate, commandLoad, commandSuspend}) {
		t.Errorf("got %q, %v, calls %v", path, err, k.calls)
	}
	for i, r := range k.seen[1:] {
		if r[28]&flagReadOnly == 0 {
			t.Errorf("call %d is not read-only", i+1)
		}
	}
	if _, err := c.Create("kettle-root", target); err == nil {
		t.Error("a target was used twice")
	}
}

func TestCreateLeavesNothing(t *testing.T) {
	t.Parallel()
	for fails, want := range map[command][]command{
		commandCreate:  {commandCreate},
		commandLoad:    {commandCreate, commandLoad, commandRemove},
		commandSuspend: {commandCreate, commandLoad, commandSuspend, commandRemove},
	} {
		k := &kernel{fails: fails}
		target, err := verity().Target()
		if err != nil {
			t.Fatal(err)
		}
		path, err := (&Control{call: k.call}).Create("a", target)
		if path != "" || !errors.Is(err, unix.EINVAL) || !slices.Equal(k.calls, want) {
			t.Errorf("%d fails: got %q, %v, calls %v", fails, path, err, k.calls)
		}
	}
}

// TestAttackKeyLeftBehind looks for the key in every buffer, after success and after a failure.
func TestAttackKeyLeftBehind(t *testing.T) {
	t.Parallel()
	for _, fails := range []command{0, commandCreate, commandLoad, commandSuspend} {
		k := &kernel{fails: fails}
		target, err := Crypt{Device: "/dev/dm-1", Bytes: 4096, Key: key()}.Target()
		if err != nil {
			t.Fatal(err)
		}
		parameters := target.parameters
		_, _ = (&Control{call: k.call}).Create("a", target)
		secret := []byte(strings.Repeat("5a", 8))
		for i, c := range k.calls {
			if c == commandLoad && (!bytes.Contains(k.seen[i], secret) || binary.NativeEndian.Uint32(k.seen[i][28:])&flagSecureData == 0) {
				t.Error("the kernel did not get the key, or is not told to wipe it")
			}
			if bytes.Contains(k.buffer[i], secret) {
				t.Errorf("the key stays in the buffer of call %d", c)
			}
		}
		if bytes.Contains(parameters[:cap(parameters)], secret) {
			t.Error("the key stays in the table")
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	answer := func(change func(request)) *Control {
		return &Control{call: func(_ command, r request) error {
			binary.NativeEndian.PutUint32(r[20:], 1)
			binary.NativeEndian.PutUint32(r[12:], headerSize+targetSize+8)
			copy(r[headerSize+24:], "verity")
			copy(r[headerSize+targetSize:], "V\x00rest")
			change(r)
			return nil
		}}
	}
	if kind, line, err := answer(func(request) {}).Status("a"); err != nil || kind != "verity" || line != "V" {
		t.Errorf("got %q, %q, %v", kind, line, err)
	}
	set := func(at int, value uint32) func(request) {
		return func(r request) { binary.NativeEndian.PutUint32(r[at:], value) }
	}
	for name, change := range map[string]func(request){
		"no target": set(20, 0), "two targets": set(20, 2), "full": set(28, flagBufferFull), "before the data": set(16, 8), "behind the end": set(12, 1<<20),
		"no room": set(12, headerSize+8), "start at the end": set(16, maxBuffer),
	} {
		if kind, line, err := answer(change).Status("a"); err == nil {
			t.Errorf("%s: got %q, %q", name, kind, line)
		}
	}
	k := &kernel{fails: commandStatus}
	if _, _, err := (&Control{call: k.call}).Status("a"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("got %v", err)
	}
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte("answer"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		c := &Control{call: func(_ command, r request) error { copy(r, answer); return nil }}
		if kind, _, err := c.Status("a"); err == nil && len(kind) > kindSize {
			t.Fatal("too long a kind")
		}
	})
}
