// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// An image has no way in for people or for whoever runs the host: no program that lets somebody log in at a console, over a
// serial line or over the network, no agent of a cloud that takes commands, users or keys from outside, no password that
// opens. The builder refuses to pack a tree that has one, whoever brought it. The statement NO_MAINTENANCE_AGENTS about an
// image rests on this.

// agents are programs by their base names. A name that ends in a star is a beginning.
var agents = []string{
	// logging in
	"agetty", "dropbear*", "fgetty", "getty", "in.rlogind", "in.rshd", "in.telnetd", "login", "mgetty", "mingetty", "ngetty", "rlogind", "rshd", "sshd*", "sulogin",
	"systemd-debug-generator", "systemd-getty-generator", "systemd-sulogin-shell", "telnetd", "tinysshd", "ttyd", "uugetty", "x11vnc", "xrdp*",
	// agents of clouds and hypervisors, and user data
	"amazon-ssm-agent", "azsecd", "cloud-id", "cloud-init*", "cloudbase-init*", "coreos-*", "ec2-instance-connect*", "ec2net*", "google_authorized_keys*", "google_guest_agent*",
	"google_metadata_script_runner*", "google_osconfig_agent*", "google_oslogin*", "hv_fcopy_daemon", "hv_kvp_daemon", "hv_vss_daemon", "hypervvssd", "hypervkvpd", "ignition*",
	"mdsd", "nm-cloud-setup", "omsagent*", "oracle-cloud-agent", "qemu-ga", "snapd", "spice-vdagent*", "ssm-agent-worker", "ssm-session-worker", "vmtoolsd", "vmware-*", "VBoxService",
	"waagent*", "WALinuxAgent*", "xe-daemon",
	// management from afar
	"chef-client", "cockpit-ws", "fleet-agent", "landscape-client*", "osqueryd", "puppet", "salt-minion", "tailscaled", "telegraf", "teleport", "zabbix_agent*",
}

// units are services of systemd by their base names, with stars as [path.Match] knows them.
var units = []string{
	"*getty*", "autovt@*", "cloud-*", "debug-shell*", "emergency.*", "google-*agent*", "rescue.*", "ssh.*", "ssh@*", "sshd*", "telnet*", "waagent*", "walinuxagent*",
	"amazon-ssm-agent*", "qemu-guest-agent*", "open-vm-tools*", "console-shell*",
}

// doors are files and folders that exist only where somebody may come in.
var doors = []string{
	"etc/cloud", "etc/inittab", "etc/securetty", "etc/ssh/sshd_config", "etc/ssh/sshd_config.d", "etc/waagent.conf", "etc/default/instance_configs.cfg", "root/.ssh",
	"var/lib/cloud", "var/lib/waagent", "etc/guest-agent", "etc/inetd.conf", "etc/xinetd.d",
}

// refuseLogins makes sure that a tree has none of all that.
func refuseLogins(tree string) error {
	faults := []error{refusePasswords(tree)}
	for _, door := range doors {
		if _, err := os.Lstat(filepath.Join(tree, door)); !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, errors.Join(fmt.Errorf("/%s: a way in", door), err))
		}
	}
	err := filepath.WalkDir(tree, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		rel := strings.TrimPrefix(name, tree)
		switch base := entry.Name(); {
		case base == "authorized_keys" || base == "authorized_keys2" || base == ".shosts" || base == ".rhosts" || strings.HasPrefix(base, "ssh_host_"):
			faults = append(faults, fmt.Errorf("%s: a way in", rel))
		case isUnit(rel) && matches(units, base):
			faults = append(faults, fmt.Errorf("%s: a service for logging in, or of an agent", rel))
		case matches(agents, base) && isProgram(name, entry):
			faults = append(faults, fmt.Errorf("%s: a program for logging in, or an agent", rel))
		}
		return nil
	})
	return errors.Join(append(faults, err)...)
}

// isUnit tells whether a path lies where systemd looks for units.
func isUnit(rel string) bool { return strings.Contains(rel, "/systemd/system/") }

func matches(patterns []string, base string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, base)
		return err != nil || ok
	})
}

// isProgram tells whether a file can be executed, or is a link, which may lead to one.
func isProgram(name string, entry fs.DirEntry) bool {
	if entry.Type()&fs.ModeSymlink != 0 {
		return strings.Contains(name, "bin/")
	}
	info, err := entry.Info()
	return err != nil || info.Mode()&0o111 != 0
}

// locked is what the field of a password holds for somebody who has none that opens.
var locked = []string{"*", "!", "!*", "!!"}

// refusePasswords looks at the second field of each line: it must be one of [locked], or in passwd and group "x", which
// means the shadow file. An empty one opens to everybody.
func refusePasswords(tree string) error {
	var faults []error
	for name, also := range map[string]string{
		"etc/shadow": "!", "etc/gshadow": "", "etc/passwd": "x", "etc/group": "x", "etc/shadow-": "!", "etc/gshadow-": "", "etc/passwd-": "x", "etc/group-": "x",
	} {
		text, err := os.ReadFile(filepath.Join(tree, name)) //nolint:gosec // a file of the image.
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		faults = append(faults, err)
		for line := range bytes.Lines(text) {
			fields := strings.Split(strings.TrimRight(string(line), "\n"), ":")
			if len(fields) < 3 || fields[1] != also && !slices.Contains(locked, fields[1]) {
				faults = append(faults, fmt.Errorf("/%s: %.40q has a password", name, fields[0]))
			}
		}
	}
	return errors.Join(faults...)
}
