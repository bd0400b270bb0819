// SPDX-License-Identifier: Apache-2.0

package outputs_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/runner/outputs"
)

const workspace = "/home/runner/_work/widget"

func limits() outputs.Limits {
	return outputs.Limits{Subjects: 1024, Entries: 100_000, Bytes: 8 << 30, Time: time.Minute, FrozenBytes: 8 << 30, FrozenTime: time.Minute}
}

// config is a sandbox of one volume without snapshots, on whatever the tests' own files lie.
func config(root string) outputs.Config {
	return outputs.Config{
		Volumes:     []outputs.Volume{{Inside: "/", Outside: root}},
		FileSystems: []string{"ext4", "xfs", "btrfs", "tmpfs", "overlay"},
		IDs:         outputs.IDs{Count: 1<<32 - 1},
	}
}

// collect holds, hashes and releases.
func collect(ctx context.Context, root string, req outputs.Request, limits outputs.Limits) ([]outputs.Subject, error) {
	return collectFrom(ctx, config(root), req, limits)
}

func collectFrom(ctx context.Context, c outputs.Config, req outputs.Request, limits outputs.Limits) ([]outputs.Subject, error) {
	h, err := outputs.Hold(ctx, c, req, limits)
	if err != nil {
		return nil, err
	}
	subjects, err := h.Hash(ctx)
	return subjects, errors.Join(err, h.Release())
}

// sandbox makes a root whose workspace holds files, name to contents.
func sandbox(t testing.TB, files map[string]string) (root, ws string) {
	t.Helper()
	root = t.TempDir()
	ws = filepath.Join(root, workspace)
	if err := os.MkdirAll(ws, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(t, filepath.Join(ws, name), text)
	}
	return root, ws
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func sumOf(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func patterns(p ...string) outputs.Request {
	return outputs.Request{Workspace: workspace, Patterns: p}
}

func names(subjects []outputs.Subject) []string {
	var out []string
	for _, s := range subjects {
		out = append(out, s.Name+" "+strings.TrimPrefix(s.Path, workspace+"/"))
	}
	return out
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	root, ws := sandbox(t, map[string]string{
		"dist/a.tar.gz": "a", "dist/b.tar.gz": "b", "dist/notes.txt": "n", "dist/sub/c.tar.gz": "c", "dist/sub/deep/d": "d",
		"copy/a.tar.gz": "a", "we[ird].bin": "w",
	})
	write(t, filepath.Join(root, "opt/out.bin"), "o")
	if err := os.Symlink("a.tar.gz", filepath.Join(ws, "dist/latest")); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		req  outputs.Request
		want []string
	}{
		"literal":                     {patterns("dist/a.tar.gz"), []string{"a.tar.gz dist/a.tar.gz"}},
		"literal with ./":             {patterns("./dist/a.tar.gz"), []string{"a.tar.gz dist/a.tar.gz"}},
		"absolute":                    {patterns(workspace + "/dist/a.tar.gz"), []string{"a.tar.gz dist/a.tar.gz"}},
		"outside the workspace":       {patterns("/opt/out.bin"), []string{"out.bin /opt/out.bin"}},
		"climbing inside the root":    {patterns("../../../../opt/*.bin"), []string{"out.bin /opt/out.bin"}},
		"star":                        {patterns("dist/*.tar.gz"), []string{"a.tar.gz dist/a.tar.gz", "b.tar.gz dist/b.tar.gz"}},
		"star passes a folder by":     {patterns("dist/s*", "dist/notes.txt", "!dist/latest", "dist/sub/deep/d"), nil},
		"two stars":                   {patterns("dist/**/*.tar.gz"), []string{"a.tar.gz dist/a.tar.gz", "b.tar.gz dist/b.tar.gz", "c.tar.gz dist/sub/c.tar.gz"}},
		"alternatives with a slash":   {patterns("dist/{a.tar.gz,sub/c.tar.gz}"), []string{"a.tar.gz dist/a.tar.gz", "c.tar.gz dist/sub/c.tar.gz"}},
		"exclusion":                   {patterns("dist/*", "!dist/latest", "!**/*.txt"), []string{"a.tar.gz dist/a.tar.gz", "b.tar.gz dist/b.tar.gz"}},
		"exclusion of a folder":       {patterns("dist/**", "!dist/sub", "!dist/latest"), []string{"a.tar.gz dist/a.tar.gz", "b.tar.gz dist/b.tar.gz", "notes.txt dist/notes.txt"}},
		"inclusion after exclusion":   {patterns("dist/*.gz", "!dist/a*", "dist/a.tar.gz"), []string{"a.tar.gz dist/a.tar.gz", "b.tar.gz dist/b.tar.gz"}},
		"escaped meta characters":     {patterns(`we\[ird\].bin`), []string{"we[ird].bin we[ird].bin"}},
		"two patterns for one file":   {patterns("dist/a*", "dist/a.tar.gz"), []string{"a.tar.gz dist/a.tar.gz"}},
		"same name and digest":        {patterns("dist/a.tar.gz", "copy/a.tar.gz"), []string{"a.tar.gz copy/a.tar.gz"}},
		"another name for one file":   {outputs.Request{Workspace: workspace, Patterns: []string{"dist/b*"}, Name: "registry.test/b"}, []string{"registry.test/b dist/b.tar.gz"}},
		"an artifacts list beside it": {outputs.Request{Workspace: workspace, Patterns: []string{"dist/b*"}, ArtifactsList: "/nowhere"}, []string{"b.tar.gz dist/b.tar.gz"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := collect(t.Context(), root, tc.req, limits())
			if tc.want == nil {
				wantRefusal(t, err, refusal.ErrMissing, `"dist/s*"`)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, names(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSubject(t *testing.T) {
	t.Parallel()
	root, ws := sandbox(t, map[string]string{"app": "program"})
	if err := os.Link(filepath.Join(ws, "app"), filepath.Join(ws, "second")); err != nil {
		t.Fatal(err)
	}
	got, err := collect(t.Context(), root, patterns("app"), limits())
	if err != nil {
		t.Fatal(err)
	}
	want := []outputs.Subject{{Name: "app", Path: workspace + "/app", SHA256: sha256.Sum256([]byte("program")), Size: 7, Links: 2}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func wantRefusal(t *testing.T, err, code error, says string) {
	t.Helper()
	if !errors.Is(err, refusal.ErrNotVerified) || !errors.Is(err, code) {
		t.Fatalf("got %v, want the refusal %v", err, code)
	}
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Link != "outputs" || r.Want == "" || r.Next == "" {
		t.Errorf("incomplete refusal %+v", r)
	}
	if !strings.Contains(err.Error(), says) {
		t.Errorf("%q does not say %q", err, says)
	}
	if strings.ContainsAny(err.Error(), "\n\x1b") {
		t.Errorf("unsafe to print: %q", err)
	}
}

func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "secret")
	write(t, outside, "secret of the supervisor")
	root, ws := sandbox(t, map[string]string{"one": "1", "dir/f": "f", "x/same": "1", "y/same": "2", "line\nfeed": "n",
		"esc\x1b[31m": "e", "bad\xff": "b", "badir\xff/f": "b", "rtl\u202egpj.exe": "r", strings.Repeat("n", 255): "ok"})
	for link, target := range map[string]string{"out": outside, "in": "one", "dirlink": "dir", "up": "../../../../../../../../etc/passwd",
		"proc": "/proc/self/root/etc/passwd"} {
		if err := os.Symlink(target, filepath.Join(ws, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(ws, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	socket(t, ws)
	device := unix.Mknod(filepath.Join(ws, "device"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5)))
	for name, tc := range map[string]struct {
		req  outputs.Request
		code error
		says string
	}{
		"missing":                     {patterns("none"), refusal.ErrMissing, "none"},
		"missing folder":              {patterns("none/*"), refusal.ErrMissing, `"none/*"`},
		"below a file":                {patterns("one/f"), refusal.ErrMissing, "one/f"},
		"glob without a match":        {patterns("one", "*.none"), refusal.ErrMissing, `"*.none"`},
		"everything excluded":         {patterns("one", "!**"), refusal.ErrMissing, `"one"`},
		"exclusions only":             {patterns("!one"), refusal.ErrMissing, "exclusions only"},
		"directory":                   {patterns("dir"), refusal.ErrMalformed, "a directory"},
		"root":                        {patterns("/"), refusal.ErrMalformed, "name"},
		"symlink out":                 {patterns("out"), refusal.ErrMalformed, "a symbolic link"},
		"symlink inside":              {patterns("in"), refusal.ErrMalformed, "a symbolic link"},
		"symlink by glob":             {patterns("i*"), refusal.ErrMalformed, "a symbolic link"},
		"symlink upwards":             {patterns("up"), refusal.ErrMalformed, "a symbolic link"},
		"symlink to a magic link":     {patterns("proc"), refusal.ErrMalformed, "a symbolic link"},
		"symlinked parent":            {patterns("dirlink/f"), refusal.ErrMalformed, "symbolic links"},
		"symlinked parent of a glob":  {patterns("dirlink/*"), refusal.ErrMalformed, "symbolic links"},
		"symlinked folder in a glob":  {patterns("di*/f"), refusal.ErrMalformed, ""},
		"FIFO":                        {patterns("fifo"), refusal.ErrMalformed, "a FIFO"},
		"FIFO by glob":                {patterns("fi*"), refusal.ErrMalformed, "a FIFO"},
		"socket":                      {patterns("socket"), refusal.ErrMalformed, "a socket"},
		"device":                      {patterns("device"), refusal.ErrMalformed, "a device"},
		"newline in the name":         {patterns("line*"), refusal.ErrMalformed, `line\nfeed`},
		"newline in a literal":        {patterns("line\nfeed"), refusal.ErrMalformed, `line\nfeed`},
		"escape sequence in the name": {patterns("esc*"), refusal.ErrMalformed, `esc\x1b`},
		"invalid UTF-8 in the name":   {patterns("bad?"), refusal.ErrMalformed, "UTF-8"},
		"invalid UTF-8 in a folder":   {patterns("badir*/f"), refusal.ErrMalformed, "UTF-8"},
		"direction override":          {patterns("rtl*"), refusal.ErrMalformed, "printable"},
		"one name, two digests":       {patterns("*/same"), refusal.ErrMalformed, `"same"`},
		"name for two files":          {outputs.Request{Workspace: workspace, Patterns: []string{"?/same"}, Name: "n"}, refusal.ErrMalformed, "2 files"},
		"name with a newline":         {outputs.Request{Workspace: workspace, Patterns: []string{"one"}, Name: "a\nb"}, refusal.ErrMalformed, "printable"},
		"name that climbs":            {outputs.Request{Workspace: workspace, Patterns: []string{"one"}, Name: "../one"}, refusal.ErrMalformed, "relative"},
		"name of 256 bytes":           {outputs.Request{Workspace: workspace, Patterns: []string{"one"}, Name: strings.Repeat("n", 256)}, refusal.ErrMalformed, "255"},
		"invalid glob":                {patterns("a[b"), refusal.ErrMalformed, "glob"},
		"empty pattern":               {patterns(""), refusal.ErrMalformed, "glob"},
		"NUL in a pattern":            {patterns("a\x00b"), refusal.ErrMalformed, "glob"},
		"many alternatives":           {patterns(strings.Repeat("{a,b}", 5)), refusal.ErrMalformed, "alternatives"},
		"long pattern":                {patterns(strings.Repeat("a", 1025)), refusal.ErrMalformed, "1024"},
		"many patterns":               {patterns(make([]string, 1025)...), refusal.ErrPolicy, "1024"},
		"long path component":         {patterns(strings.Repeat("a", 300)), refusal.ErrMalformed, "255"},
		"two sources":                 {outputs.Request{Workspace: workspace, Patterns: []string{"one"}, Checksums: "c"}, refusal.ErrMalformed, "more than one"},
		"no source":                   {outputs.Request{Workspace: workspace}, refusal.ErrMissing, "subject-path"},
		"relative workspace":          {outputs.Request{Workspace: "work", Patterns: []string{"one"}}, refusal.ErrMalformed, "workspace"},
		"unclean workspace":           {outputs.Request{Workspace: "/a/../b", Patterns: []string{"one"}}, refusal.ErrMalformed, "workspace"},
		"no workspace":                {outputs.Request{Patterns: []string{"one"}}, refusal.ErrMalformed, "workspace"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "device" && device != nil {
				t.Skipf("making a device node: %v", device)
			}
			if name == "symlinked folder in a glob" { // passes dirlink by and finds dir/f
				got, err := collect(t.Context(), root, tc.req, limits())
				if err != nil || len(got) != 1 || got[0].Path != workspace+"/dir/f" {
					t.Fatalf("got %v, %v", got, err)
				}
				return
			}
			got, err := collect(t.Context(), root, tc.req, limits())
			wantRefusal(t, err, tc.code, tc.says)
			if got != nil {
				t.Errorf("subjects beside a refusal: %v", got)
			}
		})
	}
}

func socket(t *testing.T, dir string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	// The path of a socket is at most 108 bytes; go through the descriptor of its folder.
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/socket", d.Fd())}); err != nil {
		t.Fatal(err)
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	a, b := sumOf("a"), sumOf("b")
	root, ws := sandbox(t, map[string]string{"dist/a": "a", "dist/b": "b", "empty": "", "big": strings.Repeat("x", 512<<10+1)})
	for name, tc := range map[string]struct {
		checksums, list, digest, name string
		want                          []string
		code                          error
		says                          string
	}{
		"checksums":              {checksums: a + "  dist/a\n" + b + " *dist/b\n", want: []string{"dist/a dist/a", "dist/b dist/b"}},
		"checksums of find":      {checksums: a + "  ./dist/a\n\n", want: []string{"dist/a dist/a"}},
		"checksums twice":        {checksums: a + "  ./dist/a\n" + a + "  dist/a\n", want: []string{"dist/a dist/a"}},
		"upper case":             {checksums: strings.ToUpper(a) + "  dist/a", want: []string{"dist/a dist/a"}},
		"wrong digest":           {checksums: b + "  dist/a\n", code: refusal.ErrBinding, says: "sha256:" + a},
		"file missing":           {checksums: a + "  gone\n", code: refusal.ErrMissing, says: "only what it can hash"},
		"folder in checksums":    {checksums: a + "  dist\n", code: refusal.ErrMalformed, says: "a directory"},
		"checksums climb":        {checksums: a + "  ../x\n", code: refusal.ErrMalformed, says: "relative"},
		"checksums absolute":     {checksums: a + "  /etc/passwd\n", code: refusal.ErrMalformed, says: "relative"},
		"checksums of sha512":    {checksums: a + a + "  dist/a\n", code: refusal.ErrMalformed, says: "64 hex"},
		"checksums not hex":      {checksums: strings.Repeat("z", 64) + "  dist/a\n", code: refusal.ErrMalformed, says: "hex"},
		"escaped line":           {checksums: "\\" + a + "  a\\nb\n", code: refusal.ErrMalformed, says: "64 hex"},
		"carriage return":        {checksums: a + "  dist/a\r\n", code: refusal.ErrMalformed, says: "printable"},
		"no lines":               {checksums: "\n", code: refusal.ErrMissing, says: "empty"},
		"no name":                {checksums: a + "  \n", code: refusal.ErrMalformed, says: "name"},
		"digest":                 {digest: "sha256:" + a, name: "dist/a", want: []string{"dist/a dist/a"}},
		"digest of another":      {digest: "sha256:" + b, name: "dist/a", code: refusal.ErrBinding, says: a},
		"digest without file":    {digest: "sha256:" + a, name: "image", code: refusal.ErrMissing, says: "only what it can hash"},
		"digest without name":    {digest: "sha256:" + a, code: refusal.ErrMissing, says: "subject-name"},
		"digest of sha512":       {digest: "sha512:" + a, name: "dist/a", code: refusal.ErrMalformed, says: "sha256:"},
		"short digest":           {digest: "sha256:" + a[1:], name: "dist/a", code: refusal.ErrMalformed, says: "64"},
		"list":                   {list: `{"version":1,"subjects":[{"name":"dist/a","digest":"sha256:` + a + `","kind":"file"}]}`, want: []string{"dist/a dist/a"}},
		"list, other digest":     {list: `{"version":1,"subjects":[{"name":"dist/a","digest":"sha256:` + b + `","kind":"file"}]}`, code: refusal.ErrBinding, says: a},
		"list, missing file":     {list: `{"version":1,"subjects":[{"name":"a","digest":"sha256:` + a + `","kind":"file"}]}`, code: refusal.ErrMissing, says: "only what it can hash"},
		"list, image":            {list: `{"version":1,"subjects":[{"name":"a","digest":"sha256:` + a + `","kind":"image"}]}`, code: refusal.ErrMalformed, says: "image"},
		"list, version":          {list: `{"version":2,"subjects":[]}`, code: refusal.ErrMalformed, says: "version 2"},
		"list, empty":            {list: `{"version":1,"subjects":[]}`, code: refusal.ErrMissing, says: "at least one"},
		"list, unknown key":      {list: `{"version":1,"subjects":[],"more":1}`, code: refusal.ErrMalformed, says: "JSON"},
		"list, key twice":        {list: `{"version":1,"Version":1,"subjects":[]}`, code: refusal.ErrMalformed, says: "JSON"},
		"list, trailing data":    {list: `{"version":1,"subjects":[]}{}`, code: refusal.ErrMalformed, says: "JSON"},
		"list, null":             {list: `null`, code: refusal.ErrMalformed, says: "version 0"},
		"list, truncated":        {list: `{"version":1,"subj`, code: refusal.ErrMalformed, says: "JSON"},
		"name beside checksums":  {checksums: a + "  dist/a\n", name: "n", code: refusal.ErrMalformed, says: "subject-name"},
		"checksums are a folder": {checksums: "@dist", code: refusal.ErrMalformed, says: "a directory"},
		"checksums too long":     {checksums: "@big", code: refusal.ErrMalformed, says: "524288"},
		"checksums missing":      {checksums: "@gone", code: refusal.ErrMissing, says: "gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := outputs.Request{Workspace: workspace, Digest: tc.digest, Name: tc.name}
			file := strings.ReplaceAll(name, " ", "-")
			switch {
			case strings.HasPrefix(tc.checksums, "@"):
				req.Checksums = tc.checksums[1:]
			case tc.checksums != "":
				write(t, filepath.Join(ws, "sums", file), tc.checksums)
				req.Checksums = "sums/" + file
			case tc.list != "":
				write(t, filepath.Join(root, "run/list", file), tc.list)
				req.ArtifactsList = "/run/list/" + file
			}
			got, err := collect(t.Context(), root, req, limits())
			if tc.code != nil {
				wantRefusal(t, err, tc.code, tc.says)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, names(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range 1025 {
		files[fmt.Sprintf("many/f%04d", i)] = "x"
	}
	root, _ := sandbox(t, files)
	for name, tc := range map[string]struct {
		req  outputs.Request
		set  func(*outputs.Limits)
		code error
		says string
	}{
		"1024 subjects": {patterns("many/*", "!many/f1024"), func(*outputs.Limits) {}, nil, ""},
		"1025 subjects": {patterns("many/*"), func(*outputs.Limits) {}, refusal.ErrPolicy, "at most 1024 subjects"},
		"bytes, just":   {patterns("many/f000?"), func(l *outputs.Limits) { l.Bytes = 10 }, nil, ""},
		"bytes":         {patterns("many/f000?"), func(l *outputs.Limits) { l.Bytes = 9 }, refusal.ErrPolicy, "at most 9 bytes"},
		"frozen, just":  {patterns("many/f000?"), func(l *outputs.Limits) { l.FrozenBytes = 10 }, nil, ""},
		"frozen bytes":  {patterns("many/f000?"), func(l *outputs.Limits) { l.FrozenBytes = 9 }, outputs.ErrOverBudget, "at most 9 bytes hashed while"},
		"entries":       {patterns("many/f000?"), func(l *outputs.Limits) { l.Entries = 1024 }, refusal.ErrPolicy, "1024 directory entries"},
		"time":          {patterns("many/f000?"), func(l *outputs.Limits) { l.FrozenTime = 1 }, refusal.ErrPolicy, "within 1ns"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := limits()
			tc.set(&l)
			got, err := collect(t.Context(), root, tc.req, l)
			if tc.code != nil {
				wantRefusal(t, err, tc.code, tc.says)
			} else if err != nil || len(got) == 0 {
				t.Fatalf("got %d subjects, %v", len(got), err)
			}
		})
	}
	for name, set := range map[string]func(*outputs.Limits){
		"subjects": func(l *outputs.Limits) { l.Subjects = 0 }, "bytes": func(l *outputs.Limits) { l.Bytes = 0 },
		"entries": func(l *outputs.Limits) { l.Entries = -1 }, "time": func(l *outputs.Limits) { l.Time = 0 },
		"frozen bytes": func(l *outputs.Limits) { l.FrozenBytes = 0 }, "frozen time": func(l *outputs.Limits) { l.FrozenTime = -1 },
	} {
		l := limits()
		set(&l)
		if _, err := collect(t.Context(), root, patterns("many/f0000"), l); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("zero %s: got %v", name, err)
		}
	}
}

func TestNotARefusal(t *testing.T) {
	t.Parallel()
	root, _ := sandbox(t, map[string]string{"f": "f"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := collect(ctx, root, patterns("f"), limits()); !errors.Is(err, context.Canceled) || errors.Is(err, refusal.ErrNotVerified) {
		t.Errorf("cancelled: got %v", err)
	}
	if _, err := collect(t.Context(), filepath.Join(root, "none"), patterns("f"), limits()); !errors.Is(err, os.ErrNotExist) || errors.Is(err, refusal.ErrNotVerified) {
		t.Errorf("no root: got %v", err)
	}
	if _, err := collect(t.Context(), "/proc", patterns("f"), limits()); err == nil || !strings.Contains(err.Error(), "file system") {
		t.Errorf("foreign file system: got %v", err)
	}
}
