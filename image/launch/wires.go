// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// wires are the connections between this process and QEMU.
type wires struct {
	control net.Conn
	quote   net.Conn
	guest   []*os.File // QEMU's ends, in the order of the descriptors in qemu.go
	tpm     *os.File   // swtpm's end of its connection with QEMU, if there is one
}

// newWires makes two socket pairs, so that the host's sides are open before the guest starts and have no name that
// another process could connect to, and opens the console file. A TPM gets a pair of its own.
func newWires(console string, withTPM bool) (_ *wires, err error) {
	w := &wires{}
	defer func() {
		if err != nil {
			w.closeGuest()
			w.closeHost()
		}
	}()
	for _, end := range []*net.Conn{&w.control, &w.quote} {
		conn, guest, err := socketPair()
		if err != nil {
			return nil, fmt.Errorf("connecting a port: %w", err)
		}
		*end = conn
		w.guest = append(w.guest, guest)
	}
	if console == "" {
		console = os.DevNull
	}
	file, err := os.OpenFile(console, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // the caller's file.
	if err != nil {
		return nil, fmt.Errorf("opening the console file: %w", err)
	}
	w.guest = append(w.guest, file)
	if withTPM {
		ours, theirs, err := filePair()
		if err != nil {
			return nil, fmt.Errorf("connecting the TPM: %w", err)
		}
		w.tpm, w.guest = ours, append(w.guest, theirs)
	}
	return w, nil
}

// filePair makes the two ends of a stream.
func filePair() (*os.File, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "host"), os.NewFile(uintptr(fds[1]), "guest"), nil
}

func socketPair() (net.Conn, *os.File, error) {
	ours, theirs, err := filePair()
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.FileConn(ours)
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return conn, theirs, nil
}

func (w *wires) closeGuest() {
	for _, f := range w.guest {
		_ = f.Close() // nothing was written through these.
	}
	w.guest = nil
	if w.tpm != nil {
		_ = w.tpm.Close()
		w.tpm = nil
	}
}

func (w *wires) closeHost() {
	for _, c := range []net.Conn{w.control, w.quote} {
		if c != nil {
			_ = c.Close() // the peer is gone or going.
		}
	}
}
