// SPDX-License-Identifier: Apache-2.0

package outputs_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
)

// whenReading calls do once, when kettled asks for the n-th time whether its context still stands: in the middle of a
// file of more than n buffers.
type whenReading struct {
	context.Context
	n  int
	do func()
}

func (w *whenReading) Err() error {
	if w.n--; w.n == 0 {
		w.do()
	}
	return w.Context.Err()
}

func TestChangedWhileHashing(t *testing.T) {
	t.Parallel()
	const size = 4 << 20
	for name, do := range map[string]func(file string) error{
		"replaced": func(file string) error { return os.Rename(file+".new", file) },
		"removed":  os.Remove,
		"written": func(file string) error {
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("x"), 0)
			return errors.Join(err, f.Close())
		},
		"grown":     func(file string) error { return os.Truncate(file, size+1) },
		"truncated": func(file string) error { return os.Truncate(file, 1<<20) },
		"made a link": func(file string) error {
			return errors.Join(os.Rename(file, file+".old"), os.Symlink(filepath.Base(file)+".old", file))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, ws := sandbox(t, map[string]string{"f": "", "f.new": ""})
			for _, f := range []string{"f", "f.new"} {
				if err := os.Truncate(filepath.Join(ws, f), size); err != nil {
					t.Fatal(err)
				}
			}
			done := false
			ctx := &whenReading{Context: t.Context(), n: 2, do: func() {
				done = true
				if err := do(filepath.Join(ws, "f")); err != nil {
					t.Error(err)
				}
			}}
			_, err := collect(ctx, root, patterns("f"), limits())
			if !done {
				t.Fatal("nothing was changed")
			}
			wantRefusal(t, err, refusal.ErrBinding, "unchanged while it was read")
		})
	}
}

// A folder in the path is swapped for a link to kettled's own files as fast as the kernel can. Whatever moment the
// resolution meets, it never hashes what the link leads to.
func TestParentSwapped(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	write(t, filepath.Join(outside, "f"), "secret of the supervisor")
	root, ws := sandbox(t, map[string]string{"dir/f": "inside"})
	link := filepath.Join(ws, "link")
	if err := os.Symlink(outside, link); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(ws, "dir"), unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
				runtime.Gosched()
			}
		}
	}()
	want := sha256.Sum256([]byte("inside"))
	hashed, refused := 0, 0
	for range 500 {
		for _, p := range []string{"dir/f", "dir/*", "d*/f"} {
			got, err := collect(t.Context(), root, patterns(p), limits())
			switch {
			case errors.Is(err, refusal.ErrNotVerified):
				refused++
			case err != nil:
				t.Fatal(err)
			case len(got) != 1 || got[0].SHA256 != want:
				t.Fatalf("hashed something else: %v", got)
			default:
				hashed++
			}
		}
	}
	close(stop)
	<-stopped
	t.Logf("%d hashed, %d refused", hashed, refused)
}
