"""[P] Making the request that a provider would send: for ``send``, tests and a first try without any provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecar.inbound.verify.presets import Preset
from sidecar.inbound.verify.request import Headers, Request, Secret, Verifier

__all__ = ["sample_body", "sign_request", "signed_body"]


def sample_body(preset: Preset, unique_id: str, now_ms: int = 0) -> bytes:
    """The preset's sample with an id of its own, and the time where it has one."""
    return preset.sample.replace(b"{id}", unique_id.encode()).replace(b"{now_ms}", b"%d" % now_ms)


def signed_body(verifier: Verifier, body: bytes, secret: Secret, now_ms: int) -> bytes:
    """The body with a signature in it, for the providers that put it there; all others send the body as it is."""
    sign: Callable[[bytes, Secret, int], bytes] | None = getattr(verifier, "sign_body", None)
    return body if sign is None else sign(body, secret, now_ms)


def sign_request(
    verifier: Verifier,
    secret: Secret,
    body: bytes,
    now_ms: int,
    *,
    preset: Preset | None = None,
    unique_id: str = "",
    extra: Sequence[tuple[str, str]] = (),
    method: str = "POST",
    path: bytes = b"/",
    query: bytes = b"",
    url: bytes | None = None,
) -> Headers:
    """Make all headers of a request but those of the connection (Host, Content-Length).

    Args:
        verifier: The source's.
        secret: Signs.
        body: Exactly as it will be sent.
        now_ms: Wall clock for the timestamp.
        preset: Brings content type and the headers that its provider always sends.
        unique_id: Stands where the preset says ``{id}``; the same one again is a retry of the same event.
        extra: Further headers; they replace the preset's of the same name and are signed where the scheme says so.
        method: Method that will be used.
        path: Raw path, without the query.
        query: Raw query, without "?".
        url: Public URL, for schemes that sign it.

    Returns:
        Headers in order; without a signature where the scheme has none or a header that it signs is missing.
    """
    found: dict[bytes, tuple[bytes, bytes]] = {}

    def put(name: bytes, value: bytes) -> None:
        found[name.lower()] = (name, value)

    put(b"Content-Type", (preset.content_type if preset else "application/json").encode())
    for name, value in preset.sign_extra if preset else ():
        put(name.encode(), value.replace("{id}", unique_id).encode())
    for name, value in extra:
        put(name.encode(), value.encode())
    headers = {name: value for name, (_, value) in found.items()}
    request = Request(method=method.encode(), path=path, query=query, headers=headers, body=body, url=url)
    for signed_name, signed_value in verifier.sign(request, secret, now_ms):
        put(signed_name, signed_value)
    return list(found.values())
