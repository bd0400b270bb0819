// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/attest/binding"
	"github.com/kettle/attest/attest/refusal"
	"github.com/kettle/attest/attest/statement"
	"github.com/kettle/attest/internal/strict"
)

// EntrySchema is the schema of a ledger's files.
const EntrySchema = "kettle.admission/v1"

// maxEntry bounds one file of the ledger that is read, in bytes.
const maxEntry = 16 << 10

// Entry is one admission as the ledger keeps it.
type Entry struct {
	Schema         string             `json:"schema"`
	Instance       statement.Instance `json:"instance"`
	Register       string             `json:"register,omitempty"` // where chip and guest alone do not tell machines apart
	EnvironmentKey binding.Digest     `json:"environmentKey"`
	Request        binding.Digest     `json:"request"` // SHA-256 of the ADMISSION_REQUEST payload
	At             time.Time          `json:"at"`
}

// names gives the files of an entry: one for the instance, one for the environment key. Each can be made once.
func (e Entry) names() [2]string {
	h := sha256.New()
	h.Write([]byte("kettle/attest admission instance v1\x00"))
	for _, s := range []string{e.Instance.Platform, e.Instance.ReportID, e.Instance.ChipID, e.Instance.AttestationKey, e.Register} {
		fmt.Fprintf(h, "%d:%s,", len(s), s) // a length before each, so that no two lists are written alike
	}
	return [2]string{"instance-" + hex.EncodeToString(h.Sum(nil)) + ".json", "environment-" + e.EnvironmentKey.String() + ".json"}
}

// Ledger is the folder that says which instances were admitted. It is shared by all servers of a scope, on one host or
// over a file system whose exclusive creation is atomic. Nothing in it is ever changed or removed: whoever removes a file
// lets an instance be admitted again.
type Ledger struct {
	dir  string
	disk disk
}

// disk is what the ledger does to its folder, step by step.
type disk struct {
	create func(path string) (*os.File, error)
	write  func(f *os.File, b []byte) error
	sync   func(f *os.File) error
	link   func(from, to string) error
	settle func(dir string) error
}

func realDisk() disk {
	return disk{
		create: func(path string) (*os.File, error) {
			return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600) //nolint:gosec // a digest's name in the operator's folder.
		},
		write:  func(f *os.File, b []byte) error { _, err := f.Write(b); return err },
		sync:   (*os.File).Sync,
		link:   os.Link,
		settle: syncFolder,
	}
}

// OpenLedger opens the folder, which is made if need be. A folder that others can write to is an error.
func OpenLedger(dir string) (*Ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the ledger: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the ledger: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o022 != 0 || !ok || int(stat.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("opening the ledger: %s has to be a folder of this user that nobody else can write to: run chmod go-w on it", dir)
	}
	if err := syncFolder(filepath.Dir(dir)); err != nil { // its own name has to last too
		return nil, fmt.Errorf("opening the ledger: %w", err)
	}
	return &Ledger{dir: dir, disk: realDisk()}, nil
}

// Spent refuses an instance or an environment key that is in the ledger. It saves work; [Ledger.Record] decides.
func (l *Ledger) Spent(e Entry) error {
	for _, name := range e.names() {
		_, err := os.Lstat(filepath.Join(l.dir, name))
		if err == nil {
			return l.again(name)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reading the ledger: %w", err)
		}
	}
	return nil
}

// Record writes an admission down. It returns nil at most once for an instance and at most once for an environment key,
// whichever processes ask, and only when the entry is on the disk: then, and not before, something may be released.
// After any other end the instance may be in the ledger all the same, and is then lost for good.
func (l *Ledger) Record(e Entry) error {
	e.Schema, e.At = EntrySchema, e.At.UTC().Truncate(time.Second)
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encoding an entry of the ledger: %w", err)
	}
	names := e.names()
	instance, environment := filepath.Join(l.dir, names[0]), filepath.Join(l.dir, names[1])
	f, err := l.disk.create(instance)
	if errors.Is(err, fs.ErrExist) {
		return l.again(names[0])
	}
	if err != nil {
		return fmt.Errorf("writing to the ledger: %w", err)
	}
	err = l.disk.write(f, append(text, '\n'))
	if err == nil {
		err = l.disk.sync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing to the ledger: %w", err)
	}
	// A link, unlike a renaming, replaces nothing.
	if err := l.disk.link(instance, environment); errors.Is(err, fs.ErrExist) {
		return l.again(names[1])
	} else if err != nil {
		return fmt.Errorf("writing to the ledger: %w", err)
	}
	if err := l.disk.settle(l.dir); err != nil {
		return fmt.Errorf("writing to the ledger: %w", err)
	}
	return nil
}

// again refuses who was here before, and says when that was as far as the file tells.
func (l *Ledger) again(name string) error {
	got := "one that is in the ledger without a time: a server was stopped while it wrote"
	if e, err := l.read(name); err == nil {
		got = "one that is in the ledger since " + e.At.UTC().Format(time.RFC3339)
	}
	return &refusal.Refusal{
		Link: linkInstance, Code: refusal.Policy, Want: "a machine and an environment key that were never admitted before", Got: got,
		Next: "start a new machine. If this one never got its credential, the server or the network failed in between, and the machine " +
			"is lost for good; if it did, somebody has it ask a second time",
	}
}

func (l *Ledger) read(name string) (Entry, error) {
	f, err := os.OpenFile(filepath.Join(l.dir, name), os.O_RDONLY|unix.O_NOFOLLOW, 0) //nolint:gosec // a digest's name in the operator's folder.
	if err != nil {
		return Entry{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEntry))
	if err != nil {
		return Entry{}, err
	}
	var e Entry
	if err := strict.Decode(text, &e); err != nil {
		return Entry{}, err
	}
	if e.Schema != EntrySchema {
		return Entry{}, errors.New("another schema")
	}
	return e, nil
}

func syncFolder(path string) error {
	d, err := os.Open(path) //nolint:gosec // the operator's.
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
