// SPDX-License-Identifier: Apache-2.0

package build

import (
	"strings"

	"github.com/kettle/attest/image"
)

// packages are what a job of the profile finds, beyond Debian's minimal system, and what kettled itself runs: crun,
// catatonit as the sandbox's first process, and the libraries of mkfs.xfs.
func (p Profile) packages() []string {
	all := []string{
		"bash", "ca-certificates", "catatonit", "coreutils", "crun", "curl", "git", "gzip", "iproute2", "jq", "libinih1", "liburcu8",
		"procps", "sudo", "tar", "unzip", "xz-utils", "zstd",
	}
	if p == Docker {
		all = append(all, engines...)
	}
	return all
}

// engines are container engines with what they run: Docker and podman, with root and without, and systemd for jobs that
// want it as the sandbox's first process. Nothing of them runs outside a sandbox. Who wants them usually comes from
// GitHub's own machines and expects a compiler too; the strict profile gets one only on request (kettle image lock
// --package build-essential).
var engines = []string{
	"aardvark-dns", "build-essential", "docker.io", "fuse-overlayfs", "iptables", "netavark", "podman", "runc", "slirp4netns", "systemd", "systemd-sysv", "uidmap",
}

// raisers are the only programs of the image that raise rights. Inside the sandbox they raise them to those of its own
// user namespace; outside it nobody runs them.
func (p Profile) raisers() []string {
	if p == Docker {
		// newuidmap and newgidmap give rootless containers their ids, fusermount3 mounts their layers.
		return []string{"/usr/bin/sudo", "/usr/bin/newuidmap", "/usr/bin/newgidmap", "/usr/bin/fusermount3"}
	}
	return []string{"/usr/bin/sudo"}
}

// Every file of the root file system carries this time (2025-01-01), every password this day, and the image this identity.
const (
	sourceDateEpoch = "1735689600"
	shadowDay       = "20089"
	rootUUID        = "6b657474-6c65-4000-8000-726f6f740001"
)

// dpkgOptions keep documentation out, licences excepted, and every way to log in at a console: nobody is meant to, and
// what is not there cannot be started. They spare the disk's patience: a build that is cut off is begun anew, and a job's
// disk dies with the job.
var dpkgOptions = []string{
	"force-unsafe-io",
	"path-exclude=/*bin/*getty", "path-exclude=/usr/*bin/*getty", "path-exclude=/*bin/sulogin", "path-exclude=/usr/*bin/sulogin",
	"path-exclude=/bin/login", "path-exclude=/usr/bin/login",
	"path-exclude=/lib/systemd/system/*getty*", "path-exclude=/lib/systemd/system/debug-shell.service",
	"path-exclude=/lib/systemd/system/emergency.*", "path-exclude=/lib/systemd/system/rescue.*", "path-exclude=/lib/systemd/systemd-sulogin-shell",
	"path-exclude=/lib/systemd/system-generators/systemd-getty-generator", "path-exclude=/lib/systemd/system-generators/systemd-debug-generator",
	"path-exclude=/usr/share/doc/*", "path-include=/usr/share/doc/*/copyright", "path-exclude=/usr/share/man/*",
	"path-exclude=/usr/share/info/*", "path-exclude=/usr/share/locale/*", "path-exclude=/usr/share/lintian/*",
	"path-exclude=/usr/share/bash-completion/*", "path-exclude=/usr/share/bug/*",
}

// customize is the script that mmdebstrap runs at the end with the new system's folder as $1.
func (p Profile) customize() string {
	steps := makeUser
	if p == Docker {
		steps += prepareEngines
	}
	return "#!/bin/sh\nset -eu\n" + takeMkfs + "chroot \"$1\" /bin/sh <<'KETTLE'\nset -eu\n" + steps + p.lowerRights() + cleanUp + "KETTLE\n"
}

// takeMkfs takes one program and its licence out of a package whose other programs want Python. The package is checked
// as every other, and stands in the list with its version.
const takeMkfs = `(
mkdir "$1/tmp/xfsprogs"
cd "$1/tmp/xfsprogs"
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get -q download xfsprogs
dpkg-deb --show --showformat '${Package} ${Version} ${Architecture}\n' ./*.deb > "$1/usr/share/kettle-packages"
dpkg-deb --extract ./*.deb .
install -m 0755 sbin/mkfs.xfs "$1` + image.MakeXFS + `"
install -m 0644 -D usr/share/doc/xfsprogs/copyright "$1/usr/share/doc/xfsprogs/copyright"
)
`

// makeUser makes the job's user.
const makeUser = `groupadd --gid 1001 runner
useradd --uid 1001 --gid 1001 --create-home --shell /bin/bash runner
echo 'runner ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/runner
chmod 0440 /etc/sudoers.d/runner
`

// prepareEngines lets the job's user speak to dockerd and run rootless containers. The sandbox has 2^18 ids, and those of
// its containers lie within. podman is told to do without systemd, which may or may not be there. Of systemd's units those
// are masked that a sandbox has no use for, and those that would change the system behind the job's back.
const prepareEngines = `usermod --append --groups docker runner
echo runner:100000:65536 > /etc/subuid
echo runner:100000:65536 > /etc/subgid
printf '[network]\nnetwork_backend = "netavark"\n[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' > /etc/containers/containers.conf
mkdir -p /var/lib/docker /var/lib/containers
ln -sf /lib/systemd/system/multi-user.target /etc/systemd/system/default.target
rm -rf /etc/systemd/system/getty.target.wants /lib/systemd/system/autovt@.service /root/.ssh
for unit in apt-daily.timer apt-daily-upgrade.timer dev-hugepages.mount dpkg-db-backup.timer \
	e2scrub_all.timer e2scrub_reap.service fstrim.timer sys-fs-fuse-connections.mount sys-kernel-config.mount \
	sys-kernel-debug.mount sys-kernel-tracing.mount systemd-logind.service systemd-pstore.service; do
	ln -sf /dev/null "/etc/systemd/system/$unit"
done
`

// lowerRights takes the right to raise rights from every program but those that may.
func (p Profile) lowerRights() string {
	return "find / -xdev -type f -perm /6000 ! -path " + strings.Join(p.raisers(), " ! -path ") + " -exec chmod ug-s {} +\n"
}

// cleanUp takes away what this machine and this hour have leaked into the system (mmdebstrap copies host name and name
// servers, useradd notes the day), makes the mount points of runner/boot, and lists the packages.
const cleanUp = `echo kettle > /etc/hostname
printf '127.0.0.1 localhost kettle\n::1 localhost\n' > /etc/hosts
rm -f /etc/resolv.conf /etc/machine-id /var/lib/dbus/machine-id
: > /etc/resolv.conf
: > /etc/machine-id
chmod 0644 /etc/hostname /etc/hosts /etc/resolv.conf /etc/machine-id
: > /etc/apt/sources.list
sed -i /Sandbox/d /etc/apt/apt.conf.d/99mmdebstrap
rm -f /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid- /etc/.pwd.lock /var/lib/dpkg/*-old
sed -i 's/^\([^:]*:[^:]*\):[0-9]*:/\1:` + shadowDay + `:/' /etc/shadow
rm -rf /var/log/* /var/cache/* /var/lib/apt/lists/* /var/tmp/* /tmp/*
mkdir -p /etc/kettle /usr/lib/kettle /var/lib/kettle /usr/local/go
chmod 0711 /var/lib/kettle
dpkg-query --show --showformat '${Package} ${Version} ${Architecture}\n' >> /usr/share/kettle-packages
LC_ALL=C sort -o /usr/share/kettle-packages /usr/share/kettle-packages
`
