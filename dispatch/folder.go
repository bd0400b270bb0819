// SPDX-License-Identifier: Apache-2.0

package dispatch

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kettle/attest/internal/strict"
)

// Names of the files in an environment's folder.
const (
	lockFile    = "lock"
	launchFile  = "launch.json"
	journalFile = "journal.jsonl"
	recordFile  = "reaped.json"
	socketFile  = "control.sock"
	consoleFile = "console.log"
	machineFile = "machine"
)

// maxSocket is the longest path of a socket in bytes (unix(7)).
const maxSocket = 107

// maxFile bounds the small files that are read, in bytes.
const maxFile = 1 << 20

const launchSchema = "kettle.launch/v1"

// Target is the place of GitHub where an environment registers its runner.
type Target struct {
	APIURL string `json:"apiUrl"`
	Scope  string `json:"scope"`
	Target string `json:"target"`
}

// String names it for a person.
func (t Target) String() string { return t.Scope + " " + t.Target + " at " + t.APIURL }

// launch is what a launcher writes down before it starts a VM.
type launch struct {
	Schema string    `json:"schema"`
	Prefix string    `json:"prefix"`
	At     time.Time `json:"at"`
	GitHub Target    `json:"github"`
}

// Folder is where the launcher keeps what concerns one environment. Whoever has it holds its lock.
type Folder struct {
	path        string
	environment string
	launch      launch
	lock        *os.File
}

var environmentForm = regexp.MustCompile(`^[0-9a-f]{16}$`)

// CreateFolder chooses an environment's name and makes its folder in the state folder. When it returns, the prefix of the
// environment's runners is on the disk.
func CreateFolder(state string, target Target) (*Folder, error) {
	f, err := createFolder(state, target)
	if err != nil {
		return nil, fmt.Errorf("making the environment's folder: %w", err)
	}
	return f, nil
}

func createFolder(state string, target Target) (_ *Folder, err error) {
	if target.APIURL == "" || target.Scope == "" || target.Target == "" {
		return nil, errors.New("the place of GitHub is absent")
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	if err := ours(state); err != nil {
		return nil, err
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	f := &Folder{environment: hex.EncodeToString(random[:])}
	f.path = filepath.Join(state, f.environment)
	if n := len(filepath.Join(f.path, socketFile)); n > maxSocket {
		return nil, fmt.Errorf("its socket's path would have %d bytes, and at most %d are possible: take a shorter state folder", n, maxSocket)
	}
	if err := os.Mkdir(f.path, 0o700); err != nil {
		return nil, err
	}
	if err := f.take(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	f.launch = launch{Schema: launchSchema, Prefix: "kettle-" + f.environment, At: time.Now().UTC(), GitHub: target}
	if err := f.write(launchFile, f.launch); err != nil {
		return nil, err
	}
	return f, syncFolder(state)
}

// openFolder takes the folder of an environment whose launcher has gone. A launch that was not written down whole gives no
// target: its VM was never started.
func openFolder(state, environment string) (_ *Folder, err error) {
	f := &Folder{path: filepath.Join(state, environment), environment: environment}
	if err := f.take(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if _, err := os.Lstat(filepath.Join(f.path, recordFile)); err == nil {
		return nil, ErrReaped
	}
	data, err := readSmall(filepath.Join(f.path, launchFile))
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	if err := strict.Decode(data, &f.launch); err != nil {
		return nil, fmt.Errorf("reading %s: %w", launchFile, err)
	}
	if f.launch.Schema != launchSchema || f.launch.Prefix != "kettle-"+environment {
		return nil, fmt.Errorf("reading %s: it is not of this environment", launchFile)
	}
	return f, nil
}

// ours refuses a folder that others may write to: they could have runners removed.
func ours(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm()&0o022 != 0 || !ok || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s has to be a folder of this user that nobody else can write to: run chmod go-w on it", path)
	}
	return nil
}

// take locks the folder as long as this process lives or until [Folder.Close].
func (f *Folder) take() error {
	lock, err := os.OpenFile(filepath.Join(f.path, lockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			err = ErrAlive
		}
		return errors.Join(err, lock.Close())
	}
	f.lock = lock
	return nil
}

// alive reports whether a launcher holds the folder, and leaves the lock alone.
func alive(path string) bool {
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|unix.O_NOFOLLOW, 0) //nolint:gosec // our own.
	if err != nil {
		return false
	}
	defer lock.Close()
	query := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(lock.Fd(), unix.F_OFD_GETLK, &query)
	return err == nil && query.Type != unix.F_UNLCK
}

// Close lets go of the folder.
func (f *Folder) Close() error { return f.lock.Close() }

// Path is the folder itself.
func (f *Folder) Path() string { return f.path }

// Discard removes the folder of a VM that was never started.
func (f *Folder) Discard() error {
	if err := errors.Join(os.RemoveAll(f.path), f.Close()); err != nil {
		return fmt.Errorf("removing the environment's folder: %w", err)
	}
	return nil
}

// Environment is the environment's name: 16 hexadecimal digits.
func (f *Folder) Environment() string { return f.environment }

// Prefix is what every name of a runner of this environment begins with.
func (f *Folder) Prefix() string { return "kettle-" + f.environment }

// Console is the file for the VM's serial console.
func (f *Folder) Console() string { return filepath.Join(f.path, consoleFile) }

// Machine is for the VM's own files, and not there yet. A launcher that dies leaves it to the next one.
func (f *Folder) Machine() string { return filepath.Join(f.path, machineFile) }

// tidy removes what a dead launcher's VM and server have left on this host.
func (f *Folder) tidy() error {
	err := os.Remove(filepath.Join(f.path, socketFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, os.RemoveAll(f.Machine())); err != nil {
		return fmt.Errorf("tidying up on this host: %w", err)
	}
	return nil
}

// write makes a file that was not there, whole or not at all.
func (f *Folder) write(name string, content any) error {
	data, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	temporary, err := os.CreateTemp(f.path, "."+name+"-")
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	defer func() { _ = os.Remove(temporary.Name()) }() // it has another name by then, or is of no use
	_, err = temporary.Write(append(data, '\n'))
	if err = errors.Join(err, temporary.Sync(), temporary.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	// A link, unlike a renaming, replaces nothing.
	if err := os.Link(temporary.Name(), filepath.Join(f.path, name)); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return syncFolder(f.path)
}

func syncFolder(path string) error {
	d, err := os.Open(path) //nolint:gosec // our own.
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readSmall reads a file of bounded size.
func readSmall(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0) //nolint:gosec // in the state folder.
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", filepath.Base(path), maxFile)
	}
	return data, err
}
