// SPDX-License-Identifier: Apache-2.0

// Command guest is the program that the boot tests run inside a VM: it boots, says hello, asks for quotes, and powers off.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/kettle/attest/attest/collect"
	"github.com/kettle/attest/image"
	"github.com/kettle/attest/runner/boot"
	"github.com/kettle/attest/runner/boot/dm"
	"github.com/kettle/attest/runner/channel"
)

func main() {
	switch os.Args[0] {
	case "nobody":
		os.Exit(asNobody())
	case "nothing":
		os.Exit(0)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	environment, err := boot.Enter(ctx)
	if err == nil {
		err = serve(ctx, environment)
	}
	if err != nil {
		boot.PowerOff("the test guest stopped: " + err.Error())
	}
	boot.PowerOff("the test guest is done")
}

func serve(ctx context.Context, environment *boot.Environment) error {
	port, err := boot.OpenPort(ctx, image.ControlPort)
	if err != nil {
		return err
	}
	guest := channel.NewGuest(port)
	if err := guest.Send(ctx, channel.Hello{Program: "guest"}); err != nil {
		return err
	}
	credential, err := guest.Credential(ctx)
	if err != nil {
		return err
	}
	for _, p := range environment.Phases {
		if err := guest.Send(ctx, channel.Phase{Name: p.Name, Elapsed: p.Start + p.Duration}); err != nil {
			return err
		}
	}
	// The credential names what to try, and the last sentence says what came out.
	outcome, err := try(ctx, guest, credential.Reveal())
	if err != nil {
		return err
	}
	return guest.Send(ctx, channel.End{Outcome: outcome})
}

func try(ctx context.Context, guest *channel.Guest, what string) (string, error) {
	switch what {
	case "everything":
		var all []string
		for _, part := range []func(context.Context) (string, error){facts, quotes, network, hardened} {
			outcome, err := part(ctx)
			if err != nil {
				return "", err
			}
			all = append(all, outcome)
		}
		return strings.Join(all, "|"), nil
	case "read":
		return read()
	case "bundle":
		bundle, err := boot.ReadBundle()
		return fmt.Sprintf("%q", bundle), err
	case "scratch":
		return scratch(ctx)
	case "sealed":
		return sealed(ctx)
	case "spoiled":
		return spoiled(ctx, guest)
	case "rolled":
		return rolled(ctx, guest)
	case "crash":
		var nobody *boot.Environment
		return nobody.CommandLine.String(), nil
	default:
		return "", fmt.Errorf("nothing called %q to try", what)
	}
}

// quotes asks for one quote, extends the register, asks again, and gives both reports.
func quotes(ctx context.Context) (string, error) {
	device, err := collect.Open(ctx, collect.PlatformSim)
	if err != nil {
		return "", err
	}
	before, err := device.Quote(ctx, [64]byte{1})
	if err != nil {
		return "", err
	}
	if err := device.Extend(ctx, [32]byte{2}); err != nil {
		return "", err
	}
	after, err := device.Quote(ctx, [64]byte{3})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%x %x", essence(before.Report), essence(after.Report)), device.Close()
}

// essence gives report data, measurement and host data of an SNP report (SEV-SNP ABI, ATTESTATION_REPORT): 144 bytes.
func essence(report []byte) []byte {
	if len(report) < 0xE0 {
		return nil
	}
	return report[0x50:0xE0]
}

// network reaches the one endpoint that is forwarded, by its name, and nothing else.
func network(ctx context.Context) (string, error) {
	n := boot.Network{
		Interface: "eth0",
		Address:   netip.MustParsePrefix("10.0.2.15/24"),
		Gateway:   netip.MustParseAddr("10.0.2.2"),
		Hosts:     map[string]netip.Addr{"server.test": netip.MustParseAddr("10.0.2.100")},
		Resolvers: []netip.Addr{netip.MustParseAddr("10.0.2.3")},
	}
	if err := n.Up(ctx); err != nil {
		return "", err
	}
	if text, err := os.ReadFile("/etc/resolv.conf"); err != nil || string(text) != "nameserver 10.0.2.3\n" {
		return "", fmt.Errorf("resolv.conf is %q, %w", text, err)
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	var said [2]string
	for i := range said {
		connection, err := dialer.DialContext(ctx, "tcp", "server.test:443")
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(connection)
		if err != nil {
			return "", err
		}
		said[i] = string(text)
	}
	dialer.Timeout = 2 * time.Second
	if connection, err := dialer.DialContext(ctx, "tcp", "10.0.2.2:22"); err == nil {
		return "", fmt.Errorf("reached %s", connection.RemoteAddr())
	}
	return said[0] + said[1], nil
}

// read reads the largest file of the root from the disk, whatever was read before.
func read() (string, error) {
	if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o600); err != nil {
		return "", err
	}
	data, err := os.ReadFile("/filler")
	if err != nil {
		return "", err
	}
	control, err := dm.Open()
	if err != nil {
		return "", err
	}
	kind, line, err := control.Status(image.RootName)
	return fmt.Sprintf("%d bytes; %s %s", len(data), kind, line), errors.Join(err, control.Close())
}

// facts looks at what a supervisor relies on.
func facts(context.Context) (string, error) {
	if os.Getpid() == 1 || os.Getppid() != 1 {
		return "", fmt.Errorf("process %d with parent %d", os.Getpid(), os.Getppid())
	}
	if err := os.WriteFile("/etc/new", nil, 0o600); err == nil {
		return "", fmt.Errorf("the root can be written")
	}
	if err := os.WriteFile(image.ConfigDir+"/new", nil, 0o600); err == nil {
		return "", fmt.Errorf("the configuration can be written")
	}
	if err := os.WriteFile(image.ScratchDir+"/new", nil, 0o600); err == nil {
		return "", fmt.Errorf("there is a disk for a job before one was made")
	}
	if got, err := os.ReadFile("/etc/marker"); err != nil || string(got) != "root of the test\n" {
		return "", fmt.Errorf("the root is another: %q, %w", got, err)
	}
	controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.subtree_control")
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat("/modules"); err == nil {
		return "", fmt.Errorf("the initramfs shows through")
	}
	return string(controllers[:len(controllers)-1]), nil
}
