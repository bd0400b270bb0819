// SPDX-License-Identifier: Apache-2.0

package diag

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/internal/secret"
)

func at() time.Time { return time.Date(2026, 11, 22, 4, 5, 6, 789, time.UTC) }

// runnerFolder makes a volume with the runner program's folder in it.
func runnerFolder(t testing.TB, files map[string]string) (Folder, string) {
	t.Helper()
	volume := t.TempDir()
	dir := filepath.Join(volume, "actions-runner/_diag")
	fatal(t, os.MkdirAll(dir, 0o755))
	for name, text := range files {
		fatal(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		fatal(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return Folder{Volume: volume, Path: "actions-runner/_diag"}, dir
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// console makes one that has been written to.
func console(text string) *Console {
	c := NewConsole(1<<20, 1<<20)
	_, _ = c.Write([]byte(text))
	return c
}

// kernel is a kernel's log.
func kernel(text string) func([]byte) (int, error) {
	return func(buf []byte) (int, error) { return copy(buf, text[max(0, len(text)-len(buf)):]), nil }
}

// collected collects, checks what every archive must have, and unpacks it.
func collected(ctx context.Context, t testing.TB, s Sources, l Limits) (map[string]string, *Report) {
	t.Helper()
	s.At = at()
	data, report, err := Collect(ctx, s, l)
	fatal(t, err)
	if int64(len(data)) > l.Compressed {
		t.Errorf("the archive has %d bytes, the limit is %d", len(data), l.Compressed)
	}
	files := unpack(t, data, l)
	var told Report
	fatal(t, json.Unmarshal([]byte(files[manifestName]), &told))
	if diff := cmp.Diff(report, &told); diff != "" {
		t.Errorf("the manifest says something else: %s", diff)
	}
	delete(files, manifestName)
	if len(files) != len(told.Members) {
		t.Errorf("%d members, the manifest has %d", len(files), len(told.Members))
	}
	for _, e := range told.Members {
		if text, ok := files[e.Name]; !ok || int64(len(text)) != e.Kept || e.Kept > l.File {
			t.Errorf("%+v: %d bytes, %v", e, len(text), ok)
		}
		if form := survivor(s.Secrets, files[e.Name]+e.Name); form != "" {
			t.Errorf("%s: %q survives", e.Name, form)
		}
	}
	return files, report
}

// unpack reads an archive strictly.
func unpack(t testing.TB, data []byte, l Limits) map[string]string {
	t.Helper()
	packed, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1))
	fatal(t, err)
	defer packed.Close()
	raw, err := io.ReadAll(packed)
	fatal(t, err)
	if int64(len(raw)) > l.Total {
		t.Errorf("unpacked it has %d bytes, the limit is %d", len(raw), l.Total)
	}
	archive := tar.NewReader(bytes.NewReader(raw))
	files := map[string]string{}
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		fatal(t, err)
		if len(files) == 0 && h.Name != manifestName {
			t.Errorf("the first member is %s", h.Name)
		}
		want := &tar.Header{Typeflag: tar.TypeReg, Name: h.Name, Size: h.Size, Mode: 0o644, ModTime: h.ModTime, Format: tar.FormatUSTAR}
		if diff := cmp.Diff(want, h); diff != "" || !h.ModTime.Equal(at().Truncate(time.Second)) {
			t.Errorf("%s, %s: %s", h.Name, h.ModTime, diff)
		}
		if slices.Contains(strings.Split(h.Name, "/"), "..") || strings.HasPrefix(h.Name, "/") || strings.Trim(h.Name, shownNames) != "" {
			t.Errorf("a member is called %q", h.Name)
		}
		if _, twice := files[h.Name]; twice {
			t.Errorf("%s twice", h.Name)
		}
		text, err := io.ReadAll(archive)
		fatal(t, err)
		files[h.Name] = string(text)
	}
}

const shownNames = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./%"

// all has every source.
func all(t testing.TB) Sources {
	t.Helper()
	folder, _ := runnerFolder(t, map[string]string{
		"Runner_20261122-040506-utc.log": "the token is ghs_0123456789abcdefghij!\n", "Worker_20261122-040507-utc.log": "Job message: my secret\n",
		"pages/a_b.log": "output\n", "Another.log": "",
	})
	return Sources{
		Journal: []byte(`{"seq":0}` + "\n"), Log: console(`{"msg":"my%20secret"}` + "\n"), Console: console("√ Connected to GitHub\n"), Kernel: kernel("<6>[ 0.0] Linux\n"),
		Runner: folder, Secrets: []secret.String{secret.New("my secret")},
	}
}

func TestCollect(t *testing.T) {
	t.Parallel()
	files, report := collected(t.Context(), t, all(t), DefaultLimits())
	want := map[string]string{
		"journal.jsonl": `{"seq":0}` + "\n", "kettled.jsonl": `{"msg":"***"}` + "\n", "console.log": "√ Connected to GitHub\n", "kernel.log": "<6>[ 0.0] Linux\n",
		"runner/Runner_20261122-040506-utc.log": "the token is ghs_***!\n", "runner/Worker_20261122-040507-utc.log": "Job message: ***\n",
		"runner/pages/a_b.log": "output\n", "runner/Another.log": "",
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Error(diff)
	}
	if !report.Complete() || report.Masked != 3 || report.Schema != Schema || report.Marker != "***" || !report.At.Equal(at()) {
		t.Errorf("got %+v", report)
	}
	names := []string{"journal.jsonl", "kettled.jsonl", "console.log", "kernel.log", "runner/Runner_20261122-040506-utc.log",
		"runner/Worker_20261122-040507-utc.log", "runner/Another.log", "runner/pages/a_b.log"}
	for i, e := range report.Members {
		if e.Name != names[i] {
			t.Errorf("member %d is %s, want %s", i, e.Name, names[i])
		}
	}
}

func TestTwiceTheSame(t *testing.T) {
	t.Parallel()
	s := all(t)
	s.At = at()
	one, _, err := Collect(t.Context(), s, DefaultLimits())
	fatal(t, err)
	two, _, err := Collect(t.Context(), s, DefaultLimits())
	fatal(t, err)
	if !bytes.Equal(one, two) {
		t.Error("two archives of the same are different")
	}
}

// TestNothingThere: whatever is missing is named, and there is an archive.
func TestNothingThere(t *testing.T) {
	t.Parallel()
	empty, dir := runnerFolder(t, nil)
	fatal(t, os.Remove(dir))
	for name, tc := range map[string]struct {
		sources Sources
		want    map[string]string
	}{
		"nothing": {Sources{}, map[string]string{
			"journal.jsonl": "not given", "kettled.jsonl": "not given", "console.log": "not given", "kernel.log": "not given", "runner/": "not given",
		}},
		"errors": {
			Sources{Journal: []byte{}, Log: &Console{}, Console: &Console{}, Kernel: func([]byte) (int, error) { return 0, unix.EPERM }, Runner: empty},
			map[string]string{"kernel.log": "cannot be read: operation not permitted", "runner/": "cannot be opened: not there"},
		},
		"no volume": {
			Sources{Journal: []byte{}, Log: &Console{}, Console: &Console{}, Kernel: func([]byte) (int, error) { return -1, nil }, Runner: Folder{"/does/not/exist", "x"}},
			map[string]string{"kernel.log": "cannot be read: another error", "runner/": "its volume cannot be opened: not there"},
		},
		"a kernel that says too much": {
			Sources{Journal: []byte{}, Log: &Console{}, Console: &Console{}, Kernel: func(b []byte) (int, error) { return len(b) + 1, nil }, Runner: empty},
			map[string]string{"kernel.log": "cannot be read: another error", "runner/": "cannot be opened: not there"},
		},
		"no marker": {
			Sources{Journal: []byte("text"), Secrets: secrets("*#~^_!%+=@.x")},
			map[string]string{
				"journal.jsonl": "the secrets leave no character to mask them with", "kettled.jsonl": "not given", "console.log": "not given",
				"kernel.log": "not given", "runner/": "not given",
			},
		},
	} {
		files, report := collected(t.Context(), t, tc.sources, DefaultLimits())
		got := map[string]string{}
		for _, s := range report.Skipped {
			got[s.Name] = s.Reason
		}
		if diff := cmp.Diff(tc.want, got); diff != "" || report.Complete() || len(files) != len(report.Members) {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestNoTime: what is in memory is delivered whatever the time.
func TestNoTime(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	files, report := collected(ctx, t, all(t), DefaultLimits())
	if len(files) != 4 || len(report.Skipped) == 0 || !strings.Contains(report.Skipped[0].Reason, "no time was left") {
		t.Errorf("got %d files, %+v", len(files), report.Skipped)
	}
}

// TestTooMuch: every limit holds, and what was left out is said.
func TestTooMuch(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 1<<20)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	files := map[string]string{}
	for i := range 40 {
		files[fmt.Sprintf("log-%02d", i)] = string(noise)
	}
	files["Worker_1.log"] = strings.Repeat("the worker\n", 1<<15)
	folder, _ := runnerFolder(t, files)
	s := Sources{
		Journal: bytes.Repeat([]byte("journal\n"), 1<<15), Log: console(strings.Repeat("log\n", 1<<16)), Console: console(string(noise)),
		Kernel: kernel(strings.Repeat("kernel\n", 1<<17)), Runner: folder, Secrets: secrets("nothing of it"),
	}
	for name, l := range map[string]Limits{
		"default":        DefaultLimits(),
		"least":          {Compressed: leastCompressed, Total: leastTotal, File: leastFile, Files: 1, Entries: 1},
		"little archive": {Compressed: leastCompressed, Total: 24 << 20, File: 2 << 20, Files: 128, Entries: 8192},
		"little total":   {Compressed: 4 << 20, Total: leastTotal, File: 1 << 20, Files: 128, Entries: 8192},
		"little files":   {Compressed: 4 << 20, Total: 24 << 20, File: leastFile, Files: mostFiles, Entries: 8192},
		"few files":      {Compressed: 4 << 20, Total: 24 << 20, File: 2 << 20, Files: 3, Entries: 8192},
		"few entries":    {Compressed: 4 << 20, Total: 24 << 20, File: 2 << 20, Files: 3, Entries: 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, report := collected(t.Context(), t, s, l)
			if report.Complete() || !strings.HasPrefix(files["journal.jsonl"], "journal\n") {
				t.Errorf("%d files, %+v", len(files), report)
			}
			for _, e := range report.Members {
				if e.Left == 0 && e.Note == "" && e.Size != e.Kept {
					t.Errorf("not said what is missing: %+v", e)
				}
			}
		})
	}
}

func TestKernelLogThatIsTooLong(t *testing.T) {
	t.Parallel()
	text := "first" + strings.Repeat("the kernel says much\n", 1<<18) + "last"
	s := Sources{Kernel: kernel(text)}
	files, report := collected(t.Context(), t, s, DefaultLimits())
	if got := files["kernel.log"]; strings.Contains(got, "first") || !strings.HasSuffix(got, "last") || report.Members[0].Note == "" {
		t.Errorf("got %d bytes, %+v", len(got), report.Members)
	}
}

// TestKernelLog asks this machine's kernel.
func TestKernelLog(t *testing.T) {
	t.Parallel()
	buf := make([]byte, 64<<10)
	if n, err := KernelLog(buf); err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOSYS) || n > len(buf) {
		t.Errorf("got %d, %v", n, err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	for name, break_ := range map[string]func(*Limits){
		"no compressed": func(l *Limits) { l.Compressed = 0 }, "no total": func(l *Limits) { l.Total = 0 }, "no file": func(l *Limits) { l.File = 0 },
		"no files": func(l *Limits) { l.Files = 0 }, "no entries": func(l *Limits) { l.Entries = 0 }, "negative": func(l *Limits) { l.Files = -1 },
		"all the memory": func(l *Limits) { l.Total = 1 << 40 }, "file above total": func(l *Limits) { l.File = l.Total + 1 }, "nothing": func(l *Limits) { *l = Limits{} },
		"too many files": func(l *Limits) { l.Files = mostFiles + 1 }, "too many entries": func(l *Limits) { l.Entries = mostEntries + 1 },
	} {
		l := DefaultLimits()
		break_(&l)
		if data, report, err := Collect(t.Context(), Sources{}, l); err == nil || data != nil || report != nil {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
}

// TestStrangeTimes are those that ustar cannot say.
func TestStrangeTimes(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{{}, time.Unix(-1, 0), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if data, _, err := Collect(t.Context(), Sources{At: at}, DefaultLimits()); err != nil || len(data) == 0 {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func FuzzName(f *testing.F) {
	f.Add("a/b", "a%2Fb")
	f.Add("..", ".\x00")
	f.Add("hunter2", strings.Repeat("x", 300))
	f.Fuzz(func(t *testing.T, a, b string) {
		w := walk{collector: &collector{masker: NewMasker(secrets("hunter2"))}}
		for _, p := range []string{a, b} {
			name := w.name(p)
			if strings.Trim(name, shownNames) != "" || len(name) > maxName || strings.Contains(name, "/.") || !strings.HasPrefix(name, "runner/") {
				t.Errorf("%q is called %q", p, name)
			}
		}
		if a != b && w.name(a) == w.name(b) {
			t.Errorf("%q and %q are both called %q", a, b, w.name(a))
		}
	})
}

func BenchmarkCollect(b *testing.B) {
	files := map[string]string{}
	for i := range 16 {
		files[fmt.Sprintf("Worker_%d.log", i)] = string(log(1 << 20))
	}
	folder, _ := runnerFolder(b, files)
	s := Sources{Journal: log(64 << 10), Console: console(string(log(1 << 20))), Runner: folder, Secrets: secrets("a secret that is not there"), At: at()}
	b.SetBytes(17<<20 + 64<<10)
	for b.Loop() {
		if _, _, err := Collect(b.Context(), s, DefaultLimits()); err != nil {
			b.Fatal(err)
		}
	}
}
