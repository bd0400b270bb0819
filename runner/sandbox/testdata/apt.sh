#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What a job does with sudo and apt. /usr/lib/kettle/packages holds a repository of one package.

set -euo pipefail
cd /tmp
[ "$(id -u)" = 1001 ]
[ "$(sudo id -u)" = 0 ]
echo 'deb [trusted=yes] file:/usr/lib/kettle/packages ./' | sudo tee /etc/apt/sources.list.d/test.list >/dev/null
sudo apt-get update -q
sudo DEBIAN_FRONTEND=noninteractive apt-get install -q -y kettle-hello
kettle-hello
sudo useradd --create-home another
sudo -u another bash -c 'touch ~/file && stat --format "%U %n" ~/file'
sudo chown 0:0 /tmp && sudo chmod 1777 /tmp
echo all is well
