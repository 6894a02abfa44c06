"""Damage to one row of a closed journal, or to one dead letter, and what that touches: events, deliveries, remembered keys."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb

from sidecar.journal.dedup_entries import BLOCKS, ENTRY_BYTES, open_frame, unpack_entry
from sidecar.journal.environment import TABLES
from sidecar.journal.records import (
    BLOCK_EVENTS,
    CorruptRecord,
    event_slot,
    event_slots,
    split_key,
)

__all__ = ["Harm", "spoil_letter", "spoil_open", "spoil_row"]

HEAD_BYTES = 40  # of a row: where its frame is, whose bits mean more than others
LIKELY = {b"events": 6, b"deliveries": 4, b"history": 4, b"due": 3, b"bodies": 2, b"dedup": 3, b"meta": 1}


@dataclass
class Harm:
    """What was damaged, and what of the journal may therefore behave in another way.

    Attributes:
        how: For the one who reads what was found.
        table: The row's table; b"" for a dead letter.
        key: The row's key.
        events: Numbers of events whose own record, or body, no longer is what it was.
        deliveries: (destination's number, event's number) whose row, due row or history is damaged.
        keys: Numbers of events whose key may be forgotten; None = any.
        letters: (destination, event id) of damaged files.
    """

    how: str
    table: bytes
    key: bytes = b""
    events: set[int] = field(default_factory=set)
    deliveries: set[tuple[int, int]] = field(default_factory=set)
    keys: set[int] | None = field(default_factory=set)
    letters: set[tuple[str, str]] = field(default_factory=set)

    @property
    def seqs(self) -> set[int]:
        """Numbers of all events that have to do with it."""
        return self.events | {seq for _, seq in self.deliveries}


def spoil_row(path: Path, rand: random.Random, *, keys: Collection[bytes] = (), sound: Collection[bytes] = ()) -> Harm:
    """Damage the value of one row; LMDB's own pages stay sound.

    Args:
        path: The journal's folder; nobody has it open.
        rand: All randomness comes from it.
        keys: Rows of ``events`` to choose from; any row of any table by default.
        sound: Keys of rows that are left alone.
    """
    with lmdb.open(str(path), max_dbs=len(TABLES), map_size=1 << 30, lock=False) as env:
        return spoil_open(env, {name: env.open_db(name, create=False) for name in TABLES}, rand, keys=keys, sound=sound)


def spoil_open(
    env: Any,
    db: dict[bytes, Any],
    rand: random.Random,
    *,
    keys: Collection[bytes] = (),
    sound: Collection[bytes] = (),
    meta: bool = True,
) -> Harm:
    """The same in a journal that is open; ``meta``: also its names, identity and books, which are read at a start."""
    likely = {table: n for table, n in LIKELY.items() if meta or table != b"meta"}
    with env.begin(write=True) as txn:
        rows: list[tuple[bytes, bytes]] = []
        while not rows:
            table = b"events" if keys else rand.choices(list(likely), list(likely.values()))[0]
            rows = [(bytes(k), bytes(v)) for k, v in txn.cursor(db[table])]
            rows = [row for row in rows if row[0] in (keys or {row[0]} - set(sound))]
        key, before = rand.choice(rows)
        after, how = _changed(before, rand)
        txn.put(key, after, db=db[table])
        firsts = [split_key(bytes(k)) for k in txn.cursor(db[b"events"]).iternext(values=False)]
    harm = Harm(f"{table.decode()} {key.hex()}: {how}", table, key)
    _TOUCHED[table](harm, before, after, firsts)
    return harm


def spoil_letter(folder: Path, rand: random.Random) -> Harm | None:
    """Damage one dead letter's file; None when there is none."""
    files = sorted(folder.glob("*/*.json"))
    if not files:
        return None
    file = rand.choice(files)
    after, how = _changed(file.read_bytes(), rand)
    file.write_bytes(after)
    letter = (file.parent.name, file.stem)
    return Harm(f"the letter {letter}: {how}", b"", letters={letter})


def _changed(before: bytes, rand: random.Random) -> tuple[bytes, str]:
    """One bit flipped, mostly; or some, or a stretch of zeros or of something else."""
    data = bytearray(before)
    kind = rand.random()
    if kind < 0.8:
        span = HEAD_BYTES if rand.random() < 0.5 else len(data)
        bits = [rand.randrange(min(span, len(data)) * 8) for _ in range(1 if kind < 0.7 else 5)]
        for bit in bits:
            data[bit // 8] ^= 1 << bit % 8
        return bytes(data), f"bits {bits} flipped"
    size = min(len(data), rand.choice((1, 4, 16, 512)))
    at = rand.randrange(len(data) - size + 1)
    other = rand.choice((bytes(size), b"\xff" * size, rand.randbytes(size)))
    if data[at : at + size] == other:
        other = bytes(b ^ 0x55 for b in other)
    data[at : at + size] = other
    return bytes(data), f"{size} bytes at {at} are {other[:4].hex()}..."


# --- what each table's row is about


def _events(harm: Harm, before: bytes, after: bytes, _: list[int]) -> None:
    first = split_key(harm.key)
    for slot, _parts in event_slots(before):
        try:
            same = event_slot(after, first, slot) == event_slot(before, first, slot)
        except CorruptRecord:
            same = False
        if not same:
            harm.events.add(first + slot)


def _bodies(harm: Harm, *_: object) -> None:
    harm.events.add(split_key(harm.key[:8]))


def _deliveries(harm: Harm, before: bytes, after: bytes, firsts: list[int]) -> None:
    _block(harm, int.from_bytes(harm.key[:2]), split_key(harm.key[2:]), firsts)


def _history(harm: Harm, before: bytes, after: bytes, firsts: list[int]) -> None:
    _block(harm, int.from_bytes(harm.key[8:]), split_key(harm.key[:8]), firsts)


def _block(harm: Harm, destination: int, first: int, firsts: list[int]) -> None:
    """A row of this destination says nothing any more about any event of the block."""
    end = min([first + BLOCK_EVENTS, *[other for other in firsts if other > first]])
    harm.deliveries |= {(destination, seq) for seq in range(first, end)}


def _due(harm: Harm, *_: object) -> None:
    """It says where the event is, which is found without it."""


def _dedup(harm: Harm, before: bytes, after: bytes, _: list[int]) -> None:
    harm.keys = None
    frame = open_frame(before)
    if harm.key.startswith(BLOCKS) and frame is not None:
        block = frame[1]
        harm.keys = {unpack_entry(block[at : at + ENTRY_BYTES]).seq for at in range(0, len(block), ENTRY_BYTES)}


def _meta(harm: Harm, *_: object) -> None:
    harm.how += f" ({harm.key.decode()})"


_TOUCHED = {
    b"events": _events,
    b"bodies": _bodies,
    b"deliveries": _deliveries,
    b"due": _due,
    b"history": _history,
    b"dedup": _dedup,
    b"meta": _meta,
}
