"""[P] What is known about a provider, and the options that many of them share."""

from __future__ import annotations

from typing import Any

import msgspec

from sidecar.inbound.verify.options import EntryOptions, HmacOptions, SchemeOptions, TimestampOptions
from sidecar.model import AckTemplate

__all__ = ["DAY", "EMPTY", "NO_CONTENT", "Preset", "WEEK", "header_hmac", "standard_webhooks"]

DAY = 24 * 3600.0
WEEK = 7 * DAY
"""How long a dedup key is kept where the provider does not say how long it retries."""

EMPTY = AckTemplate(200, "", b"")
NO_CONTENT = AckTemplate(204, "", b"")


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """One provider.

    Attributes:
        name: As in ``verify = "name"``.
        title: For people.
        docs: The provider's page on signatures.
        scheme: How it signs.
        credential: What belongs into ``secrets``, in the provider's own words.
        required: Options that only the user knows: ``verify = { preset = "name", option = ... }``.
        needs_secret: Whether ``secrets`` must be there; not where keys come from the network or by handshake.
        dedup_key: ``header:NAME``, ``json:/pointer``, several of these with blanks between, ``body`` or ``none``: what
            stays the same on its retries.
        dedup_ttl_s: How long to remember that, in seconds; covers the provider's whole retry span.
        key_signed: Whether the signature covers the key, so that nobody can claim it for other bytes.
        event_type: Where the kind of event is said, in the form of ``dedup_key``; empty = nowhere.
        ack: How it wants to be answered; None = the default.
        deadline_s: How long it waits for the answer, in seconds; None = not published.
        max_body: Its largest body in bytes; None = not published.
        handshake: Name in ``HANDSHAKES``.
        methods: How it sends.
        content_type: Of its bodies.
        sign_extra: Headers besides the signature that a real request carries and an app may need. ``{id}`` stands
            for an id that is new for each event.
        sample: A small realistic body; ``{id}`` as above, ``{now_ms}`` for the moment.
        notes: What a user must know; one sentence each.
    """

    name: str
    title: str
    docs: str
    scheme: SchemeOptions
    credential: str = "webhook secret"
    required: tuple[str, ...] = ()
    needs_secret: bool = True
    dedup_key: str = "none"
    dedup_ttl_s: float = DAY
    key_signed: bool = False
    event_type: str = ""
    ack: AckTemplate | None = None
    deadline_s: float | None = None
    max_body: int | None = None
    handshake: str | None = None
    methods: tuple[str, ...] = ("POST",)
    content_type: str = "application/json"
    sign_extra: tuple[tuple[str, str], ...] = ()
    sample: bytes = b'{"id":"{id}"}'
    notes: tuple[str, ...] = ()


def header_hmac(header: str, key: str, stamp: str, *, separator: str = ",", **stamp_options: Any) -> HmacOptions:
    """A list header with a timestamp and hex signatures over ``timestamp.body``, as Stripe made it common."""
    return HmacOptions(
        header=header,
        entries=EntryOptions(key=key, separator=separator),
        signed="{timestamp}.{body}",
        timestamp=TimestampOptions(entry=stamp, **stamp_options),
    )


def standard_webhooks(prefix: str = "webhook") -> HmacOptions:
    """Standard Webhooks v1, with headers that begin with ``prefix`` or, as the libraries allow, with ``webhook``.

    Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
    """
    names = {part: f"{prefix}-{part}" + ("" if prefix == "webhook" else f"|webhook-{part}") for part in _PARTS}
    return HmacOptions(
        header=names["signature"],
        encoding="base64",
        entries=EntryOptions(key="v1", separator=" ", assign=","),
        signed=f"{{header:{names['id']}}}.{{timestamp}}.{{body}}",
        timestamp=TimestampOptions(header=names["timestamp"]),
        secret_encoding="base64",  # noqa: S106 - an encoding
        secret_prefix="whsec_",  # noqa: S106
    )


_PARTS = ("id", "timestamp", "signature")
