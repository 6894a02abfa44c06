"""Writes the lock files: what a user installs, to the byte, for every platform that has a wheel.

``make lock`` resolves with the oldest Python that we run on, whose set covers that of the later ones, inside
``requirements/constraints.txt``. No file names a place to get anything from.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
OLDEST = (3, 11)
LOCKS = {"requirements/lock.txt": "", "requirements/lock-crypto.txt": "crypto"}
"""Path -> the extra that goes in beside the dependencies."""

_HEAD = """\
# Exact versions and hashes of what webhook-sidecar needs to run{more}, written by `make lock`:
#   pip install --require-hashes --requirement {name}
"""
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([\w.+!]+)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def normal(name: str) -> str:
    """A project's name as everybody compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Name -> version of a lock file, or of the constraints."""
    return {normal(name): version for name, version in _PIN.findall(text)}


def problems(text: str, asked: list[str], constraints: str) -> list[str]:
    """What is wrong with a lock file.

    Args:
        text: Its content.
        asked: Requirements that it must cover, as ``pyproject.toml`` has them.
        constraints: The content of the constraints.
    """
    locked, wanted = pins(text), pins(constraints)
    found = [f"{name}: is not locked" for name in sorted({_name(r) for r in asked} - locked.keys())]
    for name, version in locked.items():
        if name not in wanted:
            found.append(f"{name}: is not among the constraints")
        elif wanted[name] != version:
            found.append(f"{name}: {version} is locked, the constraints have {wanted[name]}")
    for entry in re.split(r"\n(?=\S)", text):
        pin = _PIN.match(entry)
        if pin and not _HASH.search(entry):
            found.append(f"{normal(pin[1])}: has no hash")
        elif not pin and entry.strip() and not entry.startswith("#"):
            found.append(f"a line that pins nothing: {entry[:60]}")
    if "://" in text:
        found.append("names a place to get something from")
    return found


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None
    return normal(found[0])


def asked(extra: str) -> list[str]:
    """The requirements of the project, with those of an extra where one is named."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    more = project["optional-dependencies"][extra] if extra else []
    return [*project["dependencies"], *more]


def write(name: str, extra: str) -> None:
    """Resolve and write one lock file.

    Raises:
        subprocess.CalledProcessError: pip-compile found no set of versions, or no way to ask for them.
    """
    path = ROOT / name
    command = [
        sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate",
        "--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links", "--no-emit-options", "--strip-extras",
        "--allow-unsafe", "--constraint", str(CONSTRAINTS), "--output-file", "-", *(["--extra", extra] if extra else []),
        str(ROOT / "pyproject.toml"),
    ]  # fmt: skip
    env = {k: v for k, v in os.environ.items() if k != "PIP_FIND_LINKS"}  # a wheel built here is nobody else's
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    more = f" with the extra `{extra}`" if extra else ""
    path.write_text(_HEAD.format(name=name, more=more) + done.stdout.strip() + "\n", encoding="utf-8")


def main() -> int:
    """Write all of them; returns the exit code."""
    if sys.version_info[:2] != OLDEST:
        print(f"needs Python {OLDEST[0]}.{OLDEST[1]}: what a later one leaves out, that one may need", file=sys.stderr)
        return 2
    wrong = []
    for name, extra in LOCKS.items():
        try:
            write(name, extra)
        except subprocess.CalledProcessError as e:
            print(e.stderr, file=sys.stderr)
            return 1
        text = (ROOT / name).read_text(encoding="utf-8")
        wrong += [f"{name}: {p}" for p in problems(text, asked(extra), CONSTRAINTS.read_text(encoding="utf-8"))]
    print("\n".join(wrong) or "the lock files are current", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
