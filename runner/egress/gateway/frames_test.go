// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// wire is the sandbox's end, byte by byte.
type wire struct {
	fd    int
	index int
}

func openWire() (*wire, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, int(bigEndian(unix.ETH_P_ALL)))
	if err != nil {
		return nil, err
	}
	link, err := net.InterfaceByName(Inside)
	if err != nil {
		return nil, err
	}
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: link.Index})
	return &wire{fd, link.Index}, err
}

// answered sends a frame and says whether the gateway sends one in turn.
func (w *wire) answered(frame []byte) bool {
	w.hears() // nothing that is older
	if err := unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.index}); err != nil {
		return false
	}
	return w.hears()
}

// hears says whether a frame of the gateway comes.
func (w *wire) hears() bool {
	buf := make([]byte, 2048)
	for end := time.Now().Add(patience); ; {
		left := unix.NsecToTimeval(int64(max(time.Until(end), time.Microsecond)))
		if err := unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &left); err != nil {
			return false
		}
		_, from, err := unix.Recvfrom(w.fd, buf, 0)
		if err != nil {
			return false
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
			return true
		}
	}
}

func bigEndian(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

func ethernet(protocol uint16, payload []byte) []byte {
	return slices.Concat(hardware(1), hardware(2), binary.BigEndian.AppendUint16(nil, protocol), payload)
}

// checksum is the one of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		if i+1 < len(b) {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		} else {
			sum += uint32(b[i]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum) //nolint:gosec // folded.
}

// packet is an IPv4 packet with options, whose payload's checksum stands at an offset and covers the addresses.
func packet(from, to string, protocol byte, options, payload []byte) []byte {
	head := make([]byte, 20, 60)
	head[0] = 0x40 | byte((20+len(options))/4)                                 //nolint:gosec // small.
	binary.BigEndian.PutUint16(head[2:], uint16(20+len(options)+len(payload))) //nolint:gosec // small.
	head[8], head[9] = 64, protocol
	copy(head[12:], netip.MustParseAddr(from).AsSlice())
	copy(head[16:], netip.MustParseAddr(to).AsSlice())
	pseudo := slices.Concat(head[12:20], []byte{0, protocol, 0, byte(len(payload))}) //nolint:gosec // small.
	switch protocol {
	case unix.IPPROTO_TCP:
		binary.BigEndian.PutUint16(payload[16:], checksum(slices.Concat(pseudo, payload)))
	case unix.IPPROTO_ICMP:
		binary.BigEndian.PutUint16(payload[2:], checksum(payload))
	}
	head = append(head, options...)
	binary.BigEndian.PutUint16(head[10:], checksum(head))
	return ethernet(unix.ETH_P_IP, append(head, payload...))
}

func synSegment() []byte {
	segment := make([]byte, 20)
	binary.BigEndian.PutUint16(segment[0:], 40000)
	binary.BigEndian.PutUint16(segment[2:], 443)
	binary.BigEndian.PutUint32(segment[4:], 1)
	segment[12], segment[13] = 5<<4, 2 // SYN
	binary.BigEndian.PutUint16(segment[14:], 1024)
	return segment
}

func syn(from, to string) []byte { return packet(from, to, unix.IPPROTO_TCP, nil, synSegment()) }

// routed adds a loose source route through the gateway (RFC 791) to a packet.
func routed([]byte) []byte {
	me := SandboxAddress().Addr().String()
	options := slices.Concat([]byte{131, 7, 4, 8, 8, 8, 8}, []byte{1})
	return packet(me, Address().String(), unix.IPPROTO_TCP, options, synSegment())
}

// tagged puts a frame into VLAN 1.
func tagged(frame []byte) []byte {
	return slices.Concat(frame[:12], []byte{0x81, 0, 0, 1}, frame[12:])
}

// datagram is a UDP datagram without a checksum.
func datagram(from, to string, port uint16) []byte {
	payload := make([]byte, 12)
	binary.BigEndian.PutUint16(payload[0:], 40000)
	binary.BigEndian.PutUint16(payload[2:], port)
	binary.BigEndian.PutUint16(payload[4:], 12)
	return packet(from, to, unix.IPPROTO_UDP, nil, payload)
}

func echo(from, to string) []byte {
	return packet(from, to, unix.IPPROTO_ICMP, nil, []byte{8, 0, 0, 0, 0, 1, 0, 1})
}

// whoHas is an ARP request (RFC 826).
func whoHas(a netip.Addr) []byte {
	return ethernet(unix.ETH_P_ARP, slices.Concat(
		[]byte{0, 1, 8, 0, 6, 4, 0, 1}, hardware(2), SandboxAddress().Addr().AsSlice(), make([]byte, 6), a.AsSlice(),
	))
}

// solicit asks every neighbour for an echo (RFC 4443), from a link-local address to all nodes.
func solicit() []byte {
	from, to := netip.MustParseAddr("fe80::64ff:fe60:2").As16(), netip.MustParseAddr("ff02::1").As16()
	message := []byte{128, 0, 0, 0, 0, 1, 0, 1}
	pseudo := slices.Concat(from[:], to[:], []byte{0, 0, 0, byte(len(message)), 0, 0, 0, unix.IPPROTO_ICMPV6})
	binary.BigEndian.PutUint16(message[2:], checksum(slices.Concat(pseudo, message)))
	head := []byte{0x60, 0, 0, 0, 0, byte(len(message)), unix.IPPROTO_ICMPV6, 255}
	frame := ethernet(unix.ETH_P_IPV6, slices.Concat(head, from[:], to[:], message))
	copy(frame, []byte{0x33, 0x33, 0, 0, 0, 1})
	return frame
}
