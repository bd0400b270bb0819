// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kettle/attest/image"
)

// Tree is a file or folder of this machine that the image gets a copy of. Owners become Owner, times are dropped, and
// modes keep nothing but the executable bit.
type Tree struct {
	Source string                                    // file or folder here; "" for Link
	Link   string                                    // instead of Source: what a symbolic link points to
	Target string                                    // absolute path in the image
	Owner  int                                       // user and group id, 0 for root
	Skip   func(path string, entry fs.DirEntry) bool // optional; path is relative to Source, with slashes
}

// digest covers names, kinds, executable bits, contents and owner: everything that copying keeps.
func (t Tree) digest(ctx context.Context) (image.SHA256, error) {
	h := sha256.New()
	record(h, t.Target, fmt.Sprint(t.Owner), t.Link)
	if t.Link != "" {
		return image.SHA256(h.Sum(nil)), nil
	}
	err := t.walk(ctx, func(rel, path string, info fs.FileInfo) error {
		switch {
		case info.IsDir():
			record(h, "dir", rel)
			return nil
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			record(h, "link", rel, link)
			return err
		default:
			record(h, "file", rel, mode(info).String(), fmt.Sprint(info.Size()))
			return copyFile(h, path)
		}
	})
	if err != nil {
		return image.SHA256{}, fmt.Errorf("reading %s: %w", t.Source, err)
	}
	return image.SHA256(h.Sum(nil)), nil
}

// copyTo copies into a root file system, replacing nothing: a path that exists already and is no folder is an error.
func (t Tree) copyTo(ctx context.Context, root string) error {
	top := filepath.Join(root, t.Target)
	err := t.makeParents(root)
	if err != nil {
		return fmt.Errorf("copying %s: %w", t.Source, err)
	}
	if t.Link != "" {
		if err := errors.Join(os.Symlink(t.Link, top), os.Lchown(top, t.Owner, t.Owner)); err != nil {
			return fmt.Errorf("linking %s: %w", t.Target, err)
		}
		return nil
	}
	err = t.walk(ctx, func(rel, path string, info fs.FileInfo) error {
		target := filepath.Join(top, rel)
		if err := place(target, path, info); err != nil {
			return err
		}
		return os.Lchown(target, t.Owner, t.Owner)
	})
	if err != nil {
		return fmt.Errorf("copying %s: %w", t.Source, err)
	}
	return nil
}

// makeParents makes the folders above the target that are not there yet. They belong to the tree's owner too.
func (t Tree) makeParents(root string) error {
	at := root
	for part := range strings.SplitSeq(strings.Trim(filepath.Dir(filepath.Clean(t.Target)), "/"), "/") {
		at = filepath.Join(at, part)
		err := os.Mkdir(at, 0o755) //nolint:gosec // a folder of the image.
		switch {
		case errors.Is(err, fs.ErrExist):
		case err != nil:
			return err
		default:
			if err := errors.Join(os.Chown(at, t.Owner, t.Owner), os.Chmod(at, 0o755)); err != nil { //nolint:gosec // a folder of the image.
				return err
			}
		}
	}
	return nil
}

func place(target, path string, info fs.FileInfo) error {
	switch {
	case info.IsDir():
		err := os.Mkdir(target, 0o755) //nolint:gosec // a folder of the image.
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return errors.Join(err, os.Chmod(target, 0o755)) //nolint:gosec // whatever the umask is.
	case info.Mode()&fs.ModeSymlink != 0:
		link, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(link, target)
	}
	out, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode(info)) //nolint:gosec // a file of the image.
	if err != nil {
		return err
	}
	return errors.Join(copyFile(out, path), out.Chmod(mode(info)), out.Close())
}

// walk visits the tree in lexical order and refuses what is neither folder, file nor link.
func (t Tree) walk(ctx context.Context, visit func(rel, path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(t.Source, func(path string, entry fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		rel, err := filepath.Rel(t.Source, path)
		if err != nil {
			return err
		}
		if t.Skip != nil && rel != "." && t.Skip(filepath.ToSlash(rel), entry) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if kind := info.Mode().Type(); kind != 0 && kind != fs.ModeDir && kind != fs.ModeSymlink {
			return fmt.Errorf("%s: neither folder, file nor link", path)
		}
		return visit(rel, path, info)
	})
}

// mode is 0755 for what anybody may execute and 0644 for the rest.
func mode(info fs.FileInfo) fs.FileMode {
	if info.Mode()&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

func copyFile(w io.Writer, path string) error {
	in, err := os.Open(path) //nolint:gosec // a file of the tree.
	if err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return errors.Join(err, in.Close())
}

// record writes length-prefixed fields, so that no two trees read alike.
func record(h hash.Hash, fields ...string) {
	for _, f := range fields {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(f)))
		h.Write(length[:])
		io.WriteString(h, f) //nolint:errcheck // a hash never fails.
	}
}

// unusedTools are programs of the toolchain that no build or test runs.
var unusedTools = []string{"pkg/tool/linux_amd64/fix", "bin/gofmt"}

// GoTrees is a Go toolchain where jobs find it, see [GoTree], and its command in their path.
func GoTrees(goroot string) []Tree {
	return []Tree{GoTree(goroot), {Link: "../go/bin/go", Target: "/usr/local/bin/go"}}
}

// GoTree is a Go toolchain without tests, documentation and the sources of its own commands, whose programs are there.
func GoTree(goroot string) Tree {
	return Tree{Source: goroot, Target: "/usr/local/go", Skip: func(path string, entry fs.DirEntry) bool {
		top, _, nested := strings.Cut(path, "/")
		switch top {
		case "bin", "lib", "pkg", "src", "VERSION", "go.env", "LICENSE":
		default:
			return true
		}
		name := entry.Name()
		return path == "src/cmd" || path == "pkg/obj" || slices.Contains(unusedTools, path) || nested && (name == "testdata" || strings.HasSuffix(name, "_test.go"))
	}}
}
