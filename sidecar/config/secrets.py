"""Reads secrets from where their references point, each with one trailing line end less.

Values go straight into options whose reprs hide them; a problem names the place, never the content.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from sidecar.config.files import Files
from sidecar.config.positions import Path
from sidecar.config.problems import Problems
from sidecar.config.schema import SecretRef

__all__ = ["read_secret"]


def read_secret(
    reference: SecretRef, path: Path, env: Mapping[str, str], files: Files, problems: Problems
) -> bytes | None:
    """Read one secret.

    Args:
        reference: Already checked: exactly one place.
        path: Where the reference stands, for problems.
        env: The environment.
        files: Reads and remembers.
        problems: Gets what is wrong.

    Returns:
        The secret without one trailing line end (a literal value as it is); None after a problem.
    """
    if reference.env is not None:
        where = (*path, "env")
        given = env.get(reference.env)
        if given is None:
            problems.add("C145", where, f"the environment variable {reference.env} is not set; expected a secret in it")
            return None
        secret = _without_line_end(os.fsencode(given))
    elif reference.value is not None:
        return reference.value.encode("utf-8", "surrogatepass")
    else:
        where = (*path, "file" if reference.file is not None else "credential")
        found = _read_file(reference, where, env, files, problems)
        if found is None:
            return None
        secret = _without_line_end(found)
    if not secret:
        problems.add("C145", where, "it is empty; expected a secret")
        return None
    return secret


def _read_file(
    reference: SecretRef, path: Path, env: Mapping[str, str], files: Files, problems: Problems
) -> bytes | None:
    if reference.credential is not None:
        folder = env.get("CREDENTIALS_DIRECTORY")
        if not folder:
            problems.add(
                "C146",
                path,
                "$CREDENTIALS_DIRECTORY is not set; expected systemd with LoadCredential= for this service",
            )
            return None
        name = os.path.join(folder, reference.credential)
    else:
        name = reference.file or ""
    try:
        content, mode = files.read(name)
    except OSError as error:
        problems.add("C146", path, f"{files.absolute(name)}: {(error.strerror or 'unreadable').lower()}")
        return None
    if mode & stat.S_IWOTH:
        problems.add("C147", path, f"{files.absolute(name)} is writable by everybody; expected mode 0440 or 0400")
        return None
    if mode & stat.S_IROTH and files.absolute(name) not in files.readable_by_all:
        files.readable_by_all.append(files.absolute(name))
    return content


def _without_line_end(secret: bytes) -> bytes:
    return secret.removesuffix(b"\n").removesuffix(b"\r") if secret.endswith(b"\n") else secret
