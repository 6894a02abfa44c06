"""What is asked and what is answered, without an HTTP library: the server turns one into the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

__all__ = ["ApiError", "Call", "Reply", "Stream", "json_reply", "text_reply"]


class Call(msgspec.Struct, frozen=True):
    """One request, read whole and let in.

    Attributes:
        method: Upper case.
        path: Raw path, not decoded, without the query.
        params: The query string, decoded; the last of a repeated name.
        headers: Case-insensitive.
        body: At most as many bytes as the server lets in.
        trusted: It came over the Unix socket.
    """

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    trusted: bool = False


class Reply(msgspec.Struct, frozen=True):
    """An answer that is there as a whole."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


class Stream(msgspec.Struct, frozen=True):
    """An answer that comes line by line.

    A value becomes one line of JSON, bytes are lines made already, and None is an empty line that says we are alive.
    """

    rows: AsyncIterator[bytes | dict[str, Any] | None]


class ApiError(Exception):
    """A refusal: ``{"error":{"code":...,"message":...}}``."""

    def __init__(self, status: int, code: str, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers

    def reply(self) -> Reply:
        """The answer."""
        return json_reply({"error": {"code": self.code, "message": self.message}}, self.status, self.headers)


def json_reply(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """Answer with one JSON value."""
    return Reply(status, msgspec.json.encode(value) + b"\n", "application/json", headers)


def text_reply(text: str, status: int = 200) -> Reply:
    """Answer with plain text."""
    return Reply(status, text.encode(), "text/plain; charset=utf-8")
