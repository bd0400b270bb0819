// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Network is the VM's one interface. All of it comes from the measured configuration.
type Network struct {
	Interface string                // for example "eth0"
	Address   netip.Prefix          // IPv4 address and length
	Gateway   netip.Addr            // IPv4; the zero value means no default route
	Hosts     map[string]netip.Addr // names that /etc/hosts resolves; the only names there are without a name server
	Resolvers []netip.Addr          // name servers, at most three (resolv.conf(5)). They may lie: TLS says who answers
}

// maxResolvers is how many name servers a C library asks (resolv.conf(5), MAXNS).
const maxResolvers = 3

// Validate reports every field that is absent or wrong, joined.
func (n Network) Validate() error {
	var faults []error
	if n.Interface == "" || len(n.Interface) >= unix.IFNAMSIZ {
		faults = append(faults, fmt.Errorf("interface: want 1 to %d characters, got %q", unix.IFNAMSIZ-1, n.Interface))
	}
	if !n.Address.IsValid() || !n.Address.Addr().Is4() {
		faults = append(faults, errors.New("address: want an IPv4 address with its length"))
	}
	if n.Gateway.IsValid() && !n.Gateway.Is4() {
		faults = append(faults, errors.New("gateway: want an IPv4 address"))
	}
	if len(n.Resolvers) > maxResolvers {
		faults = append(faults, fmt.Errorf("resolvers: want at most %d, got %d", maxResolvers, len(n.Resolvers)))
	}
	for _, r := range n.Resolvers {
		if !r.IsValid() || r.Zone() != "" {
			faults = append(faults, fmt.Errorf("resolvers: want addresses, got %q", r))
		}
	}
	for name, address := range n.Hosts {
		if !hostName(name) || !address.IsValid() {
			faults = append(faults, fmt.Errorf("hosts: want a host name and an address, got %q and %q", name, address))
		}
	}
	return errors.Join(faults...)
}

func hostName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for _, r := range name {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' {
			return false
		}
	}
	return true
}

// Up waits for the interface, gives it its address and route, and puts the names in /etc/hosts.
func (n Network) Up(ctx context.Context) error {
	if err := n.Validate(); err != nil {
		return fmt.Errorf("bringing the network up: %w", err)
	}
	if err := waitFor(ctx, filepath.Join("/sys/class/net", n.Interface)); err != nil {
		return fmt.Errorf("bringing the network up: %w", err)
	}
	if err := setAddress(n.Interface, n.Address); err != nil {
		return fmt.Errorf("bringing the network up: %w", err)
	}
	if n.Gateway.IsValid() {
		if err := addDefaultRoute(n.Gateway); err != nil {
			return fmt.Errorf("bringing the network up: adding the default route: %w", err)
		}
	}
	return errors.Join(
		bindText("/run/hosts", "/etc/hosts", hostsFile(n.Hosts)), bindText("/run/resolv.conf", "/etc/resolv.conf", resolverFile(n.Resolvers)),
	)
}

func raiseLoopback(_ context.Context) error {
	if err := setAddress("lo", netip.MustParsePrefix("127.0.0.1/8")); err != nil {
		return fmt.Errorf("bringing the loopback interface up: %w", err)
	}
	return nil
}

func waitFor(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, deviceWait)
	defer cancel()
	for {
		if _, err := os.Lstat(path); err == nil {
			return nil
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("%s: did not appear within %v", path, deviceWait)
		}
	}
}

// setAddress uses the classic interface requests of netdevice(7); IPv4 needs no more.
func setAddress(name string, prefix netip.Prefix) (err error) {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(socket)) }()
	request, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("naming the interface %q: %w", name, err)
	}
	address := prefix.Addr().As4()
	if err := request.SetInet4Addr(address[:]); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFADDR, request); err != nil {
		return fmt.Errorf("setting the address of %s: %w", name, err)
	}
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], ^uint32(0)<<(32-prefix.Bits()))
	if err := request.SetInet4Addr(mask[:]); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFNETMASK, request); err != nil {
		return fmt.Errorf("setting the netmask of %s: %w", name, err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("raising %s: %w", name, err)
	}
	return nil
}

// addDefaultRoute sends one RTM_NEWROUTE request (rtnetlink(7)) with a gateway and reads the kernel's answer.
func addDefaultRoute(gateway netip.Addr) (err error) {
	const headerSize, routeSize, attributeSize = unix.SizeofNlMsghdr, unix.SizeofRtMsg, unix.SizeofRtAttr + 4
	message := make([]byte, headerSize+routeSize+attributeSize)
	order := binary.NativeEndian
	order.PutUint32(message[0:], uint32(len(message))) //nolint:gosec // 36 bytes.
	order.PutUint16(message[4:], unix.RTM_NEWROUTE)
	order.PutUint16(message[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	order.PutUint32(message[8:], 1)
	route := message[headerSize:]
	route[0], route[4], route[5], route[7] = unix.AF_INET, unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RTN_UNICAST
	attribute := route[routeSize:]
	order.PutUint16(attribute[0:], attributeSize)
	order.PutUint16(attribute[2:], unix.RTA_GATEWAY)
	address := gateway.As4()
	copy(attribute[4:], address[:])

	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(socket)) }()
	if err := unix.Sendto(socket, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	n, _, err := unix.Recvfrom(socket, answer, 0)
	if err != nil {
		return err
	}
	if n < headerSize+4 || order.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("the kernel's answer is not an acknowledgement")
	}
	// A negative errno, in two's complement; 0 acknowledges.
	if code := -order.Uint32(answer[headerSize:]); code != 0 {
		return unix.Errno(code)
	}
	return nil
}

// bindText writes a file to memory and binds it over one of the read-only root.
func bindText(file, over, text string) error {
	if err := os.WriteFile(file, []byte(text), 0o444); err != nil { //nolint:gosec // world-readable by purpose.
		return fmt.Errorf("writing %s: %w", over, err)
	}
	if err := unix.Mount(file, over, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding %s: %w", over, err)
	}
	return nil
}

func resolverFile(resolvers []netip.Addr) string {
	var b strings.Builder
	for _, r := range resolvers {
		fmt.Fprintf(&b, "nameserver %s\n", r)
	}
	return b.String()
}

func hostsFile(hosts map[string]netip.Addr) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost kettle\n")
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		fmt.Fprintf(&b, "%s %s\n", hosts[name], name)
	}
	return b.String()
}
