// SPDX-License-Identifier: Apache-2.0

// Package tpmtest starts a software TPM (swtpm) for tests and dresses it up: as the TPM of an Azure confidential VM whose
// paravisor answers user data with a new report, as one whose maker certified its endorsement key, or as one that fails.
//
// A machine without swtpm skips the tests that need it and says so; with KETTLE_REQUIRE_SWTPM=1 they fail. It trusts its
// callers. Only tests link it.
package tpmtest

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"
)

const (
	startLimit = 20 * time.Second
	startPause = 10 * time.Millisecond
	nvBlock    = 512
)

// Start starts a fresh TPM, which ends with the test.
func Start(t testing.TB) transport.TPMCloser {
	t.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		if os.Getenv("KETTLE_REQUIRE_SWTPM") == "1" {
			t.Fatal("swtpm is not installed, and KETTLE_REQUIRE_SWTPM=1 demands it")
		}
		t.Skip("swtpm is not installed: apt-get install swtpm")
	}
	dir, err := os.MkdirTemp("", "tpm") //nolint:usetesting // The path of a socket has to be short.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(context.Background())                                                                                                                //nolint:usetesting // Ends after the test's own clean-up.
	c := exec.CommandContext(ctx, program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket, "--flags", "not-need-init,startup-clear") //nolint:gosec // swtpm, from the path.
	if err := c.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = c.Wait() })
	for began := time.Now(); ; time.Sleep(startPause) {
		if c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket); err == nil { // the socket is there before it listens
			_ = c.Close()
			break
		}
		if time.Since(began) > startLimit {
			t.Fatal("swtpm does not listen")
		}
	}
	tpm, err := linuxudstpm.Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	return &unclosed{tpm}
}

// unclosed stays usable for the test itself after the code under test closed it.
type unclosed struct{ transport.TPM }

// Close does nothing.
func (*unclosed) Close() error { return nil }

// Hook is a TPM between the code under test and the real one. Before is called with each command; an answer that it
// gives, or an error, takes the place of the TPM's.
type Hook struct {
	transport.TPMCloser
	Before func(code tpm2.TPMCC, handle uint32, command []byte) ([]byte, error)
	Closed bool
}

// Send implements [transport.TPM].
func (h *Hook) Send(command []byte) ([]byte, error) {
	const header = 10 // tag, size, code
	if len(command) < header {
		return nil, net.ErrClosed
	}
	var handle uint32
	if len(command) >= header+4 {
		handle = binary.BigEndian.Uint32(command[header:])
	}
	if h.Before != nil {
		answer, err := h.Before(tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])), handle, command)
		if answer != nil || err != nil {
			return answer, err
		}
	}
	answer, err := h.TPMCloser.Send(command)
	if err != nil {
		return nil, fmt.Errorf("sending to swtpm: %w", err)
	}
	return answer, nil
}

// Close notes that the TPM was closed.
func (h *Hook) Close() error { h.Closed = true; return nil }

// Error is an answer of nothing but a response code.
func Error(code tpm2.TPMRC) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTNoSessions))
	b = binary.BigEndian.AppendUint32(b, 10)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

// Define makes an NV index of exactly the data, for the owner to read and write, replacing one that is there.
func Define(t testing.TB, tpm transport.TPM, index uint32, data []byte) {
	t.Helper()
	handle := tpm2.TPMHandle(index)
	if old, err := (tpm2.NVReadPublic{NVIndex: handle}).Execute(tpm); err == nil {
		_, err = tpm2.NVUndefineSpace{AuthHandle: tpm2.TPMRHOwner, NVIndex: tpm2.NamedHandle{Handle: handle, Name: old.NVName}}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: handle, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(len(data)), //nolint:gosec // Tests write little.
		Attributes: tpm2.TPMANV{OwnerRead: true, OwnerWrite: true, AuthRead: true, NoDA: true},
	})}.Execute(tpm)
	if err != nil {
		t.Fatalf("defining NV index %#x of %d bytes: %v", index, len(data), err)
	}
	Write(t, tpm, index, data)
}

// Write writes an NV index from its start.
func Write(t testing.TB, tpm transport.TPM, index uint32, data []byte) {
	t.Helper()
	for at := 0; at < len(data); at += nvBlock {
		public, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm2.NVWrite{
			AuthHandle: tpm2.TPMRHOwner, NVIndex: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: public.NVName},
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: data[at:min(at+nvBlock, len(data))]}, Offset: uint16(at),
		}.Execute(tpm)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Read reads an NV index of at most one block for the owner; nil if it is not there.
func Read(t testing.TB, tpm transport.TPM, index uint32, size uint16) []byte {
	t.Helper()
	public, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(index)}.Execute(tpm)
	if err != nil {
		return nil
	}
	answer, err := tpm2.NVRead{
		AuthHandle: tpm2.TPMRHOwner, NVIndex: tpm2.NamedHandle{Handle: tpm2.TPMHandle(index), Name: public.NVName}, Size: size,
	}.Execute(tpm)
	if err != nil {
		return nil
	}
	return answer.Data.Buffer
}
