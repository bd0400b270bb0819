// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// quiet is a tree in which nobody can log in.
func quiet(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	write(t, filepath.Join(root, "etc/shadow"), "root:*:20089:0:99999:7:::\nrunner:!:20089:0:99999:7:::\nsystemd-network:!*:20089::::::\n", 0o600)
	write(t, filepath.Join(root, "etc/gshadow"), "root:*::\nsudo::\nrunner:!::\n", 0o600)
	write(t, filepath.Join(root, "etc/passwd"), "root:x:0:0:root:/root:/bin/bash\nrunner:x:1001:1001::/home/runner:/bin/bash\n", 0o600)
	write(t, filepath.Join(root, "etc/group"), "root:x:0:\n", 0o600)
	write(t, filepath.Join(root, "etc/pam.d/login"), "", 0o600)
	write(t, filepath.Join(root, "usr/share/doc/login/copyright"), "", 0o600)
	write(t, filepath.Join(root, "usr/lib/systemd/system/docker.service"), "", 0o600)
	write(t, filepath.Join(root, "usr/bin/ssh"), "", 0o700) // a client
	write(t, filepath.Join(root, "usr/local/go/src/login"), "", 0o600)
	return root
}

// TestAttackWayIn brings everything by which somebody outside of a job could come into a machine. TestNoWayIn looks at the
// trees that images are really made of.
func TestAttackWayIn(t *testing.T) {
	t.Parallel()
	must(t, refuseLogins(quiet(t)))
	program := func(path string) func(t *testing.T, root string) {
		return func(t *testing.T, root string) { t.Helper(); write(t, filepath.Join(root, path), "", 0o700) }
	}
	file := func(path, text string) func(t *testing.T, root string) {
		return func(t *testing.T, root string) { t.Helper(); write(t, filepath.Join(root, path), text, 0o600) }
	}
	for name, open := range map[string]func(t *testing.T, root string){
		"getty":                      program("usr/sbin/agetty"),
		"login":                      program("usr/bin/login"),
		"a shell for emergencies":    program("usr/sbin/sulogin"),
		"sshd":                       program("usr/sbin/sshd"),
		"sshd somewhere":             program("opt/tool/sshd"),
		"its session":                program("usr/lib/openssh/sshd-session"),
		"dropbear":                   program("usr/sbin/dropbear"),
		"telnetd":                    program("usr/sbin/in.telnetd"),
		"cloud-init":                 program("usr/bin/cloud-init"),
		"Azure's agent":              program("usr/sbin/waagent"),
		"Google's agent":             program("usr/bin/google_guest_agent_manager"),
		"AWS's agent":                program("usr/bin/amazon-ssm-agent"),
		"AWS's keys":                 program("usr/share/ec2-instance-connect/ec2-instance-connect-harvest"),
		"QEMU's agent":               program("usr/sbin/qemu-ga"),
		"VMware's agent":             program("usr/bin/vmtoolsd"),
		"snapd":                      program("usr/lib/snapd/snapd"),
		"systemd's gettys":           program("usr/lib/systemd/system-generators/systemd-getty-generator"),
		"systemd's debug shell":      program("usr/lib/systemd/system-generators/systemd-debug-generator"),
		"a unit of a serial console": file("usr/lib/systemd/system/serial-getty@.service", ""),
		"a unit of ssh":              file("etc/systemd/system/sshd.service", ""),
		"a unit of a debug shell":    file("usr/lib/systemd/system/debug-shell.service", ""),
		"a unit for emergencies":     file("usr/lib/systemd/system/emergency.service", ""),
		"a unit of cloud-init":       file("etc/systemd/system/cloud-init-local.service", ""),
		"keys of root":               file("root/.ssh/authorized_keys", "ssh-ed25519 AAAA"),
		"keys of the job's user":     file("home/runner/.ssh/authorized_keys", "ssh-ed25519 AAAA"),
		"a host key":                 file("etc/ssh/ssh_host_ed25519_key", ""),
		"user data":                  file("etc/cloud/cloud.cfg", ""),
		"inittab":                    file("etc/inittab", "S0:2345:respawn:/bin/sh\n"),
		"a password":                 file("etc/shadow", "root:$y$j9T$abc$def:20089:0:99999:7:::\n"),
		"no password at all":         file("etc/shadow", "root::20089:0:99999:7:::\n"),
		"a password of old":          file("etc/shadow-", "root::20089:0:99999:7:::\n"),
		"a password in passwd":       file("etc/passwd", "root:$1$abc:0:0:root:/root:/bin/bash\n"),
		"none in passwd":             file("etc/passwd", "root::0:0:root:/root:/bin/bash\n"),
		"a password of a group":      file("etc/gshadow", "sudo:$y$j9T$abc::\n"),
		"a line that is none":        file("etc/shadow", "root\n"),
		"a link to a way in": func(t *testing.T, root string) {
			t.Helper()
			must(t, errors.Join(os.MkdirAll(filepath.Join(root, "sbin"), 0o700), os.Symlink("busybox", filepath.Join(root, "sbin/getty"))))
		},
		"a unit by a link": func(t *testing.T, root string) {
			t.Helper()
			wants := filepath.Join(root, "etc/systemd/system/getty.target.wants")
			must(t, errors.Join(os.MkdirAll(wants, 0o700), os.Symlink("/lib/systemd/system/getty@.service", filepath.Join(wants, "getty@tty1.service"))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := quiet(t)
			open(t, root)
			if err := refuseLogins(root); err == nil {
				t.Error("there is a way in")
			}
		})
	}
}

// TestNoWayIn looks at the base systems in the cache and at the list of the published locks. It is the test that the
// statement NO_MAINTENANCE_AGENTS about an image names; the builder makes the same check of every root that it packs.
func TestNoWayIn(t *testing.T) {
	t.Parallel()
	for _, p := range []Profile{Strict, Docker} {
		for _, d := range published(t, p).Packages {
			for _, bad := range []string{
				"openssh-server", "dropbear", "telnetd", "cloud-init", "cloud-guest-utils", "walinuxagent", "google-guest-agent", "google-compute-engine",
				"amazon-ssm-agent", "qemu-guest-agent", "open-vm-tools", "snapd", "landscape-client",
			} {
				if d.Name == bad || strings.HasPrefix(d.Name, bad+"-") {
					t.Errorf("%s: the lock has %s", p, d)
				}
			}
		}
		cache, err := CacheDir(os.Getenv)
		must(t, err)
		system := System{Profile: p}
		chosen, err := system.chooseLock(t.Context(), cache, FindMirror(t.Context(), os.Getenv))
		must(t, err)
		tree := system.basePath(cache, chosen.recipe)
		if os.Geteuid() != 0 || !holdsBase(tree) {
			if os.Getenv("KETTLE_REQUIRE_VM") == "1" {
				t.Fatalf("%s: there is no base system; scripts/build-image makes it", p)
			}
			t.Logf("%s: there is no base system, or no root to read it; scripts/build-image makes it", p)
			continue
		}
		must(t, refuseLogins(tree))
		must(t, refuseRaisers(tree, p.raisers()))
	}
}
