"""Building the image from Debian packages alone, and running it as a container would: process 1, read-only, without rights."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.support.daemon import REPOSITORY

__all__ = ["Container", "Image", "build"]

_SUITE = "bookworm"
_WITHOUT = ("doc/*", "man/*", "locale/*", "info/*")


def _run(*command: str, timeout_s: float = 600) -> str:
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert outcome.returncode == 0, f"{' '.join(command)[:300]}\n{outcome.stdout[-2000:]}\n{outcome.stderr[-4000:]}"
    return outcome.stdout


class Image:
    """A built image in a store of its own.

    Attributes:
        config: As docker inspect shows it under ``Config``.
        root: Its files, unpacked.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._container = ""
        self.config: dict[str, Any] = {}
        self.root = Path()

    def buildah(self, *arguments: str) -> str:
        """Run buildah on our store."""
        return _run(
            "buildah", "--storage-driver", "vfs", "--root", str(self.folder / "store"),
            "--runroot", str(self.folder / "run"), *arguments,
        ).strip()  # fmt: skip

    def build(self) -> None:
        """Make a base from packages, and the image on it, by our Dockerfile."""
        base = self.folder / "base.tar"
        exclude = [f"--dpkgopt=path-exclude=/usr/share/{w}" for w in _WITHOUT]
        # usr-is-merged instead of usrmerge, which would bring all of Perl.
        _run(
            "mmdebstrap", "--quiet", "--variant=minbase", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            "--include=python3,ca-certificates,usr-is-merged", *exclude,
            "--dpkgopt=path-exclude=/usr/lib/*-linux-gnu/gconv/*", _SUITE, str(base),
        )  # fmt: skip
        scratch = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", scratch, str(base), "/")
        self.buildah("commit", "--quiet", "--rm", scratch, "localhost/base")
        base.unlink()
        builder = self.buildah("from", "--pull-never", "localhost/base")
        install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv"
        self.buildah("run", "--isolation", "chroot", builder, "--", "sh", "-c", install)
        self.buildah("commit", "--quiet", "--rm", builder, "localhost/build")
        arguments = {
            "BASE_IMAGE": "localhost/base",
            "BUILD_IMAGE": "localhost/build",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "/wheels",
            "PIP_INDEX_URL": "",
            "REVISION": "0123abc",
            "CREATED": "2026-01-01T00:00:00Z",
        }
        given = [word for k, v in arguments.items() for word in ("--build-arg", f"{k}={v}")]
        self.buildah(
            "bud", "--isolation", "chroot", "--format", "docker", "--pull-never", *given,
            "--volume", f"{self._wheels()}:/wheels:ro", "--tag", "localhost/webhook-sidecar", str(REPOSITORY),
        )  # fmt: skip
        self.config = json.loads(self.buildah("inspect", "--type", "image", "localhost/webhook-sidecar"))["Docker"][
            "config"
        ]
        self._container = self.buildah("from", "--pull-never", "localhost/webhook-sidecar")
        self.root = Path(self.buildah("mount", self._container))

    def _wheels(self) -> Path:
        """What the image needs, at the pinned versions, for the Python of the base."""
        wheels = self.folder / "wheels"
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
        wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
        _run(
            sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--python-version", "3.11",
            "--constraint", str(REPOSITORY / "requirements" / "constraints.txt"), "--dest", str(wheels), *wanted,
        )  # fmt: skip
        return wheels

    def compressed_bytes(self) -> int:
        """What a registry would hold and a node would pull: all layers, gzipped."""
        layout = self.folder / "layout"
        self.buildah("push", "--quiet", "localhost/webhook-sidecar", f"oci:{layout}")
        blobs = layout / "blobs" / "sha256"
        manifest = json.loads((layout / "index.json").read_text())["manifests"][0]["digest"].partition(":")[2]
        layers = json.loads((blobs / manifest).read_text())["layers"]
        size = sum(int(layer["size"]) for layer in layers)
        shutil.rmtree(layout)
        return size

    def run(self, *command: str) -> str:
        """Run a command in it the way buildah does."""
        return self.buildah("run", "--isolation", "chroot", self._container, "--", *command)


@contextlib.contextmanager
def build() -> Iterator[Image]:
    """Build it, and throw everything away afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="image-"))
    image = Image(folder)
    try:
        image.build()
        yield image
    finally:
        with contextlib.suppress(AssertionError):
            image.buildah("umount", "--all")
        shutil.rmtree(folder, ignore_errors=True)


_START = """
set -e
mount --bind "$ROOT" "$ROOT"
cd "$ROOT"
mount --bind -o ro "$CONFIG" etc/webhook-sidecar
mount --bind "$DATA" var/lib/webhook-sidecar
mount -t tmpfs -o size=16m,mode=1777 tmpfs tmp
mount -t proc -o nosuid,nodev,noexec proc proc
mount -o remount,bind,ro "$ROOT"
exec chroot . setpriv --reuid 65532 --regid 65532 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
  env -i -C "$WORKDIR" "$@"
"""


class Container:
    """The image as a process: its own process ids and mounts, the machine's network.

    Args:
        image: Built.
        config: Folder with config.toml.
        data: Folder that is the volume; it must belong to 65532.
    """

    def __init__(self, image: Image, config: Path, data: Path) -> None:
        self._image = image
        self._places = {"ROOT": str(image.root), "CONFIG": str(config), "DATA": str(data)}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the container
        self._outer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        config = self._image.config
        command = [*config["Env"], *config["Entrypoint"], *config["Cmd"]]
        self._outer = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
             "sh", "-c", _START, "sh", *command],
            env={**os.environ, **self._places, "WORKDIR": config["WorkingDir"]},
            stdout=self._log, stderr=self._log,
        )  # fmt: skip
        return self

    def __exit__(self, *exc: object) -> None:
        if self._outer is not None and self._outer.poll() is None:
            os.kill(self.pid, signal.SIGKILL)  # the daemon itself: unshare ends with it, and then the volume is free
            self._outer.wait(30)
        self._log.close()

    @property
    def pid(self) -> int:
        """The daemon, as the machine numbers it; inside it is 1."""
        assert self._outer is not None
        deadline = time.monotonic() + 30
        while True:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            if children:
                return int(children[0])
            assert time.monotonic() < deadline, self.log()
            assert self._outer.poll() is None, self.log()
            time.sleep(0.02)

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as kubectl exec would."""
        setpriv = ["setpriv", "--reuid", "65532", "--regid", "65532", "--clear-groups", "--no-new-privs"]
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--root", "--wd"]
        return subprocess.run(
            [*enter, *setpriv, "env", "-i", *self._image.config["Env"], *command],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def stop(self, timeout_s: float = 60) -> int:
        """SIGTERM to process 1; its exit code."""
        assert self._outer is not None
        os.kill(self.pid, signal.SIGTERM)
        return self._outer.wait(timeout_s)

    def log(self) -> str:
        """What it has written."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")
