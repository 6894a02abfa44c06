"""The wall clock steps by a day, forward or back, under the real process and while it is down.

libfaketime shifts what the process takes for the time of day; its monotonic clocks stay true. So repeats, retries and
expiry must go on as if nothing had been, and only signatures that carry a time follow the wall clock.
"""

from __future__ import annotations

import dataclasses
import signal
import sys
import time
from pathlib import Path

from tests.proof.history import Accepted, History, compare, digest, read_or_complain
from tests.proof.load import got_by
from tests.proof.shard import Job, Shard
from tests.support.apps import MovingClock
from tests.support.daemon import Daemon, eventually
from tests.support.senders import github, stripe
from tests.support.sink import Received, Sink

SECRET = "clock-test"
TTL_S = 6.0
BASE_S, FACTOR = 1.0, 2.0
LATE_S = 2.5  # the promise is one second; the rest is for a busy machine
DAY_S = 86_400
PLAIN = (sys.executable, "-m", "sidecar")
STEPS = ("running", "running", "then stopped", "then killed", "while stopped", "while killed")

CONFIG = """
[sources.code]
path = "/code"
verify = "github"
secrets = [{{ value = "clock-test" }}]
destinations = ["app"]
dedup = {{ ttl = "1h" }}
[sources.brief]
path = "/brief"
verify = "github"
secrets = [{{ value = "clock-test" }}]
destinations = ["app"]
dedup = {{ ttl = "6s" }}
[sources.timed]
path = "/timed"
verify = "stripe"
secrets = [{{ value = "clock-test" }}]
destinations = ["app"]
[journal]
path = "journal"
retention = "1h"
[destinations.app]
url = "{url}"
[destinations.app.retry]
base = "1s"
factor = 2.0
jitter = 0
"""


def answer(r: Received) -> int:
    """The backend: takes ``flaky`` at the third attempt, all else at once."""
    return 500 if b"flaky" in r.body and r.attempt < 3 else 200


class Life:
    """One journal under a clock that is moved."""

    def __init__(self, folder: Path, sink: Sink, command: tuple[str, ...]) -> None:
        self.clock = MovingClock(folder)
        self.daemon = Daemon(folder, CONFIG.format(url=sink.url), command=command, env=self.clock.env)
        self.sink = sink
        self.acked: list[Accepted] = []
        self.wrong: list[str] = []
        self.up_at_s = 0.0

    def start(self) -> None:
        """Start it; from when on it may be asked to keep its schedule."""
        self.daemon.start(60)
        self.up_at_s = time.monotonic()

    def send(self, path: str, name: str) -> str:
        """Send a webhook; its event's id."""
        body = b'{"name":"%s"}' % name.encode()
        status, headers, said = self.daemon.post(path, body, github(body, SECRET, name))
        assert status == 200, (status, said)
        event_id = headers["webhook-sidecar-event-id"]
        self.acked.append(Accepted(f"{name} {event_id}" if path == "/brief" else name, event_id, digest(body)))
        return event_id

    def same(self, path: str, name: str, event_id: str, when: str) -> None:
        """A repeat inside its time is the same event."""
        if self.send(path, name) != event_id:
            self.wrong.append(f"{name}, repeated inside its TTL, is another event {when}")

    def step(self, seconds: int, how: str) -> None:
        """Move the clock; restart the process before, after or not at all."""
        number = signal.SIGKILL if "killed" in how else signal.SIGTERM
        if how.startswith("while"):
            self.daemon.stop(number)
        self.clock.move(seconds)
        if how.startswith("then"):
            self.daemon.stop(number)
        if how != "running":
            self.start()

    def signed(self) -> None:
        """Signatures with a time are judged by the wall clock, whatever it says."""
        for at_s, wanted in ((self.clock.now_s(), 200), (self.clock.now_s() - 3600, 401)):
            body = b'{"id":"evt_%d"}' % at_s
            status, headers, _ = self.daemon.post("/timed", body, stripe(body, SECRET, at_s=at_s))
            if status != wanted:
                self.wrong.append(f"a signature of {at_s - self.clock.now_s():+d} s by its wall clock got {status}")
            elif status == 200:
                key = headers["webhook-sidecar-event-id"]
                self.acked.append(Accepted(key, key, digest(body)))

    def timed(self, event_id: str) -> None:
        """The retries came when the schedule says, by a clock that does not step."""
        rows = [r for r in list(self.sink.requests) if r.event_id == event_id]
        for number in (1, 2):
            before_s = max(r.at_s for r in rows if r.attempt == number)  # a killed process may have repeated it
            after_s = min(r.at_s for r in rows if r.attempt == number + 1)
            due_s = before_s + BASE_S * FACTOR ** (number - 1)
            if after_s < due_s - 0.1:
                self.wrong.append(f"attempt {number + 1} came {due_s - after_s:.2f} s early")
            late_s = after_s - max(due_s, self.up_at_s)
            if late_s > LATE_S:
                self.wrong.append(f"attempt {number + 1} came {late_s:.2f} s late")

    def judge(self) -> None:
        """Nothing is lost, and nothing fresh was pruned (one hour is not over)."""
        stored, unreadable = read_or_complain(self.daemon.folder / "journal", self.daemon.folder / "dead-letters")
        brief = {v.event.id for v in stored.events.values() if v.event.source == "brief"}
        for view in stored.events.values():
            if view.event.id in brief:
                view.event.key = f"{view.event.key} {view.event.id}"  # two events of one key, and rightly so
        got = [
            dataclasses.replace(g, key=f"{g.key} {g.event_id}") if g.event_id in brief else g
            for g in got_by("app", self.sink, lambda r: answer(r) == 200)
        ]
        self.wrong += unreadable or compare(History(self.acked, got, stored))
        arrived = {g.event_id for g in got if g.taken}
        self.wrong += [f"{event_id} never arrived" for event_id in stored.events.keys() - arrived]


def story(job: Job, life: Life, how: str, day_s: int) -> None:
    """One life with two steps; ends early when something is wrong."""
    life.start()
    long, brief = life.send("/code", "long"), life.send("/brief", "brief")
    sent_at_s = time.monotonic()
    flaky = life.send("/code", "flaky")
    eventually(lambda: flaky in life.sink.ids(), 20, "the first attempt")
    time.sleep(job.rand.random())
    life.step(day_s, how)
    life.same("/code", "long", long, "after the step")
    if time.monotonic() - sent_at_s < TTL_S - 1:
        life.same("/brief", "brief", brief, "after the step")
    life.signed()
    if life.wrong:
        return
    eventually(lambda: (flaky, 3) in [(r.event_id, r.attempt) for r in list(life.sink.requests)], 20, "attempt 3")
    life.timed(flaky)
    time.sleep(max(0.0, sent_at_s + TTL_S + 0.5 - time.monotonic()))
    if life.send("/brief", "brief") == brief:
        life.wrong.append("a key outlived its TTL")
    life.step(-2 * day_s, "running")
    life.same("/code", "long", long, "after a step the other way")
    life.signed()
    eventually(lambda: life.daemon.pending() == 0, 20, "delivered")
    if life.daemon.stop() != 0:
        life.wrong.append("it did not stop in order")
    life.judge()


def case(job: Job, how: str, forward: bool, command: tuple[str, ...] = PLAIN) -> list[str]:
    """One story; what is wrong about it."""
    folder = job.folder / f"case-{job.count}"
    folder.mkdir()
    day_s = (DAY_S + job.rand.randrange(3600)) * (1 if forward else -1)
    with Sink(answer) as sink:
        life = Life(folder, sink, command)
        try:
            story(job, life, how, day_s)
        except AssertionError as e:
            life.wrong.append(str(e))
        finally:
            life.daemon.kill()
    return [f"seed {job.seed}, a step of {day_s:+d} s, {how}: {w}" for w in life.wrong[:5]]


def run(job: Job) -> None:
    """One step after the other, each way and each moment in turn."""
    every = [(how, forward) for how in dict.fromkeys(STEPS) for forward in (True, False)]
    job.rand.shuffle(every)
    while job.goes_on:
        how, forward = every[job.count % len(every)]
        job.found += case(job, how, forward)
        job.count += 1
        job.note(f"{how}, {'forward' if forward else 'back'}")


def control(job: Job) -> list[str]:
    """Times that follow the wall clock, always or over a restart."""
    bugs = {
        "wall": ("running", "expiry by the wall clock"),
        "restart": ("while stopped", "a restart that takes up the wall clock"),
    }
    for bug, (how, name) in bugs.items():
        command = (sys.executable, str(Path(__file__).with_name("clocks_bugs.py")), bug)
        found = case(job.sub(bug, 60), how, True, command)
        assert any("TTL" in w for w in found), f"{name}: {found}"
    return [name for _, name in bugs.values()]


SHARD = Shard("clocks", ("P6", "P7", "P15"), "steps of a clock", run, control, needs=("faketime",))
