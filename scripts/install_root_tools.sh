#!/bin/sh
# Install what `make test-deploy` needs, as root on Debian or Ubuntu: buildah and mmdebstrap, to make an image from packages
# alone, and what makes and mounts small file systems. Says clearly what is missing and exits 1: these tests are asked for by
# name, so they are not skipped in silence.
set -eu

missing() {
    ! command -v "$1" >/dev/null 2>&1
}

if [ "$(id -u)" != 0 ]; then
    echo "make test-deploy needs root: it builds an image, and runs it in namespaces of its own" >&2
    exit 1
fi

packages=""
for tool in buildah mmdebstrap; do
    if missing "$tool"; then packages="$packages $tool"; fi
done
for pair in unshare:util-linux nsenter:util-linux ip:iproute2 systemd-analyze:systemd mkfs.ext4:e2fsprogs mount:mount; do
    if missing "${pair%%:*}"; then packages="$packages ${pair##*:}"; fi
done
if [ -z "$packages" ]; then exit 0; fi
if missing apt-get; then
    echo "not installed:$packages; and there is no apt-get here to install them with" >&2
    exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # one word per package is meant
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages; } >"$log" 2>&1; then
    tail -n 10 "$log" >&2
    echo "could not install:$packages; make test-deploy cannot run" >&2
    exit 1
fi
