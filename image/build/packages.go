// SPDX-License-Identifier: Apache-2.0

package build

// packages are what a job finds, beyond Debian's minimal system, and what kettled itself runs: crun, and catatonit as the
// sandbox's first process.
var packages = []string{
	"bash", "ca-certificates", "catatonit", "coreutils", "crun", "curl", "git", "gzip", "iproute2", "jq", "procps", "sudo", "tar",
	"unzip", "xz-utils", "zstd",
}

// Every file of the root file system carries this time (2025-01-01) and the image this identity.
const (
	sourceDateEpoch = "1735689600"
	rootUUID        = "6b657474-6c65-4000-8000-726f6f740001"
)

// dpkgOptions keep documentation out, licences excepted.
var dpkgOptions = []string{
	"path-exclude=/usr/share/doc/*", "path-include=/usr/share/doc/*/copyright", "path-exclude=/usr/share/man/*",
	"path-exclude=/usr/share/info/*", "path-exclude=/usr/share/locale/*", "path-exclude=/usr/share/lintian/*",
	"path-exclude=/usr/share/bash-completion/*", "path-exclude=/usr/share/bug/*",
}

// customize runs inside the new system, as its root. It makes the job's user, takes away what this machine has leaked
// into the system (mmdebstrap copies host name and name servers), leaves sudo as the only program that raises rights,
// and makes the mount points of runner/boot.
const customize = `set -eu
groupadd --gid 1001 runner
useradd --uid 1001 --gid 1001 --create-home --shell /bin/bash runner
echo 'runner ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/runner
chmod 0440 /etc/sudoers.d/runner
find / -xdev -type f -perm /6000 ! -path /usr/bin/sudo -exec chmod ug-s {} +
echo kettle > /etc/hostname
printf '127.0.0.1 localhost kettle\n::1 localhost\n' > /etc/hosts
rm -f /etc/resolv.conf /etc/machine-id /var/lib/dbus/machine-id
: > /etc/resolv.conf
: > /etc/machine-id
chmod 0644 /etc/hostname /etc/hosts /etc/resolv.conf /etc/machine-id
: > /etc/apt/sources.list
ln -s ../go/bin/go ../go/bin/gofmt /usr/local/bin/
rm -rf /var/log/* /var/cache/* /var/lib/apt/lists/* /var/tmp/* /tmp/*
mkdir -p /etc/kettle /usr/lib/kettle /var/lib/kettle /usr/local/go
chmod 0711 /var/lib/kettle
dpkg-query --show --showformat '${Package} ${Version} ${Architecture}\n' | LC_ALL=C sort > /usr/share/kettle-packages
`
