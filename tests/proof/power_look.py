"""Looks at what a crash left as the next start would, and compares it with what had been said.

Thousands of crash states of one run differ in a few sectors, so that what was read out of a block or a dead letter is
kept beside the very bytes it was read from, and not read again from the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import lmdb

from sidecar.errors import SidecarError
from sidecar.journal import Journal
from sidecar.journal.records import bodies_key, deliveries_key, event_slots, history_key, split_key
from sidecar.journal.types import JournalOptions
from sidecar.journal.view import View
from sidecar.model import State, parse_event_id
from sidecar.outbound.deadletter import DeadLetterOptions, DeadLetters
from tests.proof.history import audited
from tests.proof.shard import Job
from tests.support.clocks import FakeClock
from tests.support.journals import make_claim

__all__ = ["Expected", "Looker"]

FINAL = {"delivered", "dead"}
DESTINATIONS = ("app", "mail")


@dataclass(frozen=True)
class Said:
    """An event that was acknowledged."""

    seq: int
    digest: str  # sha256 of its body
    claim: bytes  # its dedup key, as the journal knows it


@dataclass(frozen=True)
class Seen:
    """An event as it was read back: its id, the sha256 of its body, its state by destination."""

    event_id: str
    digest: str
    states: dict[str, State]


@dataclass
class Expected:
    """What the workload had been told when it ended."""

    opened: bool = False
    stored: dict[str, Said] = field(default_factory=dict)  # by event id
    state: dict[tuple[str, str], set[str]] = field(default_factory=dict)  # (destination, event id) -> may be found as
    may_prune: bool = False

    def hear(self, mark: str) -> None:
        """Take a mark of the workload into account."""
        match mark.split():
            case ["is", "open"]:
                self.opened = True
            case ["is", "stored", event_id, digest, key]:
                parsed = parse_event_id(event_id)
                assert parsed is not None
                self.stored[event_id] = Said(parsed[2], digest, make_claim(key).digest)
            case ["may", "prune"]:
                self.may_prune = True
            case ["may", destination, event_id, state]:
                self.state.setdefault((destination, event_id), {"pending"}).add(state)
            case ["is", destination, event_id, state]:
                self.state[destination, event_id] = {state}

    def may_be_gone(self, event_id: str) -> bool:
        """Whether pruning may have had it."""
        return self.may_prune and all(self.state.get((d, event_id), {"pending"}) & FINAL for d in DESTINATIONS)


class Looker:
    """Looks at one folder after the other.

    Args:
        job: Where dead letters that were compared are counted.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._blocks: dict[tuple[object, ...], dict[int, Seen]] = {}
        self._letters: dict[tuple[bytes, str, str, bytes], str] = {}

    def look(self, folder: Path, expected: Expected, files: Mapping[str, bytes | None]) -> list[str]:
        """Open what is there as the next start would, and compare it with what was said.

        Args:
            folder: With ``volume/journal`` and ``letters`` in it.
            expected: What was said.
            files: Contents of the dead letters as far as they are known, by path below the folder; what is not here
                is read again each time.
        """
        options = JournalOptions(path=str(folder / "volume" / "journal"), max_size_bytes=32 << 20)
        try:
            journal = Journal.open(options, FakeClock())
        except (SidecarError, lmdb.Error) as e:
            return [f"it cannot be opened: {e}"]
        try:
            letters = DeadLetters(DeadLetterOptions(path=str(folder / "letters")), journal.mac_key)
            return self._compare(journal, letters, expected, files)
        except Exception as e:  # noqa: BLE001 - whatever a damaged tree makes of the code that reads it
            return [f"it cannot be read: {type(e).__name__} {e}"]
        finally:
            journal.close()

    def _compare(
        self, journal: Journal, letters: DeadLetters, expected: Expected, files: Mapping[str, bytes | None]
    ) -> list[str]:
        wrong: list[str] = []
        environment = journal._environment
        with environment.env.begin() as txn:
            view = View(environment, txn, FakeClock())
            view.extend(None)
            report = audited(view)
            seen = self._events(view)
            if report.quarantined or view.corrupt:
                wrong.append(f"{report.quarantined} damaged records")
            wrong += [f"the books do not balance: {row}" for row in report.rows if not row.balanced]
            for event_id, said in expected.stored.items():
                found = seen.get(said.seq)
                if journal._dedup.find(txn, said.claim, journal.clock_ms()) is None:
                    wrong.append(f"the dedup key of {event_id} is forgotten")
                if found is None or found.event_id != event_id:
                    if not expected.may_be_gone(event_id):
                        wrong.append(f"acknowledged event {event_id} is gone")
                    continue
                if found.digest != said.digest:
                    wrong.append(f"the bytes of {event_id} changed")
                for destination in DESTINATIONS:
                    state = found.states.get(destination, State.ABSENT)
                    if state.word not in expected.state.get((destination, event_id), {"pending"}):
                        wrong.append(f"{event_id} at {destination} is {state.word}")
                    if state is State.DEAD:
                        self._job.note("letters compared")
                        content = files.get(f"letters/{destination}/{event_id}.json")
                        letter = self._letter(letters, journal.mac_key, event_id, destination, content)
                        if letter != said.digest:
                            wrong.append(f"the letter of {event_id} is not what was dead: {letter}")
        return wrong

    def _events(self, view: View) -> dict[int, Seen]:
        """Every event there is, by seq."""
        found: dict[int, Seen] = {}
        names = view.environment.names
        who = (tuple(names.sources), tuple(names.destinations), tuple(view.environment.identity.journal_ids))
        with view.txn.cursor(view.db[b"events"]) as cursor:
            for key, block in cursor:
                first = split_key(bytes(key))
                told = (who, first, bytes(block), *self._beside(view, first, bytes(block)))
                if told not in self._blocks:
                    self._blocks[told] = {seq: s for seq in _seqs(first, block) if (s := _read(view, seq)) is not None}
                found |= self._blocks[told]
        return found

    @staticmethod
    def _beside(view: View, first: int, block: bytes) -> list[bytes | None]:
        """All that other tables hold of a block."""
        rows: list[bytes | None] = []
        for number in range(len(view.environment.names.destinations)):
            rows.append(view.txn.get(deliveries_key(number, first), db=view.db[b"deliveries"]))
            rows.append(view.txn.get(history_key(first, number), db=view.db[b"history"]))
        for slot, parts in event_slots(block):
            part = 0
            while parts and (row := view.txn.get(bodies_key(first + slot, part), db=view.db[b"bodies"])) is not None:
                rows.append(row)
                part += 1
        return rows

    def _letter(
        self, letters: DeadLetters, mac_key: bytes, event_id: str, destination: str, content: bytes | None
    ) -> str:
        """The sha256 of the body in a dead letter, or what is the matter with it."""
        key = (mac_key, event_id, destination, content or b"")
        if content is None or key not in self._letters:
            reading = letters.read(event_id, destination)
            if reading.problem is not None or reading.letter is None:
                self._letters[key] = str(reading.problem)
            else:
                self._letters[key] = hashlib.sha256(reading.letter.delivery.event.body).hexdigest()
        return self._letters[key]


def _seqs(first: int, block: bytes) -> list[int]:
    return [first + slot for slot, _ in event_slots(block)]


def _read(view: View, seq: int) -> Seen | None:
    """One event, found as the console finds it."""
    found = view.event_view(seq, 0)
    if found is None:
        return None
    digest = hashlib.sha256(found.event.body).hexdigest()
    return Seen(found.event.id, digest, {d.destination: d.state for d in found.deliveries})
