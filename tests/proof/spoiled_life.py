"""A daemon's whole life on a damaged journal, with all that the world does to it, and the judgement of what comes of that.

What has nothing to do with the damage must be as if there were none: delivered, listed, shown, replayed. What has may be
missing, but never altered, and costs neither the process, nor an answer, nor another event anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sidecar.clock import Clock
from sidecar.errors import SidecarError
from sidecar.journal import Journal
from sidecar.journal.types import JournalOptions
from sidecar.journal.view import View
from sidecar.model import State
from tests.proof.history import audited
from tests.proof.lives import until
from tests.proof.shard import Job
from tests.proof.spoiled_base import DESTINATIONS, Answer, Base, House, Known, mood
from tests.proof.spoiled_rows import Harm, spoil_open
from tests.support.backends import Request

__all__ = ["Life"]

ARRIVES_S = 10.0
DRAIN_S = 5.0
FORGOTTEN = "damaged dedup keys were left out"
SAID = ("a damaged record was left out", "not all that is owed can be found", "what is owed cannot be counted",
        FORGOTTEN)  # fmt: skip
ENDED = ("delivered", "dead", "discarded", "redirected")
NEW = 4
NOTHING = b"webhook_sidecar_journal_quarantined_total 0"
PRECISE = (b"", b"bodies", b"dedup", b"due")  # tables whose damage leaves it plain who is owed what
STAY = (b"events", b"bodies", b"history", b"deliveries")  # tables whose damaged rows stay as they are


class Life:
    """What one life is judged by.

    Args:
        base: What the journal was before.
        harms: What was done to it since.
        job: Whose randomness it is.
        brief: What has ended is forgotten a second later.
        late: More is damaged in the midst of the first life.
    """

    def __init__(self, base: Base, harms: list[Harm], job: Job, *, brief: bool, late: bool) -> None:
        self.base, self.rand, self.brief, self.late = base, job.rand, brief, late
        self.known = list(base.known)
        self.wrong: list[str] = []
        self.forgiving = False
        self.anew: set[str] = set()  # ids that repeats were given in this life, because a key or an event is gone
        self.numbers = {number: name for name, number in base.numbers.items()}
        self.harms: list[Harm] = []
        self.harmed(harms)
        self.gone = set(self.hurt)  # events that cannot be delivered any more
        self.unsaid = {pair for harm in harms if harm.table == b"deliveries" for pair in self.pairs(harm)}

    def pairs(self, harm: Harm) -> set[tuple[str, int]]:
        """The deliveries that it is about, by name."""
        return {(self.numbers[d], seq) for d, seq in harm.deliveries}

    def harmed(self, harms: list[Harm]) -> None:
        """Take note of damage."""
        self.harms = [*self.harms, *harms]
        self.hurt = {seq for harm in self.harms for seq in harm.events}
        self.lost = {pair for harm in self.harms for pair in self.pairs(harm)}
        self.letters = {letter for harm in self.harms for letter in harm.letters}
        self.off = {d for d, _ in self.lost}
        self.blocks_of_keys = any(harm.keys for harm in harms)  # read at each start, until they are sealed

    # --- what is touched

    def sound(self, event: Known, destination: str = "") -> bool:
        """Whether no damage has to do with an event, or with one delivery of it."""
        seqs = event.seqs
        if seqs & self.hurt or any((destination, seq) in self.lost for seq in seqs):
            return False
        return bool(destination) or not any(seq in seqs for _, seq in self.lost)

    def forgettable(self, event: Known) -> bool:
        """Whether its key may be gone."""
        return any(harm.keys is None or event.seqs & harm.keys for harm in self.harms)

    def owed_and_gone(self, event: Known) -> bool:
        """Whether it was owed, and cannot be delivered any more: then a repeat is all that is left of it."""
        owed = [d for d, state in event.states.items() if state.is_open]
        return bool(owed) and (event.seq in self.gone or any((d, event.seq) in self.unsaid for d in owed))

    def fault(self, text: str) -> None:
        """Something that is not as promised."""
        self.wrong.append(text)

    # --- the backend

    async def backend(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """Takes what it refused before, but for what it will never take; in the end it takes that, too."""
        try:
            refused = mood(request) == "no" and not self.forgiving
        except (ValueError, KeyError, UnicodeDecodeError):
            refused = False  # altered: what arrived is judged below
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (400 if refused else 200))

    # --- a life

    async def live(self, house: House, *, last: bool) -> None:
        """Start, everything at once, everything again, an end in order."""
        self.forgiving = False
        self.anew.clear()
        opens = not any(harm.table == b"meta" for harm in self.harms)
        try:
            async with house.alive():
                if not house.ended:
                    await self._world(house, last=last)
        except SidecarError as e:
            if opens or "\n" in e.message or e.exit_code != 74:
                self.fault(f"the start was refused: {e.exit_code} {e.message}")
            return
        if not opens:
            self.fault("it started as if nothing had been")
        if house.code != 0:
            self.wrong.insert(0, f"it ended with {house.code}")
        self._log(house, last=last)

    async def _world(self, house: House, *, last: bool) -> None:
        tail = asyncio.create_task(house.ask("GET", "/api/v1/tail"))
        before = house.arrivals()
        try:
            new = [] if last else self._new()
            await asyncio.gather(
                *[self._repeat(house, event) for event in self.known],
                *[self._first(house, event) for event in new],
                self._looks(house),
            )
            self.known += new
            anew = {(d, i) for e in self.known for i in e.ids & self.anew for d in _destinations(e)}
            await self._arrived(house, before, self._owed(new, last=last) | anew, "owed or revived")
            if self.late and not last and house.daemon is not None and not house.ended:
                environment = house.daemon.journal._environment
                done = [harm.key for harm in self.harms]
                self.harmed([spoil_open(environment.env, environment.db, self.rand, sound=done, meta=False)])
                self.blocks_of_keys = False  # read already
            if self.brief:
                await self._forgotten(house)
            else:
                await self._reads(house, last=last)
                await self._commands(house, last=last)
            await self._stays(house)
        finally:
            tail.cancel()
            with contextlib.suppress(asyncio.CancelledError, TimeoutError):
                await tail

    def _new(self) -> list[Known]:
        moods = dict.fromkeys(DESTINATIONS, "ok")
        made = []
        for n in range(NEW):
            key = f"new{n}-{self.rand.randrange(1 << 40):x}"
            body = json.dumps({"key": key, **moods, "pad": "y" * self.rand.choice((10, 50_000))}).encode()
            made.append(Known(key, self.rand.choice(("code", "slow")), body))
        return made

    def _owed(self, new: list[Known], *, last: bool) -> set[tuple[str, str]]:
        """Deliveries that must be tried now: what was pending, what is new, and the dead that a repeat revives."""
        owed = {(d, e.id) for e in new for d in _destinations(e)}
        if last:
            return owed
        for event in self.base.known:
            for d, state in event.states.items():
                revived = d in event.revives and self.sound(event) and not (self.brief or self.forgettable(event))
                if self.sound(event, d) and (state is State.PENDING or revived):
                    owed.add((d, event.id))
        return owed

    # --- senders

    async def _sent(self, house: House, event: Known) -> Answer:
        try:
            return await house.send(event)
        except (OSError, TimeoutError, IndexError, ValueError) as e:
            return Answer(0, {}, type(e).__name__.encode())

    async def _first(self, house: House, event: Known) -> None:
        answer = await self._sent(house, event)
        if answer.status != 200:
            self.fault(f"a new event is answered with {answer.status} {answer.body[:80]!r}")
            return
        event.id = answer.headers["webhook-sidecar-event-id"]
        event.ids.add(event.id)

    async def _repeat(self, house: House, event: Known) -> None:
        answer = await self._sent(house, event)
        if answer.status != 200:
            self.fault(f"a repeat of {self._name(event)} is answered with {answer.status} {answer.body[:80]!r}")
            return
        found = answer.headers["webhook-sidecar-event-id"]
        if found in event.ids:
            if found == event.id and self.owed_and_gone(event):
                self.fault(f"a repeat of {self._name(event)} is a duplicate of what nobody can deliver")
            return
        if self.sound(event) and not self.forgettable(event):
            self.fault(f"a repeat of {self._name(event)} is stored anew")
        event.ids.add(found)
        self.anew.add(found)

    # --- what arrives

    async def _arrived(
        self, house: House, before: Counter[tuple[str, str]], wanted: Iterable[tuple[str, str]], why: str
    ) -> None:
        """These are tried once more than before; and nothing that ever arrived is altered."""
        wanted = set(wanted)

        def missing() -> set[tuple[str, str]]:
            now = house.arrivals()
            return {pair for pair in wanted if now[pair] <= before[pair]}

        if not self.wrong:  # else the first thing that was wrong says more
            await until(lambda: house.ended or not missing(), ARRIVES_S, 0.005)
        for destination, event_id in sorted(missing())[: 0 if self.wrong else 3]:
            self.fault(
                f"{self._name(self._of(event_id))} ({why}) never arrived at {destination}: {event_id}, {before[destination, event_id]} before"
            )
        for request in house.backend.requests:
            event = self._of(request.values(b"Webhook-Sidecar-Event-Id")[0].decode())
            if event is None or request.body != event.body:
                self.wrong.insert(0, f"{request.line!r} brought what nobody sent: {request.body[:60]!r}")

    def _of(self, event_id: str) -> Known | None:
        return next((e for e in self.known if event_id in e.ids), None)

    def _name(self, event: Known | None) -> str:
        if event is None:
            return "an unknown event"
        return f"{event.key} (seq {event.seq}, {'sound' if self.sound(event) else 'damaged'})"

    async def _forgotten(self, house: House) -> None:
        """What has ended everywhere is forgotten, also what came after the damage."""
        self.forgiving = True
        harmed = {e.block for e in self.known if e.seq and not self.sound(e)}
        left: set[str] = set()

        async def gone() -> bool:
            page = await self._get(house, "events?limit=1000&source=code")
            rows = page["events"] if page is not None else []
            left.clear()
            for row in rows:
                event = self._of(row["id"])
                ended = all(d["state"] in ENDED for d in row["deliveries"])
                if event is not None and event.block not in harmed and ended:
                    left.add(event.key)
            return not left

        for _ in range(100):
            if house.ended or await gone():
                return
            await asyncio.sleep(0.05)
        self.fault(f"these have ended everywhere, and are never forgotten: {sorted(left)[:3]}")

    # --- operators

    async def _ask(
        self, house: House, method: str, path: str, body: Any = None, *, about: Known | None = None
    ) -> Answer:
        """A request that must be answered, and not with a bug; with a failure only where it names what is damaged."""
        try:
            answer = await house.ask(method, path, body)
        except (OSError, TimeoutError, ValueError, IndexError) as e:
            self.fault(f"{method} {path[:60]} {body}: {type(e).__name__}")
            return Answer(0, {}, b"")
        told = about is not None and not self.sound(about) and b"a record is damaged" in answer.body
        if answer.status >= 500 and not told:
            self.fault(f"{method} {path[:60]} {body}: {answer.status} {answer.body[:100]!r}")
        if answer.headers.get("content-type") == "application/x-ndjson":
            rows = answer.rows()
            if not rows or rows[-1]["type"] != "summary":
                self.fault(f"{method} {path} {body} broke off: {rows[-1:]}")
        return answer

    async def _get(self, house: House, path: str, *, about: Known | None = None) -> Any:
        answer = await self._ask(house, "GET", f"/api/v1/{path}", about=about)
        return json.loads(answer.body) if answer.status == 200 else None

    async def _looks(self, house: House) -> None:
        """Somebody looks while everything is on the move."""
        for _ in range(3):
            for path in ("status", "events?limit=7", "audit?full=1", "dead-letters", "journal/stats"):
                await self._get(house, path)

    async def _reads(self, house: House, *, last: bool) -> None:
        """Everything that can be looked at is there, whole, and the same from each side."""
        now = await self._shows(house)
        await self._lists(house, now)
        await self._dead_letters(house, now)
        audit = await self._get(house, "audit?full=1")
        if audit is not None:
            self._audit(audit)
        for path in ("status", "audit", "config", "sources", "refused", "journal/stats"):
            await self._get(house, path)
        metrics = await self._ask(house, "GET", "/metrics")
        stays = any(h.seqs and h.table in STAY for h in self.harms)
        if (stays or (self.blocks_of_keys and not last)) and NOTHING in metrics.body:
            self.fault("nothing is counted as damaged")

    async def _shows(self, house: House) -> dict[str, dict[str, str]]:
        """Each event by id, by key and by its body; what is its state at each destination."""
        now: dict[str, dict[str, str]] = {}
        for event in self.known:
            for name in (event.id, event.key):
                found = await self._get(house, f"events/{quote(name)}", about=event)
                if found is None:
                    if self.sound(event):
                        self.fault(f"{self._name(event)} is not found as {name}")
                    continue
                self._row(found)
                if found.get("body", "")[:200] != event.body.decode()[:200] or found["body_bytes"] != len(event.body):
                    self.fault(f"{self._name(event)} is shown altered")
                now[found["id"]] = {d["destination"]: d["state"] for d in found["deliveries"]}
            body = await self._ask(house, "GET", f"/api/v1/events/{event.id}/body", about=event)
            if body.status == 200 and body.body != event.body:
                self.fault(f"the body of {self._name(event)} is shown altered")
            if self.sound(event):
                if body.status != 200:
                    self.fault(f"the body of {self._name(event)}: {body.status}")
                lacking = set(_destinations(event)) - now.get(event.id, {}).keys()
                if lacking:
                    self.fault(f"{self._name(event)} is owed to {lacking}, and nothing there knows of it")
        return now

    def _row(self, row: dict[str, Any]) -> None:
        event = self._of(row["id"])
        if event is None:
            if row["source"] != "noise":
                self.fault(f"{row['id']} was never stored")
        elif (row["key"], row["source"], row["body_bytes"]) != (event.key, event.source, len(event.body)):
            self.fault(f"{self._name(event)} is listed altered: {row}")

    async def _lists(self, house: House, now: dict[str, dict[str, str]]) -> None:
        """Every filter lists what is shown to fit it."""
        known = [e for e in self.known if self.sound(e) and e.id in now]
        some = self.rand.choice(self.known)
        for source in ("code", "slow", "dull"):
            await self._list(house, f"source={source}", [e for e in known if e.source == source])
        for word in ENDED:
            await self._list(house, f"state={word}", [e for e in known if word in now[e.id].values()])
        for name in DESTINATIONS:
            await self._list(house, f"destination={name}", [e for e in known if name in now[e.id]])
        await self._list(house, "since=1d&source=slow&limit=3", [e for e in known if e.source == "slow"])
        await self._list(house, "until=1d", [])
        await self._list(house, "reason=rejected", [])
        await self._list(house, f"contains={some.key}", [e for e in known if e is some])
        for name in (some.id, some.key):
            await self._list(house, f"key={quote(name)}", [e for e in known if e is some], about=some)
        few = self.rand.sample(self.known, min(5, len(self.known)))
        await self._list(house, "ids=" + ",".join(e.id for e in few), [e for e in known if e in few], about=some)
        await self._get(house, f"events/{some.id[:12]}")

    async def _list(self, house: House, query: str, wanted: list[Known], *, about: Known | None = None) -> None:
        listed: set[str] = set()
        cursor = "0"
        while cursor:
            page = await self._get(house, f"events?limit=1000&{query}&cursor={cursor}", about=about)
            if page is None:
                break
            for row in page["events"]:
                self._row(row)
            listed |= {row["id"] for row in page["events"]}
            cursor = page["next_cursor"]
        for event in wanted:
            if not event.ids & listed:
                self.fault(f"{self._name(event)} is not in the list of {query}")

    async def _dead_letters(self, house: House, now: dict[str, dict[str, str]]) -> None:
        """Every dead delivery has its letter, and none is shown altered."""
        listed: dict[tuple[str, str], Any] = {}
        for query in ("limit=1000", "source=code", "reason=rejected", "contains=key", "since=1d", "destination=app"):
            page = await self._get(house, f"dead-letters?{query}")
            for row in page["dead_letters"] if page is not None else ():
                listed[row["destination"], row["event_id"]] = row
        for event in self.known:
            for destination, state in now.get(event.id, {}).items():
                sound = self.sound(event, destination) and (destination, event.id) not in self.letters
                if state == "dead" and sound and (destination, event.id) not in listed:
                    self.fault(f"{self._name(event)} is dead at {destination}, and no letter is listed")
            shown = await self._get(house, f"dead-letters/{event.id}")
            for letter in shown["dead_letters"] if shown is not None else ():
                whole = letter["problem"] is None
                if whole and letter.get("body", "")[:200] != event.body.decode()[:200]:
                    self.fault(f"the letter of {self._name(event)} is shown altered")
                if not whole and (letter["destination"], event.id) not in self.letters:
                    self.fault(f"the letter of {self._name(event)} has a problem: {letter['problem']}")

    def _audit(self, audit: dict[str, Any]) -> None:
        for row in audit["destinations"]:
            if not row["balanced"] and row["destination"] not in self.off:
                self.fault(f"the books of {row['destination']} do not balance: {row}")
        for gone in audit["gone"]:
            event = self._of(gone["event_id"])
            if event is not None and self.sound(event, gone["destination"]) and not self.letters:
                self.fault(f"the letter of {self._name(event)} is gone")
        seen = audit["quarantined"] or not all(row["balanced"] for row in audit["destinations"])
        if not seen and any(h.seqs and h.table in STAY for h in self.harms):
            self.fault("the audit finds nothing wrong")

    async def _commands(self, house: House, *, last: bool) -> None:
        """Everything that can be commanded, first without an effect; in the end all that has ended comes once more."""
        ids = [e.id for e in self.known]
        self.rand.shuffle(ids)
        every = {"ids": ids}
        rehearsals = [
            (path, body | {"dry_run": True})
            for path in ("events/replay", "events/discard", "dead-letters/replay", "dead-letters/rm")
            for body in (every, {"all": True}, {"source": "code"}, {"destination": "app"}, {"since": "1d", "max": 3})
        ]
        rehearsals += [
            ("events/replay", {"state": "dead", "dry_run": True}),
            ("events/replay", every | {"dry_run": True, "to": "mail"}),
        ]
        self.rand.shuffle(rehearsals)
        for path, body in rehearsals[: 4 if last else 12]:
            await self._ask(house, "POST", f"/api/v1/{path}", body)
        reload = await self._ask(house, "POST", "/-/reload")
        if reload.status != 200:
            self.fault(f"a reload is refused: {reload.body[:200]!r}")
        if self.rand.random() < 0.3:
            copy = {"path": f"{house.folder}/backup-{last}"}
            if (await self._ask(house, "POST", "/api/v1/journal/backup", copy)).status != 200:
                self.fault("no backup can be made")
        self.forgiving = True
        await self._redrive(house, "dead-letters/replay", {"all": True}, ("dead",))
        way = self.rand.choice((every, {"all": True}, {"source": "code"}))
        await self._redrive(house, "events/replay", way, ENDED)
        if not last and self.rand.random() < 0.3:
            await self._ask(house, "POST", "/api/v1/events/replay", {"all": True, "to": "mail", "max": 5})
            await self._ask(house, "POST", "/api/v1/events/discard", {"all": True, "to": "app"})
            await self._ask(house, "POST", "/api/v1/events/discard", {"all": True})
            await self._ask(house, "POST", "/api/v1/dead-letters/rm", {"all": True})

    async def _redrive(self, house: House, path: str, body: dict[str, Any], states: tuple[str, ...]) -> None:
        """Replay many; all the sound ones among them arrive again."""
        wanted = set()
        page = await self._get(house, "events?limit=1000") or {"events": []}
        for row in page["events"]:
            event = self._of(row["id"])
            if event is None or not self.sound(event) or body.get("source", event.source) != event.source:
                continue
            for d in row["deliveries"]:
                whole = path.startswith("events") or (d["destination"], row["id"]) not in self.letters
                meant = "ids" not in body or row["id"] in body["ids"]
                if d["state"] in states and whole and meant:
                    wanted.add((d["destination"], row["id"]))
        before = house.arrivals()
        await self._ask(house, "POST", f"/api/v1/{path}", body)
        await self._arrived(house, before, wanted, f"replayed by {path} {str(body)[:30]}")

    async def _stays(self, house: House) -> None:
        """It is well, drains what can be drained without waiting for what cannot, and has named what is damaged."""
        for probe in ("/livez", "/readyz"):
            if (await self._ask(house, "GET", probe)).status != 200:
                self.fault(f"{probe} fails")
        self.forgiving = True
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await self._ask(house, "POST", "/-/drain?wait=15s")
        if loop.time() - began_s > DRAIN_S:
            self.fault(f"a drain took {loop.time() - began_s:.1f} s")
        if self.brief:
            return
        for event in self.known:
            if event.seqs & self.hurt:
                await self._ask(house, "POST", "/api/v1/events/discard", {"ids": sorted(event.ids)})
        status = await self._get(house, "status")
        if status is not None and all(harm.table in PRECISE for harm in self.harms):
            behind = [row["name"] for row in status["destinations"] if row["pending"] > row["dying"]]
            if behind:
                self.fault(f"nothing can be done about what {behind} is owed")

    def after(self, folder: Path) -> None:
        """What an audit counts when no daemon runs any more."""
        if any(harm.table == b"meta" for harm in self.harms):
            return
        journal = Journal.open(JournalOptions(path=str(folder / "journal")), Clock(), read_only=True)
        try:
            with journal._environment.env.begin() as txn:
                report = audited(View(journal._environment, txn, Clock()))
        finally:
            journal.close()
        off = [row.destination for row in report.rows if not row.balanced]
        if set(off) - self.off:
            self.fault(f"in the end the books of {off} do not balance")
        stays = not self.brief and any(h.seqs and h.table in STAY for h in self.harms)
        if stays and not (report.quarantined or off):
            self.fault("in the end an audit finds nothing wrong")

    def _log(self, house: House, *, last: bool) -> None:
        named: set[int] = set()
        for row in house.lines.rows:
            if row["level"] == "error" and not row["msg"].startswith(SAID):
                self.fault(f"logged: {row}")
            if "seq" in row:
                named.add(row["seq"])
        if self.brief:
            return
        for harm in self.harms:
            blocks = {seq + back for seq in harm.seqs for back in range(-63, 1)}
            if harm.seqs and harm.table in STAY and not named & blocks:
                self.fault("no line names what is damaged")
        if self.blocks_of_keys and not last and not any(row["msg"].startswith(FORGOTTEN) for row in house.lines.rows):
            self.fault("no line tells of damaged keys")


def _destinations(event: Known) -> tuple[str, ...]:
    return {"code": ("app", "mail"), "slow": ("late", "app"), "dull": ("stuck",)}[event.source]
