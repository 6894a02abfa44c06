"""Bulk commands on dead letters: put them back, or drop them for good.

Only whole files of ours are taken: regular, name, folder, id and seal agree. What a person changed
(``edited``) or what comes from another journal is put back as a new event that counts as unverified and is
never signed afresh. A file goes only after the commit, and by its seal, so that a delivery that dies again
meanwhile keeps its new letter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from sidecar.admin.commands import check_destination, seals_of, unlink
from sidecar.admin.filters import BulkRequest, FilterError, parse_when_ms
from sidecar.admin.gateway import Gateway
from sidecar.admin.progress import Pace, Tally
from sidecar.admin.queries import letter_matches, letter_names
from sidecar.errors import JournalError
from sidecar.journal.types import EventView, Ref, Refused
from sidecar.model import Event, State, parse_event_id
from sidecar.outbound.deadletter import Listed, Problem, Reading
from sidecar.outbound.letter import Letter, restore_event

__all__ = ["remove_letters", "remove_left_over", "remove_left_over_of", "replay_letters"]

Rows = AsyncIterator[dict[str, Any]]

SLICE_BYTES = 8 << 20  # of letters; a larger one goes alone


async def replay_letters(gateway: Gateway, request: BulkRequest) -> Rows:
    """Put dead letters back with a fresh budget, past dedup, and remove each file after its commit.

    Raises:
        FilterError: Before the first row, when the request makes no sense.
    """
    _check(request)
    check_destination(gateway, request.to)
    chosen = await asyncio.to_thread(_chosen, gateway, request)
    pace = Pace(gateway.clock, request.rate)
    tally = Tally(pace)
    for part in _slices(chosen, pace.slice):
        readings = await asyncio.to_thread(_read, gateway, part)
        async for row in _Slice(gateway, request, tally).run(part, readings):
            yield row
        if not request.dry_run:
            yield tally.progress()
            await pace.keep(tally.handled)
    for event_id in _missing(request, chosen):
        for row in tally.refuse(event_id, request.destination, Problem.GONE):
            yield row
    yield tally.summary(matched=len(chosen), dry_run=request.dry_run)


async def remove_letters(gateway: Gateway, request: BulkRequest) -> Rows:
    """Drop dead letters for good: the delivery counts as discarded, its file is removed.

    Raises:
        FilterError: Before the first row, when the request makes no sense.
    """
    _check(request)
    chosen = await asyncio.to_thread(_chosen, gateway, request)
    pace = Pace(gateway.clock, request.rate)
    tally = Tally(pace)
    for part in _slices(() if request.dry_run else chosen, pace.slice):
        readings = await asyncio.to_thread(_read, gateway, part)
        for listed, problem in zip(part, await asyncio.shield(_remove(gateway, part, readings)), strict=True):
            if problem is None:
                tally.ok("removed")
            else:
                for row in tally.refuse(listed.event_id, listed.destination, problem):
                    yield row
        yield tally.progress()
        await pace.keep(tally.handled)
    for event_id in _missing(request, chosen):
        for row in tally.refuse(event_id, request.destination, Problem.GONE):
            yield row
    yield tally.summary(matched=len(chosen), dry_run=request.dry_run)


async def remove_left_over(gateway: Gateway) -> int:
    """Remove files whose delivery the journal knows, but not as dead: it came to life and the process died meanwhile.

    Returns:
        How many.
    """
    names = await asyncio.to_thread(letter_names, gateway.dead_letters.options.path)
    return sum([await _remove_left_over(gateway, event_id, destination) for destination, event_id in sorted(names)])


async def remove_left_over_of(gateway: Gateway, event_id: str) -> int:
    """Remove the files of one event whose delivery is not dead any more, after a repeat revived it.

    Returns:
        How many.
    """
    view = await _view(gateway, event_id)
    deliveries = view.deliveries if view is not None else ()
    return sum([await _remove_left_over(gateway, event_id, d.destination) for d in deliveries])


async def _remove_left_over(gateway: Gateway, event_id: str, destination: str) -> bool:
    # First the letter, then the state, and away by its seal: one that dies again meanwhile keeps its new letter.
    reading = await asyncio.to_thread(gateway.dead_letters.read, event_id, destination)
    if reading.letter is None or reading.problem is not None:
        return False
    state = await _state(gateway, event_id, destination)
    if state in {State.DEAD, State.DYING, State.ABSENT}:
        return False
    mac = reading.letter.mac
    return await asyncio.to_thread(gateway.dead_letters.remove, event_id, destination, mac=mac) is None


class _Slice:
    """One slice of a replay: what the journal has is replayed in one commit, the rest is restored one by one."""

    def __init__(self, gateway: Gateway, request: BulkRequest, tally: Tally) -> None:
        self._gateway = gateway
        self._request = request
        self._tally = tally

    async def run(self, part: Sequence[Listed], readings: Sequence[Reading]) -> Rows:
        """Put one slice back."""
        known: dict[Ref, Letter] = {}
        changed: dict[Ref, Letter] = {}
        for listed, reading in zip(part, readings, strict=True):
            ref, letter = Ref(listed.event_id, listed.destination), reading.letter
            if letter is not None and reading.problem is None:
                known[ref] = letter
            elif letter is not None and reading.problem is Problem.MAC_MISMATCH and self._takes(listed.event_id):
                changed[ref] = letter
            else:
                for row in self._tally.refuse(ref.event_id, ref.destination, reading.problem or Problem.GONE):
                    yield row
        if self._request.dry_run:
            self._tally.outcomes["would_replay"] += len(known)
            self._tally.outcomes["would_replay_unverified"] += len(changed)
            return
        async for row in self._replay(known):
            yield row
        for ref, letter in changed.items():
            async for row in self._restore(ref, letter, as_new=True):
                yield row

    def _takes(self, event_id: str) -> bool:
        parts = parse_event_id(event_id)
        return self._request.edited or (parts is not None and parts[1] != self._gateway.journal.journal_id)

    async def _replay(self, letters: dict[Ref, Letter]) -> Rows:
        if not letters:
            return
        refused = await asyncio.shield(self._put_back(letters))
        self._tally.ok("replayed", len(letters) - len(refused))
        back: set[str] = set()
        again: dict[Ref, Letter] = {}
        for ref, reason in refused.items():
            # A destination that this journal never knew cannot have been owed anything by it either.
            if reason in {Refused.NOT_FOUND, Refused.UNKNOWN_DESTINATION}:
                if ref.event_id in back:
                    again[ref] = letters[ref]  # its event came back with the letter of another destination
                    continue
                back.add(ref.event_id)
                async for row in self._restore(ref, letters[ref], as_new=False):
                    yield row
            elif reason == Refused.NOT_ALLOWED and await self._is_left_over(ref):
                await self._unlink({ref: letters[ref].mac})
                self._tally.ok("left_over_removed")
            else:
                for row in self._tally.refuse(ref.event_id, ref.destination, str(reason)):
                    yield row
        async for row in self._replay(again):
            yield row

    async def _restore(self, ref: Ref, letter: Letter, *, as_new: bool) -> Rows:
        destination = self._request.to or ref.destination
        problem = self._cannot_restore(letter.head.source, destination, as_new=as_new)
        if problem:
            for row in self._tally.refuse(ref.event_id, ref.destination, problem):
                yield row
            return
        try:
            event = await asyncio.shield(self._bring_back(ref, letter, destination, as_new=as_new))
        except JournalError as e:
            for row in self._tally.refuse(ref.event_id, ref.destination, e.message):
                yield row
            return
        self._tally.ok("restored_unverified" if as_new else "restored")
        if event.id != ref.event_id:
            yield {
                "type": "restored",
                "event_id": event.id,
                "replay_of": ref.event_id,
                "destination": destination,
                "verified": event.verified,
            }

    # What follows is shielded: who asked may go away, and we may stop, but not between a commit and its files. A letter
    # that is left over looks like one that was never replayed.

    async def _put_back(self, letters: dict[Ref, Letter]) -> dict[Ref, str]:
        """Replay what the journal has; which were refused, and why."""
        journal, to = self._gateway.journal, self._request.to or None
        there: dict[Ref, str] = {}
        if to is not None:  # it may be dead there, too
            refs = [Ref(ref.event_id, to) for ref in letters]
            there = await asyncio.to_thread(seals_of, self._gateway.dead_letters, refs)
        refused = dict((await journal.replay(list(letters), to=to)).refused)
        done = {ref: letter for ref, letter in letters.items() if ref not in refused}
        if to is not None and done:
            await journal.remove_dead(list(done))
        arrived = {ref.event_id for ref in done}
        await self._unlink({ref: mac for ref, mac in there.items() if ref.event_id in arrived})
        await self._unlink({ref: letter.mac for ref, letter in done.items()})
        return refused

    async def _bring_back(self, ref: Ref, letter: Letter, destination: str, *, as_new: bool) -> Event:
        """Restore what the journal does not have."""
        journal, event = self._gateway.journal, restore_event(letter)
        await journal.register_live([event.source], [destination])
        if as_new:
            event = msgspec.structs.replace(event, id="", replay_of=ref.event_id)
            await journal.restore(event, destination, (), verified=False)
            # It takes the place of the dead delivery, where this journal still remembers one.
            await journal.remove_dead([ref])
        else:
            await journal.restore(event, destination, letter.delivery.log, verified=event.verified)
        await self._unlink({ref: letter.mac})
        return event

    def _cannot_restore(self, source: str, destination: str, *, as_new: bool) -> str:
        """Say why not; names in a file that somebody else wrote must be configured here."""
        if destination not in {d.name for d in self._gateway.destinations()}:
            return Refused.UNKNOWN_DESTINATION
        if as_new and source not in {s.name for s in self._gateway.sources()}:
            return "unknown_source"
        return ""

    async def _is_left_over(self, ref: Ref) -> bool:
        return await _state(self._gateway, ref.event_id, ref.destination) not in {State.DEAD, State.DYING, State.ABSENT}

    async def _unlink(self, seals: Mapping[Ref, str]) -> None:
        await asyncio.to_thread(unlink, self._gateway.dead_letters, seals)


async def _remove(gateway: Gateway, part: Sequence[Listed], readings: Sequence[Reading]) -> list[str | None]:
    """Forget dead deliveries and remove their letters; for each, why not."""
    refs = [Ref(r.event_id, r.destination) for r in part]
    refused = dict((await gateway.journal.remove_dead(refs)).refused)
    macs = [reading.letter.mac if reading.letter is not None else "" for reading in readings]

    def remove(ref: Ref, mac: str) -> str | None:
        # What the journal does not know as dead (pruned, foreign, left over) has a file to remove all the same. One that
        # is just being written has not: its delivery would be dead without a letter.
        if refused.get(ref) == Refused.DYING:
            return Refused.DYING
        return gateway.dead_letters.remove(ref.event_id, ref.destination, mac=mac)

    return await asyncio.to_thread(lambda: [remove(ref, mac) for ref, mac in zip(refs, macs, strict=True)])


async def _view(gateway: Gateway, event_id: str) -> EventView | None:
    """One event; None, too, when its record is damaged: then its letter may be all that is left of it."""
    try:
        return await gateway.journal.event(event_id)
    except JournalError:
        return None


async def _state(gateway: Gateway, event_id: str, destination: str) -> State:
    view = await _view(gateway, event_id)
    found = [d.state for d in view.deliveries if d.destination == destination] if view is not None else []
    return found[0] if found else State.ABSENT


def _check(request: BulkRequest) -> None:
    request.check()
    if request.state not in {"", State.DEAD.word}:
        raise FilterError("state: dead letters have only one, dead")


def _chosen(gateway: Gateway, request: BulkRequest) -> list[Listed]:
    """List what is meant. Blocking. Since and until speak of the death."""
    now_ms = gateway.clock.wall_ms()
    limit = request.max or 1_000_000_000
    narrow = bool(request.source or request.ids or request.key or request.contains)
    rows = gateway.dead_letters.ls(
        destination=request.destination,
        reason=request.reason,
        since_ms=parse_when_ms(request.since, now_ms),
        until_ms=parse_when_ms(request.until, now_ms),
        limit=1_000_000_000 if narrow else limit,
    )
    return [r for r in rows if not narrow or letter_matches(gateway, request, r)][:limit]


def _slices(chosen: Sequence[Listed], most: int) -> Iterator[list[Listed]]:
    """Cut what is meant into parts, each of so many letters at most as may be in memory together."""
    part: list[Listed] = []
    size = 0
    for row in chosen:
        if len(part) >= most or (part and size + row.bytes > SLICE_BYTES):
            yield part
            part, size = [], 0
        part.append(row)
        size += row.bytes
    if part:
        yield part


def _read(gateway: Gateway, part: Sequence[Listed]) -> list[Reading]:
    return [gateway.dead_letters.read(r.event_id, r.destination) for r in part]


def _missing(request: BulkRequest, chosen: Sequence[Listed]) -> list[str]:
    """Ids that were named and have no letter."""
    found = {r.event_id for r in chosen}
    return [i for i in request.ids if i not in found] if not request.max else []
