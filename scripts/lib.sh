# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by the scripts beside it. Says things on stderr, keeps times, and finds what a part needs.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# say SENTENCE... : one line of progress.
say() { printf '%s\n' "$*" >&2; }

# die CODE SENTENCE... : ends the script; the codes are those of the README.
die() {
  local code=$1
  shift
  printf 'kettle: %s\n' "$*" >&2
  exit "$code"
}

# as_root COMMAND... : runs COMMAND as root, by sudo if need be. Answers 1 when neither is to be had.
as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null 2>&1; then
    sudo "$@"
  else
    return 1
  fi
}

# apt_packages FILE : the names in FILE, without comments and empty lines.
apt_packages() { sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$1"; }

# apt_missing FILE : those names of FILE that dpkg does not have installed, one a line.
apt_missing() {
  local name
  apt_packages "$1" | while read -r name; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null || true)" = installed ] || printf '%s\n' "$name"
  done
}

# need_packages FILE : installs what is missing of FILE, or says what to install and ends.
need_packages() {
  local -a missing
  [ -f "$1" ] || die 1 "$1 is missing from this checkout."
  mapfile -t missing < <(apt_missing "$1")
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null 2>&1 ||
    die 6 "these packages are missing and there is no apt-get here: ${missing[*]}. Kettle is built on Debian or Ubuntu."
  say "Installing ${#missing[@]} packages: ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update ||
    die 6 "these packages are missing: ${missing[*]}. Run this script as root or install sudo, or run: apt-get install ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null ||
    die 1 "apt-get could not install: ${missing[*]}. Run that command by hand to see why."
}

# need_command COMMAND PACKAGE : installs PACKAGE where there is no COMMAND.
need_command() {
  command -v "$1" >/dev/null 2>&1 && return 0
  say "Installing $2"
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update; then
    die 6 "there is no $1, and apt-get could not look for $2. Install it by hand."
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$2" >/dev/null ||
    die 6 "there is no $1, and apt-get could not install $2. Install it by hand."
}

# need_go : demands a go command at least as new as the go line of go.mod. GOTOOLCHAIN may fetch it.
need_go() {
  local want have
  command -v go >/dev/null 2>&1 || die 6 "there is no go command. Install Go, the version go.mod names, from https://go.dev/dl/ and put it in PATH."
  want=$(awk '$1 == "go" { print $2; exit }' "$root/go.mod")
  have=$(cd "$root" && go env GOVERSION 2>/dev/null) || die 6 "go does not run in $root. This module needs Go $want."
  have=${have#go}
  have=${have%% *}
  [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)" = "$want" ] ||
    die 6 "Go $have is too old: this module needs Go $want or newer, from https://go.dev/dl/."
}

# seconds : now, in seconds with three decimals.
seconds() { date +%s.%3N; }

# since START : the seconds since START.
since() { awk -v a="$1" -v b="$(seconds)" 'BEGIN { printf "%.1f", b - a }'; }
