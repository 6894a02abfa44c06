"""Rows of the journal and dead letters: damaged ones, and ones that are wrong behind a checksum that is right."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sidecar.journal import dedup_entries, records
from sidecar.outbound import letter as letters
from tests.proof import oracles
from tests.proof.guided.target import Target
from tests.support.journals import make_event

__all__ = ["letter", "row", "stored"]

DIGEST = b"d" * 16


def stored(_folder: Path) -> Target:
    """An event's record behind a checksum that is right."""
    event = make_event(b"{}", key="k1")
    payload = records.encode_event(event, 0, (0, 1))
    return Target([payload], oracles.stored, (b"\xdc\x00\x10", b"\x80", b"\xc4\x02"))


def row(_folder: Path) -> Target:
    """The other rows; the first byte says what kind of row it is."""
    samples = oracles.Samples()
    entry = dedup_entries.pack_entry(DIGEST, dedup_entries.DedupEntry(5, 9, 1, b"body", 99, 2))
    kinds: list[tuple[Callable[[bytes], str], bytes]] = [
        (lambda data: oracles.slot(data[1:], data[0] % 4 if data else 0), b"\2" + samples.block),
        (oracles.delivery_row, samples.row),
        (oracles.ended, samples.history),
        (lambda data: _row_behind_checksum(samples.row_key, data), samples.row[4:]),
        (_history_behind_checksum, records.history_entry(2, records.State.DELIVERED, records.Record())[6:]),
        (_bucket, dedup_entries.seal_frame(7, entry) * 2),
        (_segment_behind_checksum, b"\0" * 64),
    ]

    def judge(data: bytes) -> str:
        return kinds[int.from_bytes(data[:1]) % len(kinds)][0](data[1:])

    return Target(
        [bytes([n]) + seed for n, (_, seed) in enumerate(kinds)], judge, (DIGEST, b"\xdc\x00\x10", b"\xdf", b"\xc4")
    )


def _row_behind_checksum(key: bytes, body: bytes) -> str:
    value = zlib.crc32(body, zlib.crc32(key)).to_bytes(4, "little") + body
    try:
        read = records.DeliveryRow.decode(key, value)
    except records.CorruptRecord:
        return ""
    again = records.DeliveryRow.decode(key, read.encode(key))
    same = (again.states, again.accepted_at_ms, again.records) == (read.states, read.accepted_at_ms, read.records)
    return "" if same else f"{body!r} is another row when it is written again"


def _history_behind_checksum(body: bytes) -> str:
    body = body[:65_535]
    value = zlib.crc32(body).to_bytes(4, "little") + len(body).to_bytes(2, "little") + body
    try:
        for slot, (state, record) in records.history_entries(value).items():
            records.history_entry(slot, state, record)
    except records.CorruptRecord:
        return ""
    return ""


def _bucket(value: bytes) -> str:
    packed, damaged = dedup_entries.newest_in_bucket(value, DIGEST)
    kept, left_out, _ = dedup_entries.sound_frames(value, 7)
    if dedup_entries.sound_frames(kept, 7)[1]:
        return "what is left of a damaged bucket is damaged"
    if packed is None:
        return ""
    if damaged != left_out:
        return f"{damaged} and {left_out} damaged frames in the same bucket"
    dedup_entries.unpack_entry(packed)
    return "" if dedup_entries.newest_in_bucket(kept, DIGEST)[0] == packed else "an entry out of a damaged frame"


def _segment_behind_checksum(content: bytes) -> str:
    framed = dedup_entries.seal_frame(0, content)
    segment = dedup_entries.unpack_segment(3, framed)
    if segment is not None and dedup_entries.unpack_segment(3, dedup_entries.pack_segment(segment)) != segment:
        return f"{content!r} is another segment when it is written again"
    run = dedup_entries.unpack_run(framed)
    if run is not None and dedup_entries.unpack_run(dedup_entries.pack_run(run)) != run:
        return f"{content!r} is another run when it is written again"
    return ""


def letter(_folder: Path) -> Target:
    """A dead letter that somebody has edited: read as a whole, and by its first lines."""
    data = oracles.Samples().letter

    def judge(data: bytes) -> str:
        head = letters.parse_head(data)
        with suppress(letters.Malformed):
            found = letters.parse(data, oracles.SEAL)
            letters.encode(found.delivery, 10, oracles.SEAL)
            letters.restore_event(found)
            if found.sealed and head is not None and head != found.head:
                return f"its first lines say {head}, the whole says {found.head}"
        return oracles.sealed(data)

    words = tuple(sorted({w for w in data.replace(b",", b" ").split() if w.startswith(b'"') and len(w) < 30}))
    return Target([data], judge, words)
