#!/bin/sh
# Install what some tests use beyond Python: faketime to move the clock of real processes, strace to count their system calls
# and to make them fail, slowhttptest to be a slow client, nginx to compare the benchmark with and, like HAProxy, to stand in
# front of us, Prometheus to try the rules and the dashboard on, and the packages of the Express app. Every one is optional: a
# test that misses its tool is skipped and says what to install.
set -eu
cd "$(dirname "$0")/.."

missing() {
    ! command -v "$1" >/dev/null 2>&1
}

packages=""
if missing faketime; then packages="$packages faketime"; fi
if missing strace; then packages="$packages strace"; fi
if missing nginx && [ ! -x /usr/sbin/nginx ]; then packages="$packages nginx-light"; fi
if missing node; then packages="$packages nodejs"; fi
if missing npm; then packages="$packages npm"; fi
if missing prometheus || missing promtool; then packages="$packages prometheus"; fi
if missing haproxy && [ ! -x /usr/sbin/haproxy ]; then packages="$packages haproxy"; fi

if [ -n "$packages" ]; then
    if [ "$(id -u)" = 0 ] && ! missing apt-get; then
        log=$(mktemp)
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086 # one word per package is meant
        if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $packages; } >"$log" 2>&1; then
            tail -n 5 "$log" >&2
            echo "could not install:$packages; the tests that use them will be skipped" >&2
        elif [ -d /run/systemd/system ]; then
            case $packages in  # Debian starts what it installs; the tests want the program, nobody the service
            *prometheus*) systemctl disable --quiet --now prometheus ;;
            esac
        fi
    else
        echo "not installed:$packages; the tests that use them will be skipped" >&2
    fi
fi

express=tests/e2e/apps/express
if missing npm; then
    echo "npm is missing; the tests with the Express app will be skipped" >&2
elif [ ! -f "$express/node_modules/.package-lock.json" ] ||
    [ "$express/package-lock.json" -nt "$express/node_modules/.package-lock.json" ]; then
    if ! (cd "$express" && npm ci --silent --no-audit --no-fund --ignore-scripts); then
        echo "npm ci failed in $express; the tests with the Express app will be skipped" >&2
    fi
fi
