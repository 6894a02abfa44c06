"""Bulk commands on events: replay, discard, redirect. Slices, at a rate, told row by row.

Each slice is one commit of the journal. Whoever asked may go away: what is committed stays, the rest is
not begun. Rows are as ``progress`` makes them, the last one is the summary.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from sidecar.admin.filters import BulkRequest, FilterError
from sidecar.admin.gateway import Gateway
from sidecar.admin.progress import Pace, Tally
from sidecar.errors import JournalError
from sidecar.journal.types import DeliveryView, OperatorResult, Ref, Refused
from sidecar.model import State
from sidecar.outbound.deadletter import DeadLetters

__all__ = ["check_destination", "discard_events", "replay_events", "seals_of", "unlink"]

Rows = AsyncIterator[dict[str, Any]]
Act = Callable[[Sequence[Ref]], Awaitable[OperatorResult]]

_REPLAYABLE = frozenset({State.DELIVERED, State.DEAD, State.DISCARDED, State.REDIRECTED})
_DISCARDABLE = frozenset({State.PENDING})
_PAGE = 200
_SCAN = 20_000


def check_destination(gateway: Gateway, name: str) -> None:
    """Refuse a destination that is not configured.

    Raises:
        FilterError: With those that are.
    """
    names = [d.name for d in gateway.destinations()]
    if name and name not in names:
        raise FilterError(f'to: got "{name[:64]}"; expected one of {", ".join(names)}')


class _Selection:
    """The deliveries that a request means, page by page, newest first."""

    def __init__(self, gateway: Gateway, request: BulkRequest, states: Collection[State], tally: Tally) -> None:
        self._gateway = gateway
        self._request = request
        self._states = states
        self._tally = tally
        self.refused: list[tuple[str, str, str]] = []  # of those that were named one by one

    async def pages(self) -> AsyncIterator[list[tuple[Ref, State]]]:
        """Give what is meant; ids that do not fit go to ``refused``."""
        left = self._request.max or None
        async for events in self._events():
            page = [found for event_id, deliveries in events for found in self._fit(event_id, deliveries)]
            if left is not None:
                page = page[:left]
                left -= len(page)
            yield page
            if left == 0:
                return

    async def _events(self) -> AsyncIterator[list[tuple[str, list[DeliveryView]]]]:
        journal, request = self._gateway.journal, self._request
        if request.ids:
            for event_id in request.ids:
                deliveries, why = await self._named(event_id)
                if why is not None:
                    self.refused.append((event_id, request.destination, why))
                yield [(event_id, deliveries)] if why is None else []
            return
        now_ms, cursor = self._gateway.clock.wall_ms(), 0
        while True:
            page = await journal.events(request.query(now_ms, before_seq=cursor, limit=_PAGE, max_scan=_SCAN))
            yield [(view.event.id, view.deliveries) for view in page.events]
            cursor = page.next_before_seq
            if not cursor:
                return

    async def _named(self, event_id: str) -> tuple[list[DeliveryView], Refused | None]:
        journal = self._gateway.journal
        try:
            view = await journal.event(event_id)
        except JournalError:
            # To drop what is owed of a damaged event needs nothing of the event, and else it would be owed for ever.
            drop = self._states is _DISCARDABLE and not self._request.to
            deliveries = await journal.deliveries(event_id) if drop else []
            return deliveries, None if deliveries else Refused.CORRUPT
        return (view.deliveries, None) if view is not None else ([], Refused.NOT_FOUND)

    def _fit(self, event_id: str, deliveries: Sequence[DeliveryView]) -> list[tuple[Ref, State]]:
        request = self._request
        meant = [d for d in deliveries if request.takes(d)]
        fit = [(Ref(event_id, d.destination), d.state) for d in meant if d.state in self._states]
        if request.to:
            fit = fit[:1]  # it goes there once, however many destinations it was owed to
        elif request.ids:
            self.refused.extend((event_id, d.destination, d.state.word) for d in meant if d.state not in self._states)
        if not meant and request.ids:
            self.refused.append((event_id, request.destination, "not_found"))
        self._tally.skipped += len(meant) - len(fit)
        return fit


async def replay_events(gateway: Gateway, request: BulkRequest) -> Rows:
    """Make finished deliveries pending again: fresh budget, past dedup, same event id; with ``to`` at another destination.

    Raises:
        FilterError: Before the first row, when the request makes no sense.
    """
    request.check()
    check_destination(gateway, request.to)

    async def act(refs: Sequence[Ref]) -> OperatorResult:
        return await gateway.journal.replay(refs, to=request.to or None)

    async for row in _run(gateway, request, _REPLAYABLE, "replayed", act):
        yield row


async def discard_events(gateway: Gateway, request: BulkRequest) -> Rows:
    """Drop pending deliveries, or with ``to`` send them to another destination instead.

    Raises:
        FilterError: Before the first row, when the request makes no sense.
    """
    request.check()
    check_destination(gateway, request.to)

    async def act(refs: Sequence[Ref]) -> OperatorResult:
        if request.to:
            return await gateway.journal.redirect(refs, request.to)
        return await gateway.journal.discard(refs)

    async for row in _run(gateway, request, _DISCARDABLE, "redirected" if request.to else "discarded", act):
        yield row


async def _run(gateway: Gateway, request: BulkRequest, states: Collection[State], outcome: str, act: Act) -> Rows:
    pace = Pace(gateway.clock, request.rate)
    tally = Tally(pace)
    selection = _Selection(gateway, request, states, tally)
    matched = 0
    async for page in selection.pages():
        for refused in selection.refused:
            for row in tally.refuse(*refused):
                yield row
        selection.refused.clear()
        matched += len(page)
        if request.dry_run:
            continue
        for start in range(0, len(page), pace.slice):
            part = page[start : start + pace.slice]
            # With "to" it comes to life there, where it may be dead, too.
            to = request.to
            revived = [Ref(ref.event_id, to or ref.destination) for ref, state in part if to or state is State.DEAD]
            seals = await asyncio.to_thread(seals_of, gateway.dead_letters, revived)
            result = await asyncio.shield(_commit(gateway, act, [ref for ref, _ in part], seals, to))
            tally.ok(outcome, result.applied)
            for ref, reason in result.refused:
                for row in tally.refuse(ref.event_id, ref.destination, str(reason)):
                    yield row
            yield tally.progress()
            await pace.keep(tally.handled)
    yield tally.summary(matched=matched, dry_run=request.dry_run)


def seals_of(dead_letters: DeadLetters, refs: Sequence[Ref]) -> dict[Ref, str]:
    """Know the letters of dead deliveries by their seals before these come to life again. Blocking."""
    seals: dict[Ref, str] = {}
    for ref in refs:
        letter = dead_letters.read(ref.event_id, ref.destination).letter
        if letter is not None:
            seals[ref] = letter.mac  # and nothing else of it: a hundred large ones are gigabytes
    return seals


async def _commit(gateway: Gateway, act: Act, refs: Sequence[Ref], seals: Mapping[Ref, str], to: str) -> OperatorResult:
    """Change deliveries and remove the letters of those that came to life; shielded, so that it never ends in between."""
    result = await act(refs)
    refused = {Ref(ref.event_id, to or ref.destination) for ref, _ in result.refused}
    await asyncio.to_thread(
        unlink, gateway.dead_letters, {ref: mac for ref, mac in seals.items() if ref not in refused}
    )
    return result


def unlink(dead_letters: DeadLetters, seals: Mapping[Ref, str]) -> None:
    """Remove letters after the commit that brought their deliveries to life. Blocking.

    By its seal: a backend that refuses at once makes the delivery dead again before we come to its old letter,
    and the new one has the same name.
    """
    for ref, mac in seals.items():
        dead_letters.remove(ref.event_id, ref.destination, mac=mac)
