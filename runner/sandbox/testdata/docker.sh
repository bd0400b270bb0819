#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What a job does with Docker. Images are made of the one static program $job; nothing is pulled.

set -euo pipefail
job=$PWD/bin/Runner.Listener
mkdir -p ~/_work/_temp ~/externals /tmp/context
cd /tmp/context
began=$SECONDS
step() { echo "== $* (after $((SECONDS - began)) s)"; }

if ! [ -S /var/run/docker.sock ]; then
  step dockerd
  sudo sh -c 'exec dockerd >/tmp/dockerd.log 2>&1' &
  trap '[ $? = 0 ] || tail -30 /tmp/dockerd.log' EXIT
fi
for _ in $(seq 600); do
  if [ -S /var/run/docker.sock ]; then break; fi
  sleep 0.2
done
docker version --format '{{.Server.APIVersion}}'
docker info --format 'driver {{.Driver}}, groups {{.CgroupVersion}} {{.CgroupDriver}}'

step build
cp "$job" job
printf 'FROM scratch\nCOPY job /job\nRUN ["/job", "say", "built"]\nENTRYPOINT ["/job"]\n' >Dockerfile
DOCKER_BUILDKIT=1 docker build --progress plain --tag job . 2>&1 | grep -F '[built]'
printf 'FROM job\nLABEL again=yes\n' >Dockerfile
DOCKER_BUILDKIT=0 docker build --quiet --tag again . >/dev/null

step run
docker run --rm --user 1234 --read-only --tmpfs /tmp --memory 32m --pids-limit 20 --cpus 0.5 --cap-drop ALL --security-opt no-new-privileges \
  job say "in a container"
docker run --rm --privileged again privileged

# The commands that the runner gives for a job container and a service container, in its order.
step runner
label=8a3f5c docker_net=github_network_1f2e
docker ps --all --quiet --no-trunc --filter "label=$label"
docker network prune --force --filter "label=$label"
docker network create --label $label $docker_net >/dev/null
service=$(docker create --name service_1f2e --label $label --network $docker_net --network-alias cache -p 6379 -e "CI=true" -e GITHUB_ACTIONS=true \
  -v /var/run/docker.sock:/var/run/docker.sock job serve :6379)
docker start "$service" >/dev/null
docker ps --all --filter "id=$service" --filter status=running --no-trunc --format '{{.ID}} {{.Status}}' | grep -q "$service Up"
docker port "$service" | grep -F '6379/tcp -> 0.0.0.0:'
container=$(docker create --name job_1f2e --label $label --workdir /__w/w/w --network $docker_net -e "HOME=/github/home" -e GITHUB_ACTIONS=true -e CI=true \
  -v /var/run/docker.sock:/var/run/docker.sock -v "$HOME/_work:/__w" -v "$HOME/externals:/__e:ro" -v "$HOME/_work/_temp:/__w/_temp" \
  --entrypoint /job job sleep)
docker start "$container" >/dev/null
docker inspect --format '{{range .Config.Env}}{{println .}}{{end}}' "$container" | grep -F CI=true
docker inspect --format '{{if .Config.Healthcheck}}{{print .State.Health.Status}}{{end}}' "$service"
docker exec -i --workdir /__w -e STEP=1 "$container" /job write-here out
docker exec -i "$container" /job dial cache:6379
docker exec -i "$container" /job dial unix:/var/run/docker.sock
cat ~/_work/out
docker stop --time 1 "$service" >/dev/null
docker rm --force "$container" "$service" >/dev/null
docker network rm $docker_net >/dev/null

step host
docker run --rm --privileged --pid=host --net=host --ipc=host --uts=host --userns=host --cgroupns=host -v /:/host -e NESTED=1 job attack all docker "$1" "$2"
step left
docker run --detach --name daemon job sleep >/dev/null
echo all is well
