"""[P] Rows of the ``meta`` table: msgpack, and a checksum at the end, because names and counts have nothing else to hold them."""

from __future__ import annotations

import struct
import zlib
from typing import Any, TypeVar

import msgspec

from sidecar.journal.records import CorruptRecord

__all__ = ["pack", "unpack"]

T = TypeVar("T")

_CRC = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode


def pack(row: Any) -> bytes:
    """A row's value."""
    data = _encode(row)
    return data + _CRC.pack(zlib.crc32(data))


def unpack(value: bytes | memoryview | None, kind: type[T]) -> T:
    """Read a row's value.

    Raises:
        CorruptRecord: It is missing, its checksum disagrees, or it is no such row.
    """
    if value is None or len(value) < _CRC.size:
        raise CorruptRecord(f"{kind.__name__}: missing")
    data = value[: -_CRC.size]
    if zlib.crc32(data) != _CRC.unpack(value[-_CRC.size :])[0]:
        raise CorruptRecord(f"{kind.__name__}: checksum")
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError) as e:
        raise CorruptRecord(f"{kind.__name__}: {e}") from e
