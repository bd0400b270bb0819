#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What a job does with podman, as root and not. Images are made of the one static program.

set -euo pipefail
job=$PWD/bin/Runner.Listener
mkdir -p /tmp/podman
cd /tmp/podman
cp "$job" job
printf 'FROM scratch\nCOPY job /job\nENTRYPOINT ["/job"]\n' >Containerfile
began=$SECONDS
step() { echo "== $* (after $((SECONDS - began)) s)"; }

step root
sudo podman build --quiet --tag job .
sudo podman run --rm --privileged --memory 32m job say "in a container of root's"
step user
podman build --quiet --tag job .
podman run --rm --user 1000 job say "in a container of nobody's"
podman info --format 'driver {{.Store.GraphDriverName}}, rootless {{.Host.Security.Rootless}}'
echo all is well
