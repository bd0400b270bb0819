// SPDX-License-Identifier: Apache-2.0

package outputs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/runner/outputs"
)

// versions is after how many a racer begins anew.
const versions = 16

// racer writes a file of two halves in versions: first the first half, then the second. Every state in which the file
// ever stands has halves of one version, or a first half one version ahead.
type racer struct {
	file  string // the output
	halfs [versions][]byte
	whole map[[32]byte]bool // the digest of every state
}

// newRacer makes halfs of so many bytes, of which the first ones say the version and the rest is zero.
func newRacer(file string, half, fill int) racer {
	r := racer{file: file, whole: map[[32]byte]bool{}}
	for v := range versions {
		r.halfs[v] = append(bytes.Repeat([]byte{byte(v)}, fill), make([]byte, half-fill)...)
	}
	for v := range versions {
		r.whole[sha256.Sum256(append(bytes.Clone(r.half(v)), r.half(v)...))] = true
		r.whole[sha256.Sum256(append(bytes.Clone(r.half(v+1)), r.half(v)...))] = true
	}
	return r
}

func (r racer) half(v int) []byte { return r.halfs[v%versions] }

// write writes version v in place, through name.
func (r racer) write(t *testing.T, name string, v int) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o644)
	if err == nil {
		_, first := f.WriteAt(r.half(v), 0)
		_, second := f.WriteAt(r.half(v), int64(len(r.half(v))))
		err = errors.Join(first, second, f.Close())
	}
	if err != nil {
		t.Error(err)
	}
}

// attacks on a file that is being held and hashed. Each does one thing; v counts the rounds.
func (r racer) attacks(t *testing.T) map[string]func(v int) {
	beside := func(s string) string { return r.file + s }
	try := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	return map[string]func(int){
		"in place": func(v int) { r.write(t, r.file, v) },
		"through a hard link": func(v int) {
			_ = os.Remove(beside(".link"))
			try(os.Link(r.file, beside(".link")))
			r.write(t, beside(".link"), v)
		},
		"renamed over": func(v int) {
			r.write(t, beside(".new"), v)
			try(os.Rename(beside(".new"), r.file))
		},
		"exchanged": func(v int) {
			r.write(t, beside(".new"), v)
			try(unix.Renameat2(unix.AT_FDCWD, beside(".new"), unix.AT_FDCWD, r.file, unix.RENAME_EXCHANGE))
		},
		"linked anew": func(v int) {
			r.write(t, beside(".new"), v)
			try(errors.Join(os.Remove(r.file), os.Link(beside(".new"), r.file), os.Remove(beside(".new"))))
		},
		"folder exchanged": func(v int) {
			dir := filepath.Dir(r.file)
			try(os.MkdirAll(dir+".new", 0o755))
			r.write(t, filepath.Join(dir+".new", filepath.Base(r.file)), v)
			try(unix.Renameat2(unix.AT_FDCWD, dir+".new", unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE))
		},
	}
}

// race holds and hashes the file again and again while the attack goes on, and demands that every digest is one of a
// state in which the file stood whole.
func (r racer) race(t *testing.T, c outputs.Config, pattern string, rounds int, attack func(v int)) {
	t.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for v := 0; ; v++ {
			select {
			case <-stop:
				return
			default:
				attack(v)
			}
			if v%4 == 3 { // whoever always writes is always refused
				time.Sleep(time.Duration(v%8) * 200 * time.Microsecond)
			}
		}
	}()
	hashed, refused := 0, 0
	for range rounds {
		got, err := collectFrom(t.Context(), c, patterns(pattern), limits())
		switch {
		case errors.Is(err, refusal.ErrNotVerified):
			refused++
		case err != nil:
			t.Error(err)
		case len(got) != 1 || !r.whole[got[0].SHA256]:
			t.Errorf("a file that never stood there: %v", got)
		default:
			hashed++
		}
	}
	close(stop)
	<-stopped
	t.Logf("%d hashed, %d refused", hashed, refused)
	if hashed == 0 {
		t.Error("the race was never lost: it shows nothing")
	}
}

// The sandbox is not frozen here, and kettled makes snapshots.
func TestAttackRaceSnapshot(t *testing.T) {
	t.Parallel()
	disk := mountXFS(t, 512<<20)
	own := func(t *testing.T, name string) (outputs.Config, string) {
		fatal(t, os.Mkdir(filepath.Join(disk, name), 0o755))
		return snapshotsOn(t, filepath.Join(disk, name))
	}
	for name := range (racer{}).attacks(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, ws := own(t, name)
			fatal(t, os.Mkdir(filepath.Join(ws, "dist"), 0o755))
			r := newRacer(filepath.Join(ws, "dist/f"), 4096, 4096)
			r.write(t, r.file, 0)
			r.race(t, c, "/home/runner/_work/widget/dist/f", 1500, r.attacks(t)[name])
		})
	}
	t.Run("mapped", func(t *testing.T) {
		t.Parallel()
		c, ws := own(t, "mapped")
		r := newRacer(filepath.Join(ws, "f"), 4096, 8)
		r.write(t, r.file, 0)
		r.race(t, c, "/home/runner/_work/widget/f", 700, mapped(t, r.file))
	})
}

// The sandbox is not frozen here, and there are no snapshots: what is written meanwhile is noticed.
func TestAttackRace(t *testing.T) {
	t.Parallel()
	for name := range (racer{}).attacks(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, ws := sandbox(t, map[string]string{"dist/x": ""})
			r := newRacer(filepath.Join(ws, "dist/f"), 256<<10, 256<<10) // a read for each half
			r.write(t, r.file, 0)
			r.race(t, config(root), "dist/f", 250, r.attacks(t)[name])
		})
	}
}

// everyTime does something each time kettled asks whether its context still stands: before every read.
type everyTime struct {
	context.Context
	do func()
}

func (e everyTime) Err() error {
	e.do()
	return e.Context.Err()
}

// A file that grows as fast as it is read has no end, and no digest.
func TestAttackGrowing(t *testing.T) {
	t.Parallel()
	root, ws := sandbox(t, map[string]string{"f": "some text"})
	f, err := os.OpenFile(filepath.Join(ws, "f"), os.O_WRONLY|os.O_APPEND, 0)
	fatal(t, err)
	defer f.Close()
	block, armed := make([]byte, 256<<10), false
	ctx := everyTime{t.Context(), func() {
		if armed {
			_, err := f.Write(block)
			fatal(t, err)
		}
	}}
	l := limits()
	l.FrozenTime = time.Second
	h, err := outputs.Hold(ctx, config(root), patterns("f"), l)
	fatal(t, err)
	defer func() { fatal(t, h.Release()) }()
	armed = true
	_, err = h.Hash(ctx)
	wantRefusal(t, err, refusal.ErrBinding, "unchanged while it was read")
}

// mapped maps the file's two pages and gives what stores a version: one word in each page.
func mapped(t *testing.T, name string) func(v int) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	fatal(t, err)
	defer f.Close()
	pages, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	fatal(t, err)
	t.Cleanup(func() { _ = unix.Munmap(pages) })
	first, second := (*uint64)(unsafe.Pointer(&pages[0])), (*uint64)(unsafe.Pointer(&pages[4096]))
	return func(v int) {
		word := uint64(v%versions) * 0x0101010101010101
		atomic.StoreUint64(first, word)
		atomic.StoreUint64(second, word)
	}
}
