// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Fields of struct bpf_sk_lookup (linux/bpf.h), by their offset, and the program's two answers.
const (
	offsetFamily   = 8
	offsetProtocol = 12

	drop, pass = 0, 1
)

// program gives every TCP connection over IPv4 to the socket in the map, whatever address and port it is for. UDP goes
// the kernel's way, to the one socket there is. Anything else, and a connection that cannot be given, is dropped.
func program(sockets *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),

		asm.LoadMem(asm.R1, asm.R6, offsetFamily, asm.Word),
		asm.JNE.Imm(asm.R1, unix.AF_INET, "drop"),
		asm.LoadMem(asm.R1, asm.R6, offsetProtocol, asm.Word),
		asm.JEq.Imm(asm.R1, unix.IPPROTO_UDP, "pass"),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_TCP, "drop"),

		// r7 = sockets[0]
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, sockets.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.Mov.Reg(asm.R7, asm.R0),

		// r8 = bpf_sk_assign(ctx, r7, 0); bpf_sk_release(r7)
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkAssign.Call(),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.FnSkRelease.Call(),
		asm.JNE.Imm(asm.R8, 0, "drop"),

		asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
		asm.Return(),
		asm.Mov.Imm(asm.R0, drop).WithSymbol("drop"),
		asm.Return(),
	}
}

// steering is the program at work.
type steering struct {
	sockets *ebpf.Map
	program *ebpf.Program
	link    *link.NetNsLink
}

// steer sends the connections of a namespace to the listener.
func steer(namespace *os.File, listener net.Listener) (_ *steering, err error) {
	s := &steering{}
	defer func() {
		if err != nil {
			err = fmt.Errorf("steering connections: %w", errors.Join(err, s.close()))
		}
	}()
	s.sockets, err = ebpf.NewMap(&ebpf.MapSpec{Name: "gate_sockets", Type: ebpf.SockMap, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, err
	}
	if err := put(s.sockets, listener); err != nil {
		return nil, err
	}
	s.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "gate", Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, Instructions: program(s.sockets), License: "Apache-2.0",
	})
	if err != nil {
		return nil, err
	}
	if s.link, err = link.AttachNetNs(int(namespace.Fd()), s.program); err != nil {
		return nil, err
	}
	return s, nil
}

// put stores the listener in the map.
func put(sockets *ebpf.Map, listener net.Listener) error {
	conn, ok := listener.(syscall.Conn)
	if !ok {
		return errors.New("the listener has no descriptor")
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var putErr error
	err = raw.Control(func(fd uintptr) { putErr = sockets.Put(uint32(0), uint64(fd)) })
	return errors.Join(err, putErr)
}

func (s *steering) close() error {
	var errs []error
	if s.link != nil {
		errs = append(errs, s.link.Close())
	}
	if s.program != nil {
		errs = append(errs, s.program.Close())
	}
	if s.sockets != nil {
		errs = append(errs, s.sockets.Close())
	}
	return errors.Join(errs...)
}
