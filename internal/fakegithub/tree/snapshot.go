// SPDX-License-Identifier: Apache-2.0

// Package tree makes a git commit of a folder, without git.
//
// A [Commit] holds the folder's files in memory, so that its object identifier, its archives and its files can never
// disagree. Identifiers are computed as git computes them (SHA-1 over the blob, tree and commit objects), and depend on the
// content alone: the same folder gives the same commit on every machine. Files named .git are left out, empty folders
// vanish, as in git. SHA-1 is git's, not a choice: nothing here is a security boundary.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sort"
	"strings"
)

// MaxBytes is the most that a commit may hold, all files together.
const MaxBytes = 512 << 20

// ErrTooBig is returned when a folder holds more than [MaxBytes].
var ErrTooBig = errors.New("folder too big for a stand-in repository")

// The file modes git knows.
const (
	modeFile       = "100644"
	modeExecutable = "100755"
	modeLink       = "120000"
	modeTree       = "40000"
)

// File is one file of a commit.
type File struct {
	Path string // slash-separated, relative
	Mode string // 100644, 100755 or 120000
	Data []byte // the content, or the target of a symbolic link
	SHA  string // the blob's identifier
}

// Commit is a folder at one moment.
type Commit struct {
	SHA     string
	Tree    string
	Message string
	Files   []File // sorted by path
}

// Options say what to take. The zero value takes everything.
type Options struct {
	Include []string // paths to take, each with all below it; empty means all
	SHA     string   // the commit identifier to claim instead of the computed one
}

// New reads a folder. Symbolic links are kept when fsys can read them ([fs.ReadLinkFS]); other special files are refused.
func New(fsys fs.FS, opts Options) (*Commit, error) {
	c := &Commit{Message: "Snapshot"}
	total := 0
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path.Base(p) == ".git" {
			return skip(d)
		}
		if d.IsDir() {
			if p != "." && !opts.mayHold(p) {
				return fs.SkipDir
			}
			return nil
		}
		if !opts.takes(p) {
			return nil
		}
		f, err := read(fsys, p, d)
		if err != nil {
			return err
		}
		if total += len(f.Data); total > MaxBytes {
			return ErrTooBig
		}
		c.Files = append(c.Files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading folder: %w", err)
	}
	if len(c.Files) == 0 {
		return nil, errors.New("reading folder: it holds no file")
	}
	sort.Slice(c.Files, func(i, k int) bool { return c.Files[i].Path < c.Files[k].Path })
	c.Tree = treeID(c.Files, "")
	c.SHA = commitID(c.Tree, c.Message)
	if opts.SHA != "" {
		if !validSHA(opts.SHA) {
			return nil, fmt.Errorf("commit %q is not 40 lower-case hex digits", opts.SHA)
		}
		c.SHA = opts.SHA
	}
	return c, nil
}

// File returns the file at a path.
func (c *Commit) File(name string) (File, bool) {
	i := sort.Search(len(c.Files), func(i int) bool { return c.Files[i].Path >= name })
	if i < len(c.Files) && c.Files[i].Path == name {
		return c.Files[i], true
	}
	return File{}, false
}

func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func (o Options) takes(p string) bool {
	if len(o.Include) == 0 {
		return true
	}
	for _, in := range o.Include {
		if p == in || strings.HasPrefix(p, in+"/") {
			return true
		}
	}
	return false
}

// mayHold reports whether a folder is, lies in, or leads to something that is taken.
func (o Options) mayHold(dir string) bool {
	if o.takes(dir) {
		return true
	}
	for _, in := range o.Include {
		if strings.HasPrefix(in, dir+"/") {
			return true
		}
	}
	return false
}

func read(fsys fs.FS, p string, d fs.DirEntry) (File, error) {
	f := File{Path: p}
	switch {
	case d.Type()&fs.ModeSymlink != 0:
		target, err := fs.ReadLink(fsys, p)
		if err != nil {
			return File{}, err
		}
		f.Mode, f.Data = modeLink, []byte(target)
	case d.Type().IsRegular():
		info, err := d.Info()
		if err != nil {
			return File{}, err
		}
		if info.Size() > MaxBytes {
			return File{}, ErrTooBig
		}
		if f.Data, err = fs.ReadFile(fsys, p); err != nil {
			return File{}, err
		}
		f.Mode = modeFile
		if info.Mode()&0o111 != 0 {
			f.Mode = modeExecutable
		}
	default:
		return File{}, fmt.Errorf("%s is neither a file nor a symbolic link", p)
	}
	f.SHA = object("blob", f.Data)
	return f, nil
}

func validSHA(s string) bool {
	if len(s) != 40 {
		return false
	}
	return strings.Trim(s, "0123456789abcdef") == ""
}
