// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// fill writes what every sandbox has, through the overlay. Nothing runs in the sandbox yet, so that the image's own
// links are the only ones there are; os.Root keeps even those inside.
func (s *Sandbox) fill(ctx context.Context) error {
	root, err := os.OpenRoot(s.Root())
	if err != nil {
		return fmt.Errorf("opening the sandbox's root: %w", err)
	}
	defer func() { _ = root.Close() }()
	f := filler{root: root}
	f.dir("tmp", os.ModeSticky|0o777, 0)
	f.dir("var/tmp", os.ModeSticky|0o777, 0)
	f.dir(Home[1:], 0o755, User)
	f.file("etc/hostname", "runner\n")
	f.file("etc/hosts", hostsFile(s.config.Gateway.String(), s.config.Hosts))
	f.trust(s.config.Authorities)
	f.file("etc/resolv.conf", "# The sandbox has no name server: /etc/hosts holds every name that can be reached.\n")
	if f.err != nil {
		return fmt.Errorf("filling the sandbox: %w", f.err)
	}
	if err := f.copyTree(ctx, s.config.Runner[1:], RunnerRoot[1:]); err != nil {
		return fmt.Errorf("copying the runner program: %w", err)
	}
	return nil
}

func hostsFile(gateway string, hosts []string) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost runner\n::1 localhost ip6-localhost\n")
	for _, h := range hosts {
		fmt.Fprintf(&b, "%s %s\n", gateway, h)
	}
	return b.String()
}

// filler writes below root until something fails.
type filler struct {
	root *os.Root
	err  error
}

// do keeps the first error.
func (f *filler) do(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *filler) dir(name string, mode os.FileMode, id int) {
	if f.err != nil {
		return
	}
	f.do(f.root.MkdirAll(name, 0o755))
	f.do(f.root.Lchown(name, idBase+id, idBase+id))
	f.do(f.root.Chmod(name, mode))
}

// file replaces what the image has at name, also when that is a link.
func (f *filler) file(name, text string) {
	if f.err != nil {
		return
	}
	if err := f.root.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		f.do(err)
	}
	f.do(f.root.WriteFile(name, []byte(text), 0o644))
	f.do(f.root.Lchown(name, idBase, idBase))
}

// trustStore is where Debian's OpenSSL, GnuTLS and Go programs look for certificate authorities.
const trustStore = "etc/ssl/certs/ca-certificates.crt"

// trust adds certificate authorities to those of the image.
func (f *filler) trust(pem []byte) {
	if f.err != nil || len(pem) == 0 {
		return
	}
	have, err := f.root.ReadFile(trustStore)
	if err != nil {
		f.err = err
		return
	}
	f.file(trustStore, string(have)+"\n"+string(pem))
}

// copyTree copies folders, files and links, all given to the runner's user. The image holds nothing else there.
func (f *filler) copyTree(ctx context.Context, from, to string) error {
	return fs.WalkDir(f.root.FS(), from, func(name string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch entry.Type() {
		case fs.ModeDir:
			err = f.root.Mkdir(target, 0o755)
		case fs.ModeSymlink:
			err = f.copyLink(name, target)
		case 0:
			err = f.copyFile(name, target)
		default:
			err = fmt.Errorf("%s is neither file, folder nor link", name)
		}
		if err != nil {
			return err
		}
		return f.root.Lchown(target, idBase+User, idBase+User)
	})
}

func (f *filler) copyLink(from, to string) error {
	text, err := f.root.Readlink(from)
	if err != nil {
		return err
	}
	return f.root.Symlink(text, to)
}

func (f *filler) copyFile(from, to string) (err error) {
	in, err := f.root.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := f.root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
