"""Every target of the guided search. To add one: a function that makes it, and a line here."""

from __future__ import annotations

from tests.proof.guided import rows, texts, wires
from tests.proof.guided.target import Make

__all__ = ["TARGETS"]

TARGETS: dict[str, Make] = {
    "request": wires.request,
    "answer": wires.answer,
    "signature": texts.signature,
    "pointer": texts.pointer,
    "configuration": texts.configuration,
    "filters": texts.filters,
    "stored": rows.stored,
    "row": rows.row,
    "letter": rows.letter,
}
