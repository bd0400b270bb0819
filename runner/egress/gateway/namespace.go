// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// current is the network namespace of the calling thread (namespaces(7)).
const current = "/proc/thread-self/ns/net"

// newNamespace makes an empty network namespace that lives as long as its file and what is in it.
func newNamespace() (namespace *os.File, err error) {
	err = away(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() (err error) {
		namespace, err = os.Open(current)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making a network namespace: %w", err)
	}
	return namespace, nil
}

// within runs do on a thread that is in the network namespace meanwhile. Sockets that do opens stay there.
func within(namespace *os.File, do func() error) error {
	return away(func() error { return unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET) }, do)
}

// away runs do between leaving the own network namespace and coming back. A thread that cannot come back is never used
// again: it ends with its goroutine.
func away(leave, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err, back := visit(leave, do)
		if back {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

func visit(leave, do func() error) (err error, back bool) { //nolint:revive // the error is the result, back a remark.
	home, err := os.Open(current)
	if err != nil {
		return fmt.Errorf("opening the own network namespace: %w", err), true
	}
	defer func() { _ = home.Close() }()
	if err := leave(); err != nil {
		return fmt.Errorf("entering the network namespace: %w", err), true
	}
	err = do()
	if backErr := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); backErr != nil {
		return errors.Join(err, fmt.Errorf("leaving the network namespace: %w", backErr)), false
	}
	return err, true
}
