#!/bin/sh
# Make a virtual environment with the first Python of 3.11 or newer that really runs; keep one that is good.
# Usage: make_venv.sh DIRECTORY
set -eu
venv=$1
fits='import sys; sys.exit(sys.version_info < (3, 11))'

if "$venv/bin/python" -c "$fits" 2>/dev/null && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

# A name on the path proves nothing: version managers leave names behind that run no Python.
for python in python3 python3.13 python3.12 python3.11; do
    if "$python" -c "$fits" 2>/dev/null; then
        echo "Making $venv with $("$python" --version)" >&2
        rm -rf "$venv"
        if "$python" -m venv "$venv"; then
            exit 0
        fi
        rm -rf "$venv"
        echo "$python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    fi
done

found=$(python3 --version 2>/dev/null || echo "no python3 at all")
echo "webhook-sidecar needs Python 3.11 or newer; found $found." >&2
echo "Looked for python3, python3.13, python3.12 and python3.11. Install one of them and run make again." >&2
exit 1
