"""The line to paste for a first try: one signed webhook as a curl command, with no provider around.

A signature tells nothing about its secret, but a scheme whose header is the secret itself does: such a source is
passed over.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from sidecar.inbound.source import SourceOptions
from sidecar.inbound.verify import PRESETS, active_secrets, sample_body, sign_request, signed_body

__all__ = ["paste_line"]


def paste_line(listen: str, sources: Sequence[SourceOptions], unique_id: str, now_ms: int) -> str | None:
    """Make a webhook for the first source that can be tried.

    Args:
        listen: Where webhooks are taken in plain HTTP: ``host:port``, ``[::]:port`` or ``unix:/path``.
        sources: In the order of the configuration.
        unique_id: Stands for the provider's own id, so that the line pasted twice is one event.
        now_ms: Wall clock; a scheme with a tolerance takes the line only so long.

    Returns:
        One line of shell; None when there is no source with a preset that signs by a shared secret.
    """
    for source in sources:
        preset = PRESETS.get(source.preset)
        active = active_secrets(source.secrets, now_ms)
        verifier = source.verifier
        if preset is None or not verifier.can_sign or verifier.masked or not active or b"POST" not in source.methods:
            continue
        body = signed_body(verifier, sample_body(preset, unique_id, now_ms), active[0], now_ms)
        url = source.public_url + source.path if source.public_url is not None else None
        headers = sign_request(
            verifier, active[0], body, now_ms, preset=preset, unique_id=unique_id, path=source.path, url=url
        )
        words = ["curl", "-i", *_where(listen, source.path.decode("latin-1")), "--data-binary", body.decode()]
        for name, value in headers:
            words += ["-H", f"{name.decode('latin-1')}: {value.decode('latin-1')}"]
        return shlex.join(words)
    return None


def _where(listen: str, path: str) -> list[str]:
    if listen.startswith("unix:"):
        return ["--unix-socket", listen.removeprefix("unix:"), f"http://localhost{path}"]
    host, _, port = listen.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - seen, not bound
    return [f"http://{host}:{port}{path}"]
