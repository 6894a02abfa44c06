"""Reads a recorded request: the raw bytes of one, or an entry of a HAR file as browsers and proxies save it."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import msgspec

from sidecar.errors import UsageError

__all__ = ["Recorded", "read_recorded"]


class Recorded(msgspec.Struct, frozen=True):
    """One request.

    Attributes:
        method: As sent.
        path: Raw, without the query.
        query: Raw, without "?".
        headers: Lower-case name to the first value.
        body: As sent.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes


def read_recorded(data: bytes) -> Recorded:
    """Take a recording apart.

    Raises:
        UsageError: It is neither of the two.
    """
    return _from_har(data) if data.lstrip()[:1] == b"{" else _from_raw(data)


def _from_raw(data: bytes) -> Recorded:
    ends = [(at, len(mark)) for mark in (b"\r\n\r\n", b"\n\n") if (at := data.find(mark)) >= 0]
    end, width = min(ends, default=(len(data), 0))
    first, *lines = data[:end].replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    words = first.split(b" ")
    if len(words) < 2:
        raise UsageError("the file is no HTTP request: its first line is not METHOD TARGET HTTP/1.1")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise UsageError("the file is no HTTP request: a line of its head has no colon")
        headers.setdefault(name.strip().lower(), value.strip())
    body = data[end + width :]
    length = headers.get(b"content-length", b"")
    if length.isdigit():
        body = body[: int(length)]  # an editor may have added a line end
    path, _, query = _target(words[1])
    return Recorded(words[0], path, query, headers, body)


def _target(text: bytes) -> tuple[bytes, bytes, bytes]:
    _, absolute, rest = text.partition(b"://")
    if absolute:
        text = rest[rest.find(b"/") :] if b"/" in rest else b"/"
    return text.partition(b"#")[0].partition(b"?")


def _from_har(data: bytes) -> Recorded:
    try:
        entry: Any = json.loads(data)
        if "log" in entry:
            entry = entry["log"]["entries"][0]
        asked = entry.get("request", entry)
        headers: dict[bytes, bytes] = {}
        for row in asked["headers"]:
            headers.setdefault(row["name"].lower().encode(), row["value"].encode())
        posted = asked.get("postData", {})
        text = posted.get("text", "")
        body = base64.b64decode(text, validate=True) if posted.get("encoding") == "base64" else text.encode()
        path, _, query = _target(asked["url"].encode())
        return Recorded(asked["method"].encode(), path, query, headers, body)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, binascii.Error):
        raise UsageError("the file is no HAR: expected an entry with request.method, url, headers, postData") from None
