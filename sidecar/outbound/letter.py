"""[P] A dead letter as text: the format of one file, its seal, and reading it back.

One JSON object, laid out a key, a header and an attempt a line, so that ``grep`` and ``less`` show it well. The short
fields come first: a listing reads the beginning of a file and never its body. Everything outside ASCII, and every
control character, is escaped. The seal (``mac``) covers all other content, whatever its layout.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from sidecar.model import Attempt, DeadReason, Delivery, Event, parse_event_id

__all__ = ["FORMAT", "HEAD_BYTES", "Head", "Letter", "Malformed", "encode", "parse", "parse_head", "restore_event"]

FORMAT = 1
HEAD_BYTES = 8192
"""The beginning of a file that always holds everything before ``attempts``."""

_MAX_MS = 253_402_300_799_999  # the last millisecond that RFC 3339 can write
_BODILESS = {"event_id", "source", "destination", "reason", "received_at", "died_at"}


class Malformed(ValueError):
    """The bytes are not a dead letter of a format that we know; says what is wrong, in fixed words."""


class Head(msgspec.Struct, frozen=True):
    """What a listing shows of one dead letter.

    Attributes:
        event_id: Our id of the event.
        source: Where it came in.
        destination: Who never took it.
        reason: A DeadReason.
        received_at_ms: Wall clock, UTC.
        died_at_ms: Wall clock, UTC.
    """

    event_id: str
    source: str
    destination: str
    reason: str
    received_at_ms: int
    died_at_ms: int


class Letter(msgspec.Struct):
    """One whole dead letter.

    Attributes:
        head: The short fields.
        delivery: As it was given up: event, body, attempts, round.
        sealed: Whether ``mac`` agrees with the content and the key it was read with.
        mac: As found in the file (hex), to tell this letter from a later one of the same name.
    """

    head: Head
    delivery: Delivery
    sealed: bool
    mac: str


def encode(delivery: Delivery, died_at_ms: int, key: bytes) -> bytes:
    """Write a dead letter.

    Args:
        delivery: Given up, with its reason and its attempts.
        died_at_ms: Wall clock, UTC.
        key: The journal's MAC key.
    """
    event = delivery.event
    content: dict[str, Any] = {
        "format": FORMAT,
        "event_id": event.id,
        "source": event.source,
        "destination": delivery.destination,
        "reason": delivery.reason,
        "received_at": _rfc3339(event.received_at_ms),
        "died_at": _rfc3339(died_at_ms),
        "verified": event.verified,
    }
    if delivery.round:
        content["round"] = delivery.round
    if event.key:
        content["key"] = event.key
    if event.replay_of:
        content["replay_of"] = event.replay_of
    content["attempts"] = [_attempt_row(a) for a in delivery.log]
    content["request"] = _request(event)
    mac = _seal(content, key)
    return _lay_out({**content, "mac": mac})


def parse(data: bytes, key: bytes) -> Letter:
    """Read a whole dead letter.

    Args:
        data: The file.
        key: The journal's MAC key; a letter of another journal, or a changed one, comes back with ``sealed`` False.

    Raises:
        Malformed: it is not a dead letter.
    """
    try:
        content = json.loads(data.decode("ascii"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as e:
        raise Malformed("not JSON in ASCII") from e
    if not isinstance(content, dict):
        raise Malformed("not a JSON object")
    mac = content.pop("mac", None)
    if not isinstance(mac, str):
        raise Malformed("mac: expected text")
    head = _head(content)
    delivery = Delivery(_event(content, head), head.destination, reason=head.reason)
    delivery.round = _number(content, "round", 0)
    delivery.log = tuple(_attempt(row) for row in _list(content, "attempts"))
    return Letter(head, delivery, hmac.compare_digest(_seal(content, key).encode(), _ascii(mac)), mac)


def parse_head(data: bytes) -> Head | None:
    """Read the short fields from the beginning of a file that ``encode`` made.

    Args:
        data: At least ``HEAD_BYTES``, or the whole file.

    Returns:
        None when they are not all there, in which case the whole file has to be read.
    """
    found: dict[str, Any] = {}
    for line in data.split(b"\n")[1:]:
        name, colon, value = line.strip().partition(b": ")
        if not colon or name == b'"attempts"':
            break
        try:
            found[json.loads(name)] = json.loads(value.removesuffix(b","))
        except (ValueError, TypeError, RecursionError):
            return None
    try:
        return _head(found)
    except Malformed:
        return None


def restore_event(letter: Letter) -> Event:
    """Make the event of a dead letter whose journal no longer has it.

    It counts as verified only when it was, and the seal proves that nobody has changed it since.
    """
    event = letter.delivery.event
    return msgspec.structs.replace(event, verified=event.verified and letter.sealed)


# --- writing ---------------------------------------------------------------------------------------


def _request(event: Event) -> dict[str, Any]:
    request: dict[str, Any] = {
        "method": event.method.decode("latin-1"),
        "path": event.path.decode("latin-1"),
        "query": event.query.decode("latin-1"),
        # Latin-1 gives every byte a character and back, so values that are not UTF-8 survive.
        "headers": [[n.decode("latin-1"), v.decode("latin-1")] for n, v in event.headers],
    }
    forwarded = {
        "for": event.forwarded_for.decode("latin-1"),
        "proto": event.forwarded_proto.decode("latin-1"),
        "host": event.forwarded_host.decode("latin-1"),
    }
    if any(forwarded.values()):
        request["forwarded"] = forwarded
    try:
        request["body"] = event.body.decode()
    except UnicodeDecodeError:
        request["body_base64"] = base64.b64encode(event.body).decode()
    request["body_sha256"] = hashlib.sha256(event.body).hexdigest()
    return request


def _attempt_row(attempt: Attempt) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": attempt.number,
        "started_at": _rfc3339(attempt.started_at_ms),
        "duration_ms": attempt.duration_ms,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "error": attempt.error,
    }
    if attempt.round:
        row["round"] = attempt.round
    return row


def _rfc3339(ms: int) -> str:
    moment = dt.datetime.fromtimestamp(min(max(ms, 0), _MAX_MS) // 1000, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(", ", ": "))


def _lay_out(content: Mapping[str, Any]) -> bytes:
    lines = []
    for name, value in content.items():
        if name == "request":
            inner = [f"    {_dump(k)}: {_rows(v, '    ') if k == 'headers' else _dump(v)}" for k, v in value.items()]
            lines.append('  "request": {\n' + ",\n".join(inner) + "\n  }")
        elif name == "attempts":
            lines.append(f'  "attempts": {_rows(value, "  ")}')
        else:
            lines.append(f"  {_dump(name)}: {_dump(value)}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def _rows(rows: list[Any], indent: str) -> str:
    if not rows:
        return "[]"
    return "[\n" + ",\n".join(f"{indent}  {_dump(row)}" for row in rows) + f"\n{indent}]"


def _seal(content: Mapping[str, Any], key: bytes) -> str:
    try:
        canonical = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    except RecursionError as e:
        raise Malformed("nested too deep") from e
    return hmac.new(key, canonical.encode("ascii"), hashlib.sha256).hexdigest()


# --- reading ---------------------------------------------------------------------------------------


def _head(content: Mapping[str, Any]) -> Head:
    if content.get("format") != FORMAT or isinstance(content["format"], bool):
        raise Malformed(f"format: expected {FORMAT}")
    texts = {name: _text(content, name) for name in _BODILESS}
    if parse_event_id(texts["event_id"]) is None:
        raise Malformed("event_id: expected an id of the form wse_...")
    if texts["reason"] not in set(DeadReason):
        raise Malformed("reason: not one that we give")
    return Head(
        texts["event_id"],
        texts["source"],
        texts["destination"],
        texts["reason"],
        _ms(texts["received_at"]),
        _ms(texts["died_at"]),
    )


def _event(content: Mapping[str, Any], head: Head) -> Event:
    request = content.get("request")
    if not isinstance(request, dict):
        raise Malformed("request: expected an object")
    headers = []
    for row in _list(request, "headers"):
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], str)):
            raise Malformed("headers: expected pairs of texts")
        headers.append((_latin1(row[0]), _latin1(row[1])))
    forwarded = request.get("forwarded", {})
    if not isinstance(forwarded, dict):
        raise Malformed("forwarded: expected an object")
    return Event(
        source=head.source,
        destinations=(head.destination,),
        received_at_ms=head.received_at_ms,
        method=_latin1(_text(request, "method")),
        path=_latin1(_text(request, "path")),
        query=_latin1(_text(request, "query")),
        headers=headers,
        body=_body(request),
        verified=content.get("verified") is True,
        key=_text(content, "key", ""),
        forwarded_for=_latin1(_text(forwarded, "for", "")),
        forwarded_proto=_latin1(_text(forwarded, "proto", "")),
        forwarded_host=_latin1(_text(forwarded, "host", "")),
        replay_of=_text(content, "replay_of", ""),
        id=head.event_id,
    )


def _body(request: Mapping[str, Any]) -> bytes:
    if "body" in request:
        try:
            return _text(request, "body").encode()
        except UnicodeEncodeError as e:
            raise Malformed("body: not a text that can be written in UTF-8") from e
    try:
        return base64.b64decode(_ascii(_text(request, "body_base64")), validate=True)
    except binascii.Error as e:
        raise Malformed("body_base64: not base64") from e


def _attempt(row: object) -> Attempt:
    if not isinstance(row, dict):
        raise Malformed("attempts: expected objects")
    status = row.get("status")
    if status is not None and type(status) is not int:
        raise Malformed("status: expected a number or null")
    return Attempt(
        number=_number(row, "number"),
        started_at_ms=_ms(_text(row, "started_at")),
        duration_ms=_number(row, "duration_ms"),
        outcome=_text(row, "outcome"),
        status=status,
        error=_text(row, "error"),
        round=_number(row, "round", 0),
    )


def _text(content: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = content.get(name, default)
    if not isinstance(value, str):
        raise Malformed(f"{name}: expected text")
    return value


def _number(content: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = content.get(name, default)
    if type(value) is not int or not 0 <= value <= _MAX_MS:
        raise Malformed(f"{name}: expected a number")
    return value


def _list(content: Mapping[str, Any], name: str) -> list[Any]:
    value = content.get(name)
    if not isinstance(value, list):
        raise Malformed(f"{name}: expected a list")
    return value


def _latin1(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as e:
        raise Malformed("a character that stands for no byte") from e


def _ascii(text: str) -> bytes:
    return text.encode("ascii", "replace")


def _ms(text: str) -> int:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as e:
        raise Malformed("a time that is not RFC 3339") from e
    if moment.tzinfo is None:
        raise Malformed("a time without its zone")
    ms = round(moment.timestamp() * 1000)
    if ms < 0:
        raise Malformed("a time before 1970")
    return ms


def _refuse_constant(name: str) -> float:
    raise ValueError(name)
