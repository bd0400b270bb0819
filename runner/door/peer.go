// SPDX-License-Identifier: Apache-2.0

package door

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/kettle/attest/attest/refusal"
)

// Peer is the process at the other end, as the kernel recorded it when the process connected (SO_PEERCRED, unix(7)).
// PID and UID are those of kettled's own namespaces. While [Server.Check] looks at it, the id is that process's own or
// nobody's: the server refuses a peer that has ended by then, and an id is given to another process only after that.
type Peer struct {
	PID int32
	UID uint32
	GID uint32
}

// What package syscall has no names for: SO_PEERPIDFD of asm-generic/socket.h (Linux 6.5) and pidfd_send_signal(2)
// (Linux 5.1), equal on amd64 and arm64.
const (
	soPeerPIDFD        = 77
	sysPIDFDSendSignal = 424
)

// peer is a [Peer] with a file descriptor that stands for this very process, whatever becomes of its id.
type peer struct {
	Peer
	process *os.File
}

// peerOf asks the kernel who connected. The caller closes the peer.
func peerOf(conn *net.UnixConn) (*peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("reading the peer's credentials: %w", err)
	}
	var cred *syscall.Ucred
	var pidfd int
	var credErr, fdErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		pidfd, fdErr = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, soPeerPIDFD)
	})
	if err := errors.Join(err, credErr); err != nil {
		return nil, fmt.Errorf("reading the peer's credentials: %w", err)
	}
	if fdErr != nil { // kernels refuse it for a process that is gone and was waited for
		return nil, fmt.Errorf("asking for the peer's process: %w", fdErr)
	}
	return &peer{
		Peer: Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid}, process: os.NewFile(uintptr(pidfd), "peer"),
	}, nil
}

// check asks whether this process may knock. What was read under its id counts only if the process had the id to the
// end: an ended one leaves it to others.
func (p *peer) check(ask func(Peer) error) error {
	if err := ask(p.Peer); err != nil {
		return refusePeer(err)
	}
	if err := p.exists(); err != nil {
		return refusePeer(err)
	}
	return nil
}

// exists sends the process no signal, which tells whether it is there: until its parent waits for it, its id is its own.
func (p *peer) exists() error {
	_, _, errno := syscall.Syscall6(sysPIDFDSendSignal, p.process.Fd(), 0, 0, 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("looking for the peer's process: %w", errno)
	}
	return nil
}

func (p *peer) close() { _ = p.process.Close() }

// refusePeer keeps the refusal of a check and turns any other error into one.
func refusePeer(err error) error {
	if len(refusal.All(err)) > 0 {
		return err
	}
	return (&refusal.Refusal{
		Link: link, Code: refusal.Identity, Want: "a process of this environment's sandbox", Got: "another process",
		Next: "call kettle-action from a step of the job.",
	}).Because(err)
}
