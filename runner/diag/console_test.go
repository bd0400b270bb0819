// SPDX-License-Identifier: Apache-2.0

package diag

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// numbered gives n bytes in which every place can be recognised.
func numbered(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%07d\n", i)
	}
	return b.Bytes()[:n]
}

func TestConsole(t *testing.T) {
	t.Parallel()
	const keep = 1000
	for _, size := range []int{0, 1, keep, margin, 2 * margin, 2*margin + 2*keep, 2*margin + 2*keep + 1, 5 * margin} {
		for _, step := range []int{1, 4097, margin + 1, 6 * margin} {
			if size > margin && step == 1 {
				continue
			}
			c, all := NewConsole(keep, keep), numbered(size)
			for rest := all; len(rest) > 0; {
				n := min(step, len(rest))
				if k, err := c.Write(rest[:n]); k != n || err != nil {
					t.Fatal(k, err)
				}
				rest = rest[n:]
			}
			got := c.text()
			switch known := 2 * (margin + keep); {
			case got.size != int64(size) || c.Total() != int64(size):
				t.Errorf("%d in steps of %d: says %d", size, step, got.size)
			case !bytes.HasPrefix(all, got.head) || !bytes.HasSuffix(all, got.tail):
				t.Errorf("%d in steps of %d: got other bytes", size, step)
			case size <= known && !got.isWhole():
				t.Errorf("%d in steps of %d: is cut", size, step)
			case size > known && (len(got.head) != margin+keep || len(got.tail) != margin+keep):
				t.Errorf("%d in steps of %d: kept %d and %d", size, step, len(got.head), len(got.tail))
			}
		}
	}
}

func TestConsoleKeepsNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*Console{"zero value": {}, "zero": NewConsole(0, 0), "negative": NewConsole(-1, -1)} {
		if n, err := c.Write([]byte("text")); n != 4 || err != nil || c.Total() != 4 || len(c.text().head)+len(c.text().tail) > 0 {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	tail := NewConsole(0, 1)
	_, _ = tail.Write(numbered(10))
	if got := tail.text(); !got.isWhole() {
		t.Errorf("kept %+v", got)
	}
}

// TestConsoleShows what is left of an output that was too long.
func TestConsoleShows(t *testing.T) {
	t.Parallel()
	c, all := NewConsole(16, 48), numbered(8*margin)
	_, _ = c.Write(all)
	got, left, _ := NewMasker(nil).cut(c.text(), 1<<20)
	want := fmt.Sprintf("0000000\n0000001\n\n[kettle: %d bytes were left out here]\n%s", left, all[len(all)-48:])
	if string(got) != want || left != int64(len(all)-64) {
		t.Errorf("got %q, %d left", got, left)
	}
}

// TestConsoleOfALog is how kettled's own log comes to be in the archive.
func TestConsoleOfALog(t *testing.T) {
	t.Parallel()
	c := NewConsole(1<<10, 1<<10)
	log := slog.New(slog.NewJSONHandler(c, nil))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { log.Info("line", slog.Int("number", i)) })
	}
	all.Wait()
	if got := string(c.text().head); strings.Count(got, "\n") != 8 || !strings.Contains(got, `"number":7`) {
		t.Errorf("got %s", got)
	}
}
