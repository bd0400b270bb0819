// SPDX-License-Identifier: Apache-2.0

package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// listenIn makes a listener inside a network namespace. The listener stays there; the caller does not go there.
func listenIn(ctx context.Context, netns *os.File, at netip.AddrPort) (net.Listener, error) {
	var listener net.Listener
	err := inside(netns, func() (err error) {
		if err := raiseLoopback(at.Addr()); err != nil {
			return err
		}
		var config net.ListenConfig
		config.SetMultipathTCP(false)
		listener, err = config.Listen(ctx, "tcp4", at.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return listener, nil
}

// inside runs do on a thread that is in the network namespace meanwhile (setns(2)). A thread that cannot come back is
// never used again.
func inside(netns *os.File, do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err, back := visit(netns, do)
		if back {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

func visit(netns *os.File, do func() error) (err error, back bool) { //nolint:revive // the error is the result, back a remark.
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return fmt.Errorf("opening the own network namespace: %w", err), true
	}
	defer func() { _ = home.Close() }()
	if err := unix.Setns(int(netns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("entering the network namespace: %w", err), true
	}
	err = do()
	if backErr := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); backErr != nil {
		return errors.Join(err, fmt.Errorf("leaving the network namespace: %w", backErr)), false
	}
	return err, true
}

// raiseLoopback brings lo up and gives it one more address, for itself alone (netdevice(7)).
func raiseLoopback(addr netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket for the interface: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("naming the interface: %w", err)
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("raising the loopback interface: %w", err)
	}
	for _, set := range []struct {
		request uint
		value   netip.Addr
	}{
		{unix.SIOCSIFADDR, addr},
		{unix.SIOCSIFNETMASK, netip.AddrFrom4([4]byte{255, 255, 255, 255})},
	} {
		alias, err := unix.NewIfreq("lo:gate")
		if err != nil {
			return fmt.Errorf("naming the interface: %w", err)
		}
		if err := alias.SetInet4Addr(set.value.AsSlice()); err != nil {
			return fmt.Errorf("encoding %s: %w", set.value, err)
		}
		if err := unix.IoctlIfreq(fd, set.request, alias); err != nil {
			return fmt.Errorf("giving the loopback interface %s: %w", set.value, err)
		}
	}
	return nil
}
