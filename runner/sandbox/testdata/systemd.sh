#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What a job does with systemd.

set -euo pipefail
echo "uid $(id -u) groups $(id -Gn) home $HOME wd $PWD jit $JIT up $(cut -d' ' -f1 /proc/uptime)"
[ "$(sudo cat /proc/1/comm)" = systemd ]
state=$(sudo systemctl is-system-running --wait || true)
echo "system $state"
sudo systemctl --failed --no-legend --plain
printf '[Service]\nExecStart=/bin/sleep 1000\nDynamicUser=yes\nPrivateTmp=yes\n' | sudo tee /run/systemd/system/example.service >/dev/null
sudo systemctl start example
sudo systemctl is-active example
# shellcheck disable=SC2016 # systemd replaces the variable.
printf '[Service]\nType=oneshot\nExecStart=/bin/sh -c "echo in a unit of its own, jit $JIT. >/tmp/unit"\nMemoryMax=64M\n' | sudo tee /run/systemd/system/once.service >/dev/null
sudo systemctl start once
cat /tmp/unit
sudo systemctl start docker
docker version --format '{{.Server.Version}}'
[ "$state" = running ]
echo all is well
exit 9
