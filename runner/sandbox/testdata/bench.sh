#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# bench.sh RUNNER PART : builds and starts programs in the current folder, and says how many microseconds each work took:
# one PART-th of 10,000 execs, of make of 200 C files, and of a cold go build of 200 packages. RUNNER is the job's program.

set -euo pipefail
runner=$1 part=$2
mkdir -p go c

timed() {
  local name=$1 begin=$EPOCHREALTIME end
  shift
  "$@" >/dev/null
  end=$EPOCHREALTIME
  echo "took $name $((${end/./} - ${begin/./}))"
}

printf 'module bench\n\ngo 1.25\n' >go/go.mod
for i in $(seq $((200 / part))); do
  mkdir "go/p$i"
  printf 'package p%d\n\nfunc Work(a int) (s int) {\n\tfor ; a > 0; a-- {\n\t\ts += a * %d\n\t}\n\treturn s\n}\n' "$i" "$i" >"go/p$i/p.go"
  printf 'int work_%d(int a) { int s = 0; while (a--) s += a * %d; return s; }\n' "$i" "$i" >"c/f$i.c"
done
# shellcheck disable=SC2016 # make replaces these.
printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\n%%.o: %%.c\n\tgcc -O1 -c -o $@ $<\n' >c/Makefile
sync

export PATH=/usr/local/go/bin:$PATH GOCACHE=$PWD/go-cache GOTOOLCHAIN=local GOFLAGS=-trimpath CGO_ENABLED=0 GOPROXY=off
timed execs "$runner" execs $((10000 / part)) /bin/true
timed make make -s -C c all
timed go go -C go build ./...
echo all is well
