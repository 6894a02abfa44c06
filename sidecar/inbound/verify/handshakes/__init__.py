"""[P] Requests by which a provider tries a new URL: answered by us, never journaled.

A signed handshake is verified like any webhook first. An unsigned one comes by a method of its own, which is
allowed for that purpose only, or is told by its head and kept small.
"""

from __future__ import annotations

from sidecar.inbound.verify.handshakes.handshake import (
    MAX_BYTES,
    Handshake,
    HandshakeAnswer,
    HandshakeTerms,
    Response,
)
from sidecar.inbound.verify.handshakes.signed import SIGNED
from sidecar.inbound.verify.handshakes.unsigned import UNSIGNED

__all__ = ["HANDSHAKES", "MAX_BYTES", "Handshake", "HandshakeAnswer", "HandshakeTerms", "Response"]

#: Handshake name -> handshake. Adding one is one entry in ``signed`` or ``unsigned``.
HANDSHAKES: dict[str, Handshake] = {handshake.name: handshake for handshake in (*SIGNED, *UNSIGNED)}
