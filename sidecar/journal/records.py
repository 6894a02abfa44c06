"""[P] What the journal's rows look like: keys, blocks, records, checksums, and the format number.

The unit of storage is the batch: what one commit brought in, as one block per table. A block is a small
binary frame (so that a slot is found without decoding the others) around msgpack records (so that fields
can be added). Every frame carries a checksum, because LMDB has none: a flipped bit is noticed here.

To change a record: only ever add fields at its end and read them with a default; then an older version
keeps what it does not know. Anything else needs a new ``FORMAT``: raise it, teach ``environment`` to
convert or refuse the old one, and add a golden journal of the old format to the tests.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence

import msgpack
import msgspec

from sidecar.model import Attempt, Event, State

__all__ = [
    "BLOCK_EVENTS",
    "BLOCK_BYTES",
    "FORMAT",
    "NEVER",
    "PART_BYTES",
    "CorruptRecord",
    "block_bytes",
    "block_head",
    "DeliveryRow",
    "Record",
    "Stored",
    "body_parts",
    "bodies_key",
    "decode_event",
    "deliveries_key",
    "due_key",
    "encode_event",
    "event_slot",
    "event_slots",
    "events_block",
    "events_key",
    "history_entries",
    "history_entry",
    "history_key",
    "join_part",
    "split_due_key",
    "split_key",
]

FORMAT = 1

BLOCK_EVENTS = 64
BLOCK_BYTES = 65_000  # with its frame a block stays under 16 pages
PART_BYTES = 65_516  # and a checksum: 65,520 bytes, 16 pages exactly
INLINE_BODY_BYTES = 32 << 10  # a larger body goes into parts
LOG_ATTEMPTS = 32
NEVER = (1 << 64) - 1  # due time of a dying delivery: it is never attempted again

_HEAD = struct.Struct("<BBHQ")  # version, slots, reserved, journal clock at acceptance
_SLOT = struct.Struct("<II")  # length (top bit: body in parts), checksum
_ENTRY = struct.Struct("<IH")  # checksum, length
_CRC = struct.Struct("<I")
_PARTS = 0x80000000

_Q = struct.Struct(">Q")
_HQ = struct.Struct(">HQ")
_QH = struct.Struct(">QH")
_HQQ = struct.Struct(">HQQ")

events_key = _Q.pack  # first seq of the block
bodies_key = _QH.pack  # seq, part
deliveries_key = _HQ.pack  # destination, first seq of the block
due_key = _HQQ.pack  # destination, due at (journal clock), seq; the value is the block's first seq
history_key = _QH.pack  # first seq of the block, destination


class CorruptRecord(Exception):
    """A row that does not agree with its checksum or its form. Never forwarded, never guessed at."""


def split_key(key: bytes) -> int:
    """The number in a key of ``events`` or the value of a ``due`` row.

    Raises:
        CorruptRecord: It is no such key.
    """
    try:
        return int(_Q.unpack(key)[0])
    except struct.error as e:
        raise CorruptRecord(f"key of {len(key)} bytes") from e


def split_due_key(key: bytes) -> tuple[int, int, int]:
    """A key of ``due`` as (destination, due at, seq)."""
    return _HQQ.unpack(key)


# --- events --------------------------------------------------------------------------------------


class Stored(msgspec.Struct):
    """One event as it lies in a block: names are still numbers, a large body is still elsewhere.

    Attributes:
        body: None when it is stored in parts.
        body_bytes: Its size either way.
        extra: Trailing fields that this version does not know; kept when a record is written again.
    """

    source: int
    destinations: list[int]
    verified: bool
    received_at_ms: int
    accepted_at_ms: int
    method: bytes
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    forwarded_for: bytes
    forwarded_proto: bytes
    forwarded_host: bytes
    key: str
    body: bytes | None
    body_bytes: int
    replay_of: str
    extra: list[object]


_encode = msgspec.msgpack.Encoder().encode
_FIELDS = 16


def encode_event(event: Event, source: int, destinations: Sequence[int]) -> bytes:
    """Encode one event for its slot, once, before any transaction begins.

    A body over ``INLINE_BODY_BYTES`` is left out: it goes into ``body_parts``.
    """
    headers: list[bytes] = []
    for pair in event.headers:
        headers += pair
    body = event.body
    return _encode(
        (
            source,
            destinations,
            event.verified,
            event.received_at_ms,
            event.accepted_at_ms,
            event.method,
            event.path,
            event.query,
            headers,
            event.forwarded_for,
            event.forwarded_proto,
            event.forwarded_host,
            event.key,
            body if len(body) <= INLINE_BODY_BYTES else None,
            len(body),
            event.replay_of,
        )
    )


def decode_event(payload: bytes | memoryview) -> Stored:
    """Take a slot's payload apart.

    Raises:
        CorruptRecord: It is not what ``encode_event`` makes.
    """
    try:
        row = msgpack.unpackb(payload, raw=False, strict_map_key=False)
        flat = row[8]
        return Stored(
            row[0],
            row[1],
            row[2],
            row[3],
            row[4],
            row[5],
            row[6],
            row[7],
            list(zip(flat[::2], flat[1::2], strict=True)),
            row[9],
            row[10],
            row[11],
            row[12],
            row[13],
            row[14],
            row[15],
            row[_FIELDS:],
        )
    except (ValueError, TypeError, LookupError, msgpack.UnpackException) as e:
        raise CorruptRecord(f"event record: {type(e).__name__}") from e


def events_block(first: int, payloads: Mapping[int, tuple[bytes, bool]], accepted_at_ms: int) -> bytes:
    """Pack the events of one batch.

    Args:
        first: Seq of slot 0; part of every checksum, so that a block cannot stand in for another.
        payloads: Slot to (payload, body in parts); slots are 0 to 63, a missing one is a gap.
        accepted_at_ms: Journal clock of the newest of them.
    """
    slots = max(payloads) + 1
    table, data = [], []
    for slot in range(slots):
        entry = payloads.get(slot)
        if entry is None:
            table.append(b"\0\0\0\0\0\0\0\0")
        else:
            payload, parts = entry
            table.append(_SLOT.pack(len(payload) | (_PARTS if parts else 0), _checksum(first + slot, payload)))
            data.append(payload)
    return b"".join((_HEAD.pack(1, slots, 0, accepted_at_ms), *table, *data))


def _checksum(seq: int, payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, (seq ^ (seq >> 32)) & 0xFFFFFFFF)


def block_head(block: bytes | memoryview) -> tuple[int, int]:
    """How many slots a block (of events) has, and its time on the journal clock.

    Raises:
        CorruptRecord: It is too short, or of a version this code does not know.
    """
    if len(block) < _HEAD.size:
        raise CorruptRecord("event block: too short")
    version, slots, _, accepted_at_ms = _HEAD.unpack_from(block)
    if version != 1 or not 0 < slots <= BLOCK_EVENTS or len(block) < _HEAD.size + slots * _SLOT.size:
        raise CorruptRecord("event block: bad frame")
    return slots, accepted_at_ms


def event_slots(block: bytes | memoryview) -> Iterator[tuple[int, bool]]:
    """Every occupied slot of a block, with whether its body is in parts."""
    slots, _ = block_head(block)
    for slot in range(slots):
        length, _crc = _SLOT.unpack_from(block, _HEAD.size + slot * _SLOT.size)
        if length:
            yield slot, bool(length & _PARTS)


def block_bytes(block: bytes | memoryview) -> int:
    """How long a block is by its own frame.

    Raises:
        CorruptRecord: As ``block_head``.
    """
    slots, _ = block_head(block)
    table: list[int] = [_SLOT.unpack_from(block, _HEAD.size + slot * _SLOT.size)[0] for slot in range(slots)]
    return _HEAD.size + slots * _SLOT.size + sum(length & ~_PARTS for length in table)


def event_slot(block: bytes | memoryview, first: int, slot: int) -> bytes | memoryview | None:
    """The payload of one slot, checked.

    Returns:
        None when the slot is a gap.

    Raises:
        CorruptRecord: The checksum or the frame disagrees.
    """
    slots, _ = block_head(block)
    if slot < 0 or slot >= slots:
        return None
    offset = _HEAD.size + slots * _SLOT.size
    for i in range(slot):
        offset += _SLOT.unpack_from(block, _HEAD.size + i * _SLOT.size)[0] & ~_PARTS
    length, crc = _SLOT.unpack_from(block, _HEAD.size + slot * _SLOT.size)
    length &= ~_PARTS
    if not length:
        return None
    payload = block[offset : offset + length]
    if len(payload) != length or _checksum(first + slot, payload) != crc:
        raise CorruptRecord("event record: checksum")
    return payload


def body_parts(seq: int, body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Cut a large body into rows of ``bodies``: (key, value)."""
    view = memoryview(body)
    for part, start in enumerate(range(0, len(body), PART_BYTES)):
        piece = view[start : start + PART_BYTES]
        yield bodies_key(seq, part), _CRC.pack(_checksum(seq + part, piece)) + piece


def join_part(seq: int, part: int, value: bytes | memoryview) -> bytes | memoryview:
    """Check one row of ``bodies`` and give its piece of the body.

    Raises:
        CorruptRecord: The checksum disagrees.
    """
    if len(value) < _CRC.size:
        raise CorruptRecord("body part: too short")
    piece = value[_CRC.size :]
    if _checksum(seq + part, piece) != _CRC.unpack_from(value)[0]:
        raise CorruptRecord("body part: checksum")
    return piece


# --- deliveries ----------------------------------------------------------------------------------


class Record(msgspec.Struct, array_like=True):
    """What a delivery remembers once it was touched; an untouched one has only its state byte."""

    round: int = 0
    attempts: int = 0
    started_at_ms: int = 0  # journal clock
    due_at_ms: int = 0  # journal clock; 0 = no row in `due`
    reason: str = ""
    log: list[Attempt] = []
    finished_at_ms: int = 0  # wall clock


_decode_records = msgspec.msgpack.Decoder(dict[int, Record]).decode
_decode_history = msgspec.msgpack.Decoder(tuple[int, int, Record]).decode


_STATES = tuple(State)  # by number; indexing is a quarter of what calling the class costs


class DeliveryRow:
    """One block's deliveries to one destination: a state byte per slot, a record per touched slot."""

    __slots__ = ("accepted_at_ms", "records", "states")

    def __init__(self, states: bytearray, accepted_at_ms: int, records: dict[int, Record] | None = None) -> None:
        self.states = states
        self.accepted_at_ms = accepted_at_ms
        self.records = records if records is not None else {}

    def encode(self, key: bytes) -> bytes:
        """Make the row's value; the checksum covers the key too."""
        body = _HEAD.pack(1, len(self.states), 0, self.accepted_at_ms) + self.states
        if self.records:
            body += _encode(self.records)
        return _CRC.pack(zlib.crc32(body, zlib.crc32(key))) + body

    @classmethod
    def decode(cls, key: bytes | memoryview, value: bytes | memoryview) -> DeliveryRow:
        """Read a row's value.

        Raises:
            CorruptRecord: The checksum or the frame disagrees.
        """
        if len(value) < _CRC.size + _HEAD.size:
            raise CorruptRecord("delivery row: too short")
        body = value[_CRC.size :]
        if zlib.crc32(body, zlib.crc32(key)) != _CRC.unpack_from(value)[0]:
            raise CorruptRecord("delivery row: checksum")
        version, slots, _, accepted_at_ms = _HEAD.unpack_from(body)
        if version != 1:
            raise CorruptRecord("delivery row: version")
        end = _HEAD.size + slots
        states = bytearray(body[_HEAD.size : end])
        if max(states, default=0) >= len(_STATES):
            raise CorruptRecord("delivery row: unknown state")
        rest = body[end:]
        try:
            records = _decode_records(rest) if len(rest) else {}
        except (msgspec.MsgspecError, ValueError, RecursionError) as e:
            raise CorruptRecord("delivery row: records") from e
        return cls(states, accepted_at_ms, records)

    @property
    def has_open(self) -> bool:
        """Whether any slot is still owed."""
        return State.PENDING in self.states or State.DYING in self.states

    def record(self, slot: int) -> Record:
        """The record of a slot, made from the row where the slot was never touched."""
        return self.records.get(slot) or Record(started_at_ms=self.accepted_at_ms)

    def state(self, slot: int) -> State:
        """The state of a slot; ABSENT beyond the row."""
        states = self.states
        return _STATES[states[slot]] if slot < len(states) else State.ABSENT

    def set_state(self, slot: int, state: State) -> None:
        """Change a slot, making room for it."""
        if slot >= len(self.states):
            self.states.extend(bytes(slot + 1 - len(self.states)))
        self.states[slot] = state


# --- history -------------------------------------------------------------------------------------


def history_entry(slot: int, state: State, record: Record) -> bytes:
    """Encode how one slot ended; a row of ``history`` is such entries one after another, the last one counts."""
    body = _encode((slot, int(state), record))
    return _ENTRY.pack(zlib.crc32(body), len(body)) + body


def history_entries(value: bytes | memoryview) -> dict[int, tuple[State, Record]]:
    """Read a row of ``history``: slot to how it ended.

    Raises:
        CorruptRecord: A checksum or the frame disagrees.
    """
    found: dict[int, tuple[State, Record]] = {}
    at = 0
    while at < len(value):
        if at + _ENTRY.size > len(value):
            raise CorruptRecord("history: too short")
        crc, length = _ENTRY.unpack_from(value, at)
        at += _ENTRY.size
        body = value[at : at + length]
        if len(body) != length or zlib.crc32(body) != crc:
            raise CorruptRecord("history: checksum")
        at += length
        try:
            slot, state, record = _decode_history(body)
            found[slot] = (State(state), record)
        except (msgspec.MsgspecError, ValueError, RecursionError) as e:
            raise CorruptRecord("history: entry") from e
    return found
