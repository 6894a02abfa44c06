"""Chunked bodies: where they end, what is payload, what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.chunked import CHUNKS_LIMIT, ChunkReader
from sidecar.inbound.witness import Witness
from sidecar.model import Refusal

R = Refusal


def read(*pieces: bytes, limit: int = 1 << 20) -> tuple[ChunkReader, bytes, int]:
    """Feed the pieces; returns the reader, the payload, and what the last piece had left over."""
    reader, parts, left = ChunkReader(limit), list[bytes](), 0
    for piece in pieces:
        if reader.done or reader.fault is not None:
            left += len(piece)
        else:
            left = len(piece) - reader.take(piece, 0, parts)
    return reader, b"".join(parts), left


@pytest.mark.parametrize(
    ("raw", "payload", "left"),
    [
        (b"0\r\n\r\n", b"", 0),
        (b"2\r\nab\r\n0\r\n\r\n", b"ab", 0),
        (b"2\r\nab\r\n1\r\nc\r\n00\r\n\r\nnext", b"abc", 4),
        (b'1;a="\\"\r;";b=c;d\r\nx\r\n0\r\n\r\n'.replace(b"\r;", b";"), b"x", 0),
        (b"A\r\n0123456789\r\n0\r\nT: x\r\nU:\r\n\r\n", b"0123456789", 0),
    ],
)
def test_whole_and_byte_by_byte(raw: bytes, payload: bytes, left: int) -> None:
    """The end and the payload do not depend on how the bytes were cut."""
    reader, got, rest = read(raw)
    assert (reader.done, reader.fault, got, rest) == (True, None, payload, left)
    reader, got, rest = read(*[raw[i : i + 1] for i in range(len(raw))])
    assert (reader.done, reader.fault, got, rest) == (True, None, payload, left)
    assert reader.size == len(payload)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"x\r\n", R.BAD_FRAMING),
        (b"0x2\r\n", R.BAD_FRAMING),
        (b"2 \r\n", R.BAD_FRAMING),
        (b"2\n", R.BAD_FRAMING),
        (b"2;\r\n", R.BAD_FRAMING),
        (b"2;a=\x00\r\n", R.BAD_FRAMING),
        (b'2;a="\r\n', R.BAD_FRAMING),
        (b"0" * 16 + b"\r\n", R.BAD_FRAMING),
        (b"2\r\nabc", R.BAD_FRAMING),
        (b"2\r\nab\n", R.BAD_FRAMING),
        (b"2\r\nab\rx", R.BAD_FRAMING),
        (b"0\r\nT\r\n", R.BAD_FRAMING),
        (b"0\r\n T: x\r\n", R.BAD_FRAMING),
        (b"0\r\nT: \x01\r\n", R.BAD_FRAMING),
        (b"0\r\n\n", R.BAD_FRAMING),
        (b"f\r\n", R.BODY_TOO_LARGE),
        (b"8\r\n12345678\r\n3\r\n", R.BODY_TOO_LARGE),
        (b"f" * 15 + b"\r\n", R.BODY_TOO_LARGE),
        (b"1;" + b"a" * 4096 + b"\r\n", R.HEADERS_TOO_LARGE),
        (b"1;" + b"a" * 5000, R.HEADERS_TOO_LARGE),
        (b"0\r\n" + b"T: x\r\n" * 683, R.HEADERS_TOO_LARGE),
    ],
)
def test_faults_whole_and_byte_by_byte(raw: bytes, fault: Refusal) -> None:
    """Each by its own name, as soon as the last byte shown is there."""
    for pieces in ([raw], [raw[i : i + 1] for i in range(len(raw))]):
        reader, _, _ = read(*pieces, limit=10)
        assert (reader.fault, reader.done) == (fault, False)


def test_extensions_and_trailers_have_4_kib_together() -> None:
    """One byte less passes."""
    raw = b"1;" + b"a" * 2000 + b"\r\nx\r\n0\r\nT: %b\r\n\r\n"
    assert read(raw % (b"y" * (4096 - 2001 - 5)))[0].done
    assert read(raw % (b"y" * (4096 - 2001 - 4)))[0].fault is R.HEADERS_TOO_LARGE


def test_the_number_of_chunks_is_bounded() -> None:
    """The last, empty chunk does not count."""
    assert CHUNKS_LIMIT == 10_000
    assert read(b"1\r\nx\r\n" * CHUNKS_LIMIT + b"0\r\n\r\n")[0].done
    assert read(b"1\r\nx\r\n" * (CHUNKS_LIMIT + 1))[0].fault is R.TOO_MANY_CHUNKS


def test_each_limit_may_be_reached() -> None:
    """Extensions of one line, and the payload, which sizes of several digits announce."""
    assert read(b"1;" + b"a" * 4095 + b"\r\nx\r\n0\r\n\r\n")[0].done
    assert read(b"1;" + b"a" * 4096 + b"\r\nx\r\n0\r\n\r\n")[0].fault is R.HEADERS_TOO_LARGE
    whole, payload, _ = read(b"1f\r\n" + b"x" * 31 + b"\r\n0\r\n\r\n", limit=31)
    assert (whole.done, len(payload)) == (True, 31)
    assert read(b"1f\r\n", limit=30)[0].fault is R.BODY_TOO_LARGE


@given(
    st.lists(
        st.sampled_from([b"0", b"1", b"2", b"a", b";", b"=", b'"', b" ", b"\r\n", b"\r", b"\n", b"x", b":", b"\xff"]),
        max_size=40,
    )
)
def test_never_more_generous_than_llhttp(pieces: list[bytes]) -> None:
    """Whatever this reader finds complete, llhttp finds complete at the same byte."""
    raw = b"".join(pieces) + b"\r\n0\r\n\r\n"
    reader, _, left = read(raw)
    if not reader.done:
        return
    witness = Witness()
    witness.head(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert witness.body(raw[: len(raw) - left - 1])
    assert not witness.ends()
    witness = Witness()
    witness.head(b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert witness.body(raw[: len(raw) - left])
    assert witness.ends()
