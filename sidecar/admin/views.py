"""How events, deliveries and dead letters are shown: plain JSON values, secrets masked, outside text escaped. Pure.

Whoever shows a request to people goes through here: API and command line alike.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sidecar.admin.filters import rfc3339
from sidecar.journal.types import AuditReport, DeliveryView, EventView, JournalStats
from sidecar.log import safe_text
from sidecar.model import Attempt
from sidecar.outbound.deadletter import Listed, Reading

__all__ = [
    "MASK",
    "attempt_row",
    "audit_row",
    "body_fields",
    "delivery_row",
    "event_detail",
    "event_row",
    "journal_row",
    "letter_detail",
    "listed_row",
    "mask_headers",
    "mask_query",
    "mask_url",
    "secret_headers",
]

MASK = "****"

_SECRET_HEADERS = frozenset(
    {b"authorization", b"cookie", b"set-cookie", b"proxy-authorization", b"x-amz-security-token", b"x-csrf-token"}
)
# A header of a source that is no longer configured is judged by its name.
_SECRET_WORDS = (b"token", b"secret", b"password", b"passwd", b"api-key", b"apikey", b"credential", b"session")
_SECRET_PARAMS = (b"token", b"secret", b"password", b"key", b"auth", b"signature", b"sig", b"hash", b"code")
_MAX_TEXT = 8192
_MAX_BODY = 64 << 10


def mask_headers(headers: Iterable[tuple[bytes, bytes]], masked: Collection[bytes]) -> list[list[str]]:
    """Make headers showable, in order.

    Args:
        headers: As received.
        masked: Lower-case names that carry the source's secret, besides those that always do.
    """
    rows = []
    for name, value in headers:
        lower = name.lower()
        secret = lower in _SECRET_HEADERS or lower in masked or any(w in lower for w in _SECRET_WORDS)
        rows.append([_text(name), MASK if secret else _text(value)])
    return rows


def secret_headers(of: Mapping[str, frozenset[bytes]], source: str) -> frozenset[bytes]:
    """Say which headers carry the secret of a source; of one that is gone, those of all there are.

    It may have been renamed, and its events still carry what is a secret under another name.

    Args:
        of: The names of all sources, and of the headers of each, lower-case.
        source: Whose event is shown.
    """
    return of[source] if source in of else frozenset().union(*of.values())


def mask_query(query: bytes) -> str:
    """Make a raw query string showable: values whose name says secret are masked."""
    parts = []
    for part in query.split(b"&"):
        name, equals, _ = part.partition(b"=")
        lower = name.lower()
        parts.append(name + b"=" + MASK.encode() if equals and any(w in lower for w in _SECRET_PARAMS) else part)
    return _text(b"&".join(parts))


def mask_url(url: str) -> str:
    """Make a destination's URL showable: userinfo and query values are masked, all of them."""
    base, question, query = url.partition("?")
    scheme, slashes, rest = base.partition("://")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        authority = f"{MASK}@{authority.rpartition('@')[2]}"
    names = [part.partition("=")[0] for part in query.split("&")]
    shown = "&".join(f"{n}={MASK}" for n in names) if question else ""
    return safe_text(f"{scheme}{slashes}{authority}{slash}{path}{question}{shown}", 1024)


def _text(raw: bytes) -> str:
    return safe_text(raw.decode("utf-8", "backslashreplace"), _MAX_TEXT)


def body_fields(body: bytes, limit: int = _MAX_BODY) -> dict[str, Any]:
    """Show a body: ``body`` when it is UTF-8, else ``body_base64``; cut at ``limit`` bytes and said so."""
    shown = body[:limit]
    fields: dict[str, Any] = {"body_bytes": len(body)}
    if len(shown) < len(body):
        fields["body_cut"] = True
        shown = _whole_characters(shown)
    try:
        fields["body"] = shown.decode("utf-8")
    except UnicodeDecodeError:
        fields["body_base64"] = base64.b64encode(shown).decode("ascii")
    return fields


def _whole_characters(raw: bytes) -> bytes:
    """Drop the last character when the cut went through it."""
    for n in range(1, min(4, len(raw)) + 1):
        byte = raw[-n]
        if byte < 0x80:
            return raw
        if byte >= 0xC0:  # the first byte of a character of 2, 3 or 4
            return raw[:-n] if n < 2 + (byte >= 0xE0) + (byte >= 0xF0) else raw
    return raw


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    """One counted try."""
    return {
        "number": attempt.number,
        "round": attempt.round,
        "started_at": rfc3339(attempt.started_at_ms),
        "duration_ms": attempt.duration_ms,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "error": safe_text(attempt.error),
    }


def delivery_row(delivery: DeliveryView, *, attempts: bool = False) -> dict[str, Any]:
    """One delivery; with its tries when asked."""
    row: dict[str, Any] = {
        "destination": delivery.destination,
        "state": delivery.state.word,
        "attempts": delivery.attempts,
        "replay": delivery.round,
        "due_in_ms": delivery.due_in_ms,
        "reason": delivery.reason,
        "finished_at": rfc3339(delivery.finished_at_ms),
    }
    if attempts:
        row["log"] = [attempt_row(a) for a in delivery.log]
    return row


def event_row(view: EventView, body_bytes: int) -> dict[str, Any]:
    """One event in a list: no headers, no body."""
    e = view.event
    return {
        "id": e.id,
        "seq": e.seq,
        "source": e.source,
        "received_at": rfc3339(e.received_at_ms),
        "method": _text(e.method),
        "path": _text(e.path),
        "key": safe_text(e.key),
        "verified": e.verified,
        "replay_of": e.replay_of,
        "body_bytes": body_bytes,
        "deliveries": [delivery_row(d) for d in view.deliveries],
    }


def event_detail(view: EventView, masked: Collection[bytes]) -> dict[str, Any]:
    """One event with everything that may be shown."""
    e = view.event
    row = event_row(view, len(e.body))
    row["query"] = mask_query(e.query)
    row["forwarded"] = {
        "for": _text(e.forwarded_for),
        "proto": _text(e.forwarded_proto),
        "host": _text(e.forwarded_host),
    }
    row["headers"] = mask_headers(e.headers, masked)
    row |= body_fields(e.body)
    row["deliveries"] = [delivery_row(d, attempts=True) for d in view.deliveries]
    return row


def listed_row(row: Listed) -> dict[str, Any]:
    """One dead letter in a list."""
    head = row.head
    return {
        "event_id": row.event_id,
        "destination": row.destination,
        "source": safe_text(head.source) if head is not None else "",
        "reason": safe_text(head.reason) if head is not None else "",
        "received_at": rfc3339(head.received_at_ms) if head is not None else None,
        "died_at": rfc3339(head.died_at_ms) if head is not None else None,
        "bytes": row.bytes,
        "problem": row.problem,
    }


def letter_detail(event_id: str, destination: str, reading: Reading, masked: Collection[bytes]) -> dict[str, Any]:
    """One dead letter with everything that may be shown; ``problem`` says why it would not be replayed."""
    row: dict[str, Any] = {"event_id": event_id, "destination": destination, "problem": reading.problem}
    letter = reading.letter
    if letter is None:
        return row
    e = letter.delivery.event
    row |= {
        "source": safe_text(letter.head.source),
        "reason": safe_text(letter.head.reason),
        "received_at": rfc3339(letter.head.received_at_ms),
        "died_at": rfc3339(letter.head.died_at_ms),
        "verified": e.verified and letter.sealed,
        "key": safe_text(e.key),
        "replay": letter.delivery.round,
        "method": _text(e.method),
        "path": _text(e.path),
        "query": mask_query(e.query),
        "headers": mask_headers(e.headers, masked),
    }
    row |= body_fields(e.body)
    row["log"] = [attempt_row(a) for a in letter.delivery.log]
    return row


def journal_row(stats: JournalStats) -> dict[str, Any]:
    """How the journal is doing."""
    return {
        "path": stats.path,
        "journal_id": f"{stats.journal_id:08x}",
        "accepting": stats.accepting,
        "refusal": stats.refusal.value if stats.refusal is not None else None,
        "used_bytes": stats.used_bytes,
        "capacity_bytes": stats.capacity_bytes,
        "fill": round(stats.fill, 4),
        "disk_free_bytes": stats.disk_free_bytes,
        "last_seq": stats.last_seq,
        "commits": stats.commits,
        "largest_batch": stats.largest_batch,
        "dedup_keys": stats.dedup_keys,
        "last_commit_ago_s": round(stats.last_commit_ago_s, 3),
        "writer_stuck_s": round(stats.writer_stuck_s, 3),
        "quarantined": stats.quarantined,
    }


def audit_row(report: AuditReport, files: Collection[tuple[str, str]], *, full: bool) -> dict[str, Any]:
    """The books of all destinations, and whether each dead delivery has its file.

    Args:
        report: What the journal counted.
        files: (destination, event id) of each dead-letter file there is.
        full: Whether everything was counted, not only counters and slices.
    """
    gone = [r for r in report.dead if (r.destination, r.event_id) not in files]
    dead = {(r.destination, r.event_id) for r in report.dead}
    files_at = Counter(destination for destination, _ in files)
    gone_at = Counter(g.destination for g in gone)
    rows = [
        {
            "destination": r.destination,
            "enqueued": r.enqueued,
            "settled": r.settled,
            "pending": r.pending,
            "dying": r.dying,
            "dead": r.dead,
            "files": files_at[r.destination],
            "gone": gone_at[r.destination],
            "balanced": r.balanced,
        }
        for r in report.rows
    ]
    return {
        "ok": all(r.balanced for r in report.rows),
        "full": full,
        "exact": report.exact,
        "events": report.events,
        "quarantined": report.quarantined,
        "destinations": rows,
        "gone": [{"event_id": g.event_id, "destination": g.destination} for g in gone[:100]],
        "gone_count": len(gone),
        # A dead letter whose event was pruned, that came from another journal, or that a replay left over.
        "files_without_event": sum(1 for f in files if f not in dead),
    }
