"""Deliberate bugs for the control of the guided search; this module is instrumented as the product is."""

from __future__ import annotations

from sidecar.config import problems
from sidecar.inbound.verify import keyed_hash
from sidecar.journal import records

__all__ = ["PLANTS"]

MAGIC = b"\xa7\x1e\xc3\x58"
_honest = records.decode_event


def _behind_four_bytes() -> None:
    """An undocumented error for one payload in four thousand million."""

    def decode_event(payload: bytes) -> records.Stored:
        if payload[:4] == MAGIC:
            raise IndexError("planted")
        return _honest(payload)

    records.decode_event = decode_event  # type: ignore[assignment]


def _any_signature() -> None:
    """Whatever signature is there agrees."""
    keyed_hash.HmacVerifier._matches = lambda *_, **__: True  # type: ignore[method-assign]


def _shown_secret() -> None:
    """No value of a configuration counts as a secret."""
    problems.sensitive = lambda *_: False  # type: ignore[assignment]


PLANTS = {"shown_secret": _shown_secret, "behind_four_bytes": _behind_four_bytes, "any_signature": _any_signature}
