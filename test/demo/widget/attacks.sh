#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What a hostile job tries, as itself and as root. Each attack prints a line; the exit code is 1 when one succeeded.

set -u
won=0

# attack WHAT COMMAND... : succeeds, as an attack, when COMMAND does.
attack() {
  local what=$1
  shift
  if timeout 20 "$@" >/tmp/attack.log 2>&1 </dev/null; then
    printf 'SUCCEEDED  %s\n' "$what"
    head -c 400 /tmp/attack.log
    won=1
  else
    printf 'failed     %s\n' "$what"
  fi
}

# root WHAT COMMAND... : the same as root, who may more than the runner's user.
root() {
  local what=$1
  shift
  attack "$what, as root" sudo "$@"
}

# has WHAT TEXT COMMAND... : succeeds, as an attack, when COMMAND prints TEXT.
has() {
  local what=$1 text=$2
  shift 2
  attack "$what" sh -c '"$@" 2>/dev/null | grep -q -- "$0"' "$text" "$@"
}

# The supervisor and the machine.
has 'see kettled among the processes' kettled cat /proc/[0-9]*/comm
root 'read a disk' head -c 1 /dev/vda
root 'make a disk node and read it' sh -c 'mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk'
for port in /dev/vport* /dev/virtio-ports /dev/sev-guest /dev/tdx_guest /dev/tpm0 /dev/tpmrm0 /dev/vsock /dev/mem /dev/kmsg /dev/ram0 /dev/kvm; do
  attack "find $port" test -e "$port"
done
root 'mount configfs' mount -t configfs none /mnt
root 'mount a tmpfs' mount -t tmpfs none /mnt
root 'mount a new proc' mount -t proc none /mnt
root 'make a user namespace' unshare --user true
root 'make a mount namespace' unshare --mount true
root 'enter the namespaces of process 1' nsenter --target 1 --mount true
root 'change the core pattern' sh -c 'echo "|/tmp/x" > /proc/sys/kernel/core_pattern'
root 'press sysrq' sh -c 'test ! -c /proc/sysrq-trigger && echo h > /proc/sysrq-trigger'
root 'set the clock' date --set '2001-01-01'
root 'read the kernel log' dmesg
root 'lift the memory limit' sh -c 'echo max > /sys/fs/cgroup/memory.max'
root 'write to the folder of the door' sh -c ': > /run/kettle/x'
root 'replace the action' sh -c 'mount --bind /bin/true /usr/lib/kettle/kettle-action'

# The network.
attack 'reach the metadata service' curl --silent --max-time 5 http://169.254.169.254/
attack 'reach the launcher' curl --silent --insecure --max-time 5 https://10.0.2.2/
attack 'reach GitHub by its address' curl --silent --insecure --max-time 5 https://10.0.2.100/
attack 'reach a host that is not listed' curl --silent --max-time 5 https://example.com/
attack 'resolve a name that is not listed' getent hosts secret-data.example.com
attack 'front with a listed name' curl --silent --insecure --max-time 5 \
  --connect-to example.com:443:github.demo.test:443 https://example.com/
attack 'speak HTTP to a listed host' curl --silent --max-time 5 http://github.demo.test/
attack 'reach another port of a listed host' curl --silent --insecure --max-time 5 https://github.demo.test:8443/
attack 'use IPv6' curl --silent --max-time 5 'http://[2606:4700:4700::1111]/'
attack 'ask a resolver over TCP' bash -c 'exec 3<>/dev/tcp/1.1.1.1/53 && printf x >&3 && read -r -t 3 -N 1 -u 3'
root 'take another address' ip address add 100.96.0.9/30 dev eth0

# The door. What may not be attested is refused, and the refusal is an exit code.
ask() {
  INPUT_SUBJECT_PATH=$1 INPUT_GITHUB_ATTESTATION=false INPUT_SHOW_SUMMARY=false GITHUB_OUTPUT=/dev/null \
    /usr/lib/kettle/kettle-action attest
}
export -f ask
mkdir -p loot
ln -sf /etc/shadow loot/link
ln -sf /proc/self/mem loot/magic
mkfifo loot/fifo 2>/dev/null
truncate --size 1T loot/sparse
for what in /usr/bin/git /etc/shadow /proc/version /sys/kernel/vmcoreinfo /run/kettle/door.sock ../../../../etc/passwd \
  loot/link loot/magic loot/fifo loot/sparse /dev/zero; do
  attack "attest $what" bash -c 'ask "$0"' "$what"
done
attack 'speak as the started hook' /usr/lib/kettle/kettle-action started

# What stays behind is killed, and told. Without its mark, the runner does not find it.
sudo sh -c 'echo "# changed" >> /etc/profile'
env --unset=RUNNER_TRACKING_ID setsid sleep 3600 >/dev/null 2>&1 </dev/null &

rm -rf loot
exit $won
