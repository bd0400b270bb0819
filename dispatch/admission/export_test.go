// SPDX-License-Identifier: Apache-2.0

package admission

import "os"

// Watch has step called with a name before each step that the ledger takes on the disk.
func (l *Ledger) Watch(step func(name string)) {
	d := l.disk
	l.disk = disk{
		create: func(path string) (*os.File, error) { step("create"); return d.create(path) },
		write:  func(f *os.File, b []byte) error { step("write"); return d.write(f, b) },
		sync:   func(f *os.File) error { step("sync"); return d.sync(f) },
		link:   func(from, to string) error { step("link"); return d.link(from, to) },
		settle: func(dir string) error { step("settle"); return d.settle(dir) },
	}
}

// Break makes one step of the ledger fail.
func (l *Ledger) Break(name string, err error) {
	d := l.disk
	switch name {
	case "create":
		d.create = func(string) (*os.File, error) { return nil, err }
	case "write":
		d.write = func(f *os.File, b []byte) error { _, _ = f.Write(b[:len(b)/2]); return err }
	case "sync":
		d.sync = func(*os.File) error { return err }
	case "link":
		d.link = func(string, string) error { return err }
	case "settle":
		d.settle = func(string) error { return err }
	}
	l.disk = d
}
