"""[P] What the sender gets: the one table from a refusal to its answer, the ack, and both as bytes.

Called by ``receive`` (which answer) and ``connection`` (its bytes). Decides nothing about a request.
"""

from __future__ import annotations

import functools
from http import HTTPStatus

import msgspec

from sidecar.model import AckTemplate, Refusal

__all__ = ["ERRORS", "Answer", "ErrorRow", "ack_answer", "error_answer", "render"]


class Answer(msgspec.Struct, frozen=True):
    """One complete answer, before it is bytes.

    Attributes:
        status: 200 to 599; 1xx is the connection's own business.
        body: Complete body; not sent with 204, 304 and in answer to HEAD.
        content_type: Value of Content-Type; empty = no such header.
        headers: Further headers, already free of CR and LF. Content-Length, Date and Connection are the
            connection's.
        close: Whether the connection ends behind this answer.
    """

    status: int
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    close: bool = False


class ErrorRow(msgspec.Struct, frozen=True):
    """How one refusal is answered.

    Attributes:
        status: Status code.
        close: The connection ends behind it: its framing is in doubt, input is unread, or the sender is not
            one to keep.
        retry_after_s: Default of Retry-After in seconds; None = no such header.
    """

    status: int
    close: bool = False
    retry_after_s: int | None = None


ERRORS: dict[Refusal, ErrorRow] = {
    Refusal.BAD_FRAMING: ErrorRow(400, close=True),
    Refusal.BAD_HOST: ErrorRow(400, close=True),
    Refusal.BAD_HEADER: ErrorRow(400, close=True),
    Refusal.BAD_REQUEST: ErrorRow(400, close=True),
    Refusal.DUPLICATE_HEADER: ErrorRow(400, close=True),
    Refusal.EMPTY_BODY: ErrorRow(400),
    Refusal.TOO_MANY_CHUNKS: ErrorRow(400, close=True),
    Refusal.UNAUTHORIZED: ErrorRow(401, close=True),
    Refusal.NOT_FOUND: ErrorRow(404),
    Refusal.METHOD_NOT_ALLOWED: ErrorRow(405),
    Refusal.TIMEOUT: ErrorRow(408, close=True),
    Refusal.BODY_TOO_LARGE: ErrorRow(413, close=True),
    Refusal.TARGET_TOO_LONG: ErrorRow(414, close=True),
    Refusal.UNSUPPORTED_MEDIA_TYPE: ErrorRow(415),
    Refusal.EXPECTATION_FAILED: ErrorRow(417, close=True),
    Refusal.MISDIRECTED: ErrorRow(421, close=True),
    Refusal.HEADERS_TOO_LARGE: ErrorRow(431, close=True),
    Refusal.INTERNAL_ERROR: ErrorRow(500, close=True),
    Refusal.UNSUPPORTED_TRANSFER_CODING: ErrorRow(501, close=True),
    Refusal.STORAGE_FULL: ErrorRow(503, retry_after_s=30),
    Refusal.STORAGE_ERROR: ErrorRow(503, retry_after_s=5),
    Refusal.SHUTTING_DOWN: ErrorRow(503, close=True, retry_after_s=5),
    Refusal.OVERLOADED: ErrorRow(503, retry_after_s=1),
    Refusal.KEYS_UNAVAILABLE: ErrorRow(503, retry_after_s=5),
    Refusal.HTTP_VERSION: ErrorRow(505, close=True),
}

_BODILESS = frozenset({204, 304})
_REPLAYED = (b"Idempotent-Replayed", b"true")


def error_answer(code: Refusal, *, retry_after_s: int | None = None, allow: bytes = b"") -> Answer:
    """Say how a refusal is answered: fixed text, no echo of input.

    Args:
        code: Why the request got no ack.
        retry_after_s: Whole seconds, 0 or more, instead of the table's; only for codes that carry Retry-After.
        allow: Value of Allow for 405, for example ``POST``; empty leaves it out.

    Source: RFC 9110, 10.2.1 (Allow), 10.2.3 (Retry-After).
    """
    row = ERRORS[code]
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if row.retry_after_s is not None:
        seconds = row.retry_after_s if retry_after_s is None else retry_after_s
        headers = ((b"Retry-After", b"%d" % seconds),)
    elif allow:
        headers = ((b"Allow", allow),)
    return Answer(row.status, _error_body(code), headers=headers, close=row.close)


@functools.cache
def _error_body(code: Refusal) -> bytes:
    return b'{"error":{"code":"%b"}}' % code.value.encode()


def ack_answer(template: AckTemplate, event_id: str, *, replayed: bool = False) -> Answer:
    """Make the ack of an accepted event; a duplicate gets the first one's again, marked.

    Args:
        template: The source's ack, or the stored one of the first event.
        event_id: ``wse_...``; for a duplicate the first event's.
        replayed: Whether this answers a duplicate.
    """
    id_bytes = event_id.encode()
    body = template.body.replace(b"{id}", id_bytes) if template.with_id else template.body
    known = (b"Webhook-Sidecar-Event-Id", id_bytes)
    return Answer(template.status, body, _encoded(template.content_type), (known, _REPLAYED) if replayed else (known,))


@functools.lru_cache(256)
def _encoded(text: str) -> bytes:
    return text.encode("latin-1", "replace")


@functools.lru_cache(256)
def _start(status: int, content_type: bytes) -> bytes:
    """Everything up to the value of Content-Length; statuses and types come from the configuration, so it caches."""
    try:
        reason = HTTPStatus(status).phrase.encode()
    except ValueError:
        reason = b""
    start = b"HTTP/1.1 %d %b\r\n" % (status, reason)
    if content_type and status not in _BODILESS:
        start += b"Content-Type: %b\r\n" % content_type
    return start


def render(answer: Answer, date: bytes = b"", close: bool = False, bodiless: bool = False) -> bytes:
    r"""Turn an answer into the bytes of one HTTP/1.1 message.

    Args:
        answer: What to say.
        date: A complete ``Date: ...\r\n`` line, or nothing.
        close: Whether to announce ``Connection: close``; the answer's own ``close`` adds to it.
        bodiless: The request was HEAD: Content-Length as for GET, but no body.

    Source: RFC 9110, 8.6 (no Content-Length with 204), 9.3.2 (HEAD); RFC 9112, 9.6 (close).
    """
    body = answer.body
    status = answer.status
    tail = b"Connection: close\r\n" if close or answer.close else b""
    for header in answer.headers:
        tail += b"%b: %b\r\n" % header
    start = _start(status, answer.content_type)
    if status in _BODILESS:
        return b"%b%b%b\r\n" % (start, date, tail)
    return b"%bContent-Length: %d\r\n%b%b\r\n%b" % (start, len(body), date, tail, b"" if bodiless else body)
