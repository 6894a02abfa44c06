"""Look-ups: what happened to this event, what is dead, do the books balance. Values out, ready to be shown.

Used by the API and, when no daemon runs, by the command line on the journal itself.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from sidecar.admin.filters import FilterError, Filters, id_range_ms, parse_when_ms, rfc3339
from sidecar.admin.gateway import Books
from sidecar.admin.views import (
    audit_row,
    event_detail,
    event_row,
    letter_detail,
    listed_row,
)
from sidecar.errors import JournalError
from sidecar.journal.types import EventQuery, EventView
from sidecar.log import safe_text
from sidecar.model import parse_event_id
from sidecar.outbound.deadletter import Listed, Problem

__all__ = [
    "Ambiguous",
    "audit",
    "dead_letter",
    "dead_letters",
    "event",
    "events",
    "find_event",
    "letter_matches",
    "letter_names",
]

_MAX_LIMIT = 1000
_PREFIX_SCAN = 100_000


class Ambiguous(ValueError):
    """A prefix that several ids begin with; ``ids`` names some of them."""

    def __init__(self, prefix: str, ids: list[str]) -> None:
        super().__init__(f'"{safe_text(prefix, 64)}" stands for several: {", ".join(ids)}')
        self.ids = ids


async def events(books: Books, filters: Filters, *, cursor: int = 0, limit: int = 50) -> dict[str, Any]:
    """List events, newest first; when none matches, say how far it looked and what was refused meanwhile.

    Args:
        books: Where to look.
        filters: What to look for.
        cursor: ``next_cursor`` of the page before; 0 = from the newest.
        limit: 1 to 1000.

    Raises:
        FilterError: A filter makes no sense.
    """
    if filters.ids:
        views = [v for event_id in filters.ids if (v := await _whole(books, event_id)) is not None]
        found = [event_row(v, len(v.event.body)) for v in views if any(filters.takes(d) for d in v.deliveries)]
        return {"events": found, "next_cursor": None, "scanned": len(filters.ids), "oldest_at": None}
    query = filters.query(books.clock.wall_ms(), before_seq=cursor, limit=max(1, min(limit, _MAX_LIMIT)))
    page = await books.journal.events(query)
    answer: dict[str, Any] = {
        "events": [event_row(v, n) for v, n in zip(page.events, page.body_bytes, strict=True)],
        "next_cursor": str(page.next_before_seq) if page.next_before_seq else None,
        "scanned": page.scanned,
        "oldest_at": rfc3339(page.oldest_ms),
    }
    if not page.events:
        since_ms = max(query.since_ms, page.oldest_ms)
        answer["refused"] = books.refused_since(since_ms, filters.source)
    return answer


async def _whole(books: Books, event_id: str) -> EventView | None:
    """One event of a list; None, too, when its record is damaged: the others are listed."""
    try:
        return await books.journal.event(event_id)
    except JournalError:
        return None


async def find_event(books: Books, name: str) -> EventView | None:
    """Find one event by our id, by an unambiguous beginning of it, or by the provider's id (the newest then).

    Raises:
        Ambiguous: Several of our ids begin like this.
    """
    if parse_event_id(name) is not None:
        return await books.journal.event(name)
    if span := id_range_ms(name):
        query = EventQuery(since_ms=max(1, span[0]), until_ms=span[1], limit=_MAX_LIMIT, max_scan=_PREFIX_SCAN)
        page = await books.journal.events(query)
        ids = [v.event.id for v in page.events if v.event.id.startswith(name)]
        if len(ids) > 1:
            raise Ambiguous(name, ids[:10])
        return await books.journal.event(ids[0]) if ids else None
    page = await books.journal.events(EventQuery(key=name, limit=1))
    return await books.journal.event(page.events[0].event.id) if page.events else None


async def event(books: Books, name: str) -> dict[str, Any] | None:
    """Show one event with its deliveries and tries; None when there is none of this name."""
    view = await find_event(books, name)
    return event_detail(view, books.masked_headers(view.event.source)) if view is not None else None


# --- dead letters


async def dead_letters(books: Books, filters: Filters, *, cursor: str = "", limit: int = 100) -> dict[str, Any]:
    """List dead letters, newest events first within each destination; since and until speak of their death.

    Args:
        books: Where to look.
        filters: What to look for.
        cursor: ``next_cursor`` of the page before; "" = from the beginning.
        limit: 1 or more.

    Raises:
        FilterError: A filter or the cursor makes no sense.
    """
    filters.check()
    limit = max(1, limit)
    rows = await asyncio.to_thread(_listed, books, filters, limit, _letter_after(cursor))
    totals = books.dead_letters.totals()
    return {
        "dead_letters": [listed_row(r) for r in rows[:limit]],
        "next_cursor": f"{rows[limit - 1].destination}/{rows[limit - 1].event_id}" if len(rows) > limit else None,
        "totals": {
            name: {"count": t.count, "bytes": t.bytes, "oldest_at": rfc3339(t.oldest_ms)}
            for name, t in sorted(totals.items())
        },
    }


def _letter_after(cursor: str) -> tuple[str, str]:
    if not cursor:
        return "", ""
    destination, _, event_id = cursor.partition("/")
    if parse_event_id(event_id) is None:
        raise FilterError(f'cursor: got "{safe_text(cursor, 120)}"; expected the next_cursor of the page before')
    return destination, event_id


def _listed(books: Books, filters: Filters, limit: int, after: tuple[str, str]) -> list[Listed]:
    """One more than the limit, where there is one."""
    now_ms = books.clock.wall_ms()
    rows: list[Listed] = []
    narrow = bool(filters.source or filters.ids or filters.key or filters.contains)
    for row in books.dead_letters.ls(
        destination=filters.destination,
        reason=filters.reason,
        since_ms=parse_when_ms(filters.since, now_ms),
        until_ms=parse_when_ms(filters.until, now_ms),
        limit=1_000_000_000 if narrow else limit + 1,
        after=after,
    ):
        if narrow and not letter_matches(books, filters, row):
            continue
        rows.append(row)
        if len(rows) > limit:
            break
    return rows


def letter_matches(books: Books, filters: Filters, row: Listed) -> bool:
    """Say whether a listed dead letter is meant by the filters that the listing itself does not know. Blocking."""
    if filters.ids and row.event_id not in filters.ids:
        return False
    if filters.source and (row.head is None or row.head.source != filters.source):
        return False
    if not filters.key and not filters.contains:
        return True
    letter = books.dead_letters.read(row.event_id, row.destination).letter
    if letter is None:
        return False
    event = letter.delivery.event
    return filters.key in ("", event.key, event.id) and filters.contains.encode("utf-8", "surrogatepass") in event.body


async def dead_letter(books: Books, name: str, destination: str = "") -> list[dict[str, Any]]:
    """Show the dead letters of one event (one for each destination that never took it).

    Args:
        books: Where to look.
        name: Our id or an unambiguous beginning of it.
        destination: Only this one; "" = all.

    Raises:
        Ambiguous: Several of our ids begin like this.
    """
    return await asyncio.to_thread(_dead_letter, books, name, destination)


def _dead_letter(books: Books, name: str, destination: str) -> list[dict[str, Any]]:
    if not name.startswith("wse_"):
        return []
    names = sorted(
        (d, event_id)
        for d, event_id in letter_names(books.dead_letters.options.path)
        if event_id.startswith(name) and destination in ("", d)
    )
    ids = sorted({event_id for _, event_id in names})
    if len(ids) > 1:
        raise Ambiguous(name, ids[:10])
    shown = []
    for folder, event_id in names:
        reading = books.dead_letters.read(event_id, folder)
        if reading.problem is Problem.GONE:
            continue
        source = reading.letter.head.source if reading.letter is not None else ""
        shown.append(letter_detail(event_id, folder, reading, books.masked_headers(source)))
    return shown


def letter_names(path: str) -> set[tuple[str, str]]:
    """Name every dead-letter file as (destination, event id); reads no file. Blocking."""
    names: set[tuple[str, str]] = set()
    try:
        folders = [e.name for e in os.scandir(path) if e.is_dir(follow_symlinks=False)]
    except OSError:
        return names
    for folder in folders:
        try:
            with os.scandir(os.path.join(path, folder)) as entries:
                files = [e.name for e in entries if e.name.endswith(".json")]
        except OSError:
            continue
        names.update((folder, f[:-5]) for f in files if parse_event_id(f[:-5]) is not None)
    return names


async def audit(books: Books, *, full: bool) -> dict[str, Any]:
    """Check the books: enqueued = settled + pending everywhere, and each dead delivery's file.

    Args:
        books: Where to look.
        full: Count everything; else counters and slices.
    """
    report = await books.journal.audit(full=full)
    names = await asyncio.to_thread(letter_names, books.dead_letters.options.path)
    return audit_row(report, names, full=full)
