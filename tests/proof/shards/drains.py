"""SIGTERM at a random moment under load, left alone, hurried, or killed in the middle: the daemon's last seconds.

Six senders and three backends (one that takes, one that is slow, one that fails and refuses) keep it busy. Whatever ends
it, a second life on the same journal delivers what the first one still owed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sidecar.model import State
from sidecar.outbound.retry import RetryPolicy
from tests.proof.history import Accepted, Got, History, Stored, compare, read_or_complain
from tests.proof.load import Load, chance, got_by, source
from tests.proof.shard import Job, Shard
from tests.support.daemon import Daemon
from tests.support.sink import Received, Sink

CONFIG = """
{source}
[drain]
accept_for = "{accept_for}"
[journal]
path = "journal"
max_size = "256MiB"
[destinations.fast]
url = "{fast}"
concurrency = 4
[destinations.slow]
url = "{slow}"
concurrency = 16
[destinations.bad]
url = "{bad}"
concurrency = 4
[destinations.bad.retry]
base = "100ms"
max_attempts = 4
"""

POLICIES = {"bad": RetryPolicy(base_s=0.1)}
UNREADY_S = 1.0  # "at once", on a busy machine
STOP_S = 20.0
SLACK_S = 5.0  # of the exit, on a busy machine
SLOW_S = 0.1
AFTER_S = 60.0
CONTROL_DRAINS = 25
ENDS = ("alone", "alone", "kill", "kill", "twice", "reload", "early")
PLAIN = (sys.executable, "-m", "sidecar")


def takes(r: Received) -> bool:
    """The bad backend: whether it takes this attempt."""
    return chance(r) < 0.5


def bad(r: Received) -> int:
    """The bad backend: 200, 500, or now and then 400."""
    return 200 if takes(r) else 400 if chance(r) > 0.97 else 500


class World:
    """The backends of one case, and what everybody knows of it."""

    def __init__(self, folder: Path, accept_for: str, command: tuple[str, ...]) -> None:
        self.sinks = {"fast": Sink(), "slow": Sink(delay_s=SLOW_S), "bad": Sink(bad)}
        urls = {name: sink.url for name, sink in self.sinks.items()}
        text = CONFIG.format(source=source('["fast", "slow", "bad"]'), accept_for=accept_for, **urls)
        self.daemon = Daemon(folder, text, command=command)
        self.accept_for_s = {"0s": 0.0, "300ms": 0.3, "1s": 1.0}[accept_for]
        self.acked: list[Accepted] = []
        self.wrong: list[str] = []

    def got(self) -> list[Got]:
        """Everything that arrived."""
        took: dict[str, Callable[[Received], bool]] = {"bad": takes}
        return [g for n, sink in self.sinks.items() for g in got_by(n, sink, took.get(n, lambda _: True))]

    def look(self) -> Stored:
        """Hold all sides against each other, now that no process runs."""
        stored, wrong = read_or_complain(self.daemon.folder / "journal", self.daemon.folder / "dead-letters")
        self.wrong += wrong or compare(History(self.acked, self.got(), stored, POLICIES))
        return stored

    def close(self) -> None:
        """End everything."""
        self.daemon.kill()
        for sink in self.sinks.values():
            sink.close()


def unready(world: World, from_s: float) -> None:
    """Wait for the 503 that takes it out of the Service."""
    while time.monotonic() < from_s + UNREADY_S:
        try:
            if world.daemon.admin("GET", "/readyz", timeout_s=5)[0] == 503:
                return
        except OSError:  # it is through already
            return
        time.sleep(0.01)
    world.wrong.append(f"{UNREADY_S} s after SIGTERM it still calls itself ready")


def end(job: Job, world: World, how: str) -> int | None:
    """SIGTERM and what comes after it; the exit code, None when it never came."""
    process = world.daemon.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    began_s = time.monotonic()
    if how == "kill":
        time.sleep(job.rand.random() * job.rand.choice((0.1, 0.5, 2.0)))
        process.kill()
    elif how == "twice":
        time.sleep(job.rand.random() * 0.5)
        process.send_signal(signal.SIGTERM)
    elif how == "reload":
        unready(world, began_s)
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
            time.sleep(job.rand.random() * 0.3)
    elif how == "alone":
        unready(world, began_s)
    limit_s = world.accept_for_s + STOP_S + SLACK_S
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        world.wrong.append(f"{limit_s:.0f} s after SIGTERM it still runs:\n{world.daemon.tail(3)}")
        return None
    job.note("ms until it was gone", round((time.monotonic() - began_s) * 1000))
    return code


def first_life(job: Job, world: World, how: str) -> None:
    """Load, the end, and what it left."""
    world.daemon.launch()
    if how == "early":  # while it starts; before Python listens to signals it just ends, and has taken nothing
        time.sleep(job.rand.random() * 0.8)
    else:
        world.daemon.wait_ready(60)
    with Load(world.daemon.port, f"a{job.count}", pause_s=0.02) as load:
        if how != "early":
            time.sleep(0.1 + job.rand.random() * 0.9)
        told_s = time.monotonic()
        code = end(job, world, how)
        load.stop()
    world.daemon.process = None if code is not None else world.daemon.process
    world.acked += load.acked
    job.note("acknowledged", len(load.acked))
    stored = world.look()
    wanted = {"kill": (0, -signal.SIGKILL), "early": (0, -signal.SIGTERM)}.get(how, (0,))
    if code is not None and code not in wanted:
        world.wrong.append(f"exit {code}:\n{world.daemon.tail(3)}")
    if how in ("alone", "reload"):
        in_flight = [u.key for u in load.unanswered if u.sent_at_s < told_s]
        if in_flight:
            world.wrong.append(f"requests in flight at SIGTERM got no answer: {in_flight[:3]}")
        world.wrong += unsettled(world, stored)
    if how != "early" and not load.acked:
        world.wrong.append("nothing was acknowledged: there was no load")


def unsettled(world: World, stored: Stored) -> list[str]:
    """After an orderly end what a backend took is settled: no attempt was given up, and no settlement left behind."""
    taken = {(g.destination, g.event_id) for g in world.got() if g.taken}
    left = [
        f"{d.destination} took {view.event.id}, which is still {d.state.word} after an orderly end"
        for view in stored.events.values()
        for d in view.deliveries
        if d.state is not State.DELIVERED and (d.destination, view.event.id) in taken
    ]
    return left[:3]


def second_life(world: World, how: str) -> None:
    """Another start: what was owed is delivered."""
    dirty = len(world.daemon.logged("the last process did not stop in order; the journal was checked"))
    world.sinks["slow"].delay_s = 0.0
    world.daemon.start(60)
    if how in ("alone", "reload"):
        dirty -= len(world.daemon.logged("the last process did not stop in order; the journal was checked"))
        if dirty:
            world.wrong.append("an orderly end left a journal that had to be checked")
    until_s = time.monotonic() + AFTER_S
    while any(world.daemon.pending(name) for name in world.sinks):
        if time.monotonic() > until_s:
            world.wrong.append(f"still owed after {AFTER_S:.0f} s: {world.daemon.api('status')['destinations']}")
            break
        time.sleep(0.05)
    if world.daemon.stop() != 0:
        world.wrong.append("an idle daemon did not end with 0")
    stored = world.look()
    lost = {a.event_id for a in world.acked} - stored.events.keys()
    open_ = [v.event.id for v in stored.events.values() if any(d.state.is_open for d in v.deliveries)]
    if lost or open_:
        world.wrong.append(f"lost {sorted(lost)[:3]}, still open {open_[:3]}")


def case(job: Job, how: str, command: tuple[str, ...] = PLAIN) -> list[str]:
    """One drain; what is wrong about it."""
    folder = job.folder / f"case-{job.count}"
    folder.mkdir()
    accept_for = job.rand.choice(("0s", "0s", "300ms", "1s"))
    world = World(folder, accept_for, command)
    try:
        first_life(job, world, how)
        if not world.wrong:
            second_life(world, how)
        if "Traceback" in world.daemon.log.read_text(errors="replace"):
            world.wrong.append(f"a traceback:\n{world.daemon.tail(8)}")
    except AssertionError as e:
        world.wrong.append(str(e))
    finally:
        world.close()
    job.note(how)
    return [f"seed {job.seed}, {how}, accept_for {accept_for}: {w}" for w in world.wrong[:5]]


def run(job: Job) -> None:
    """One drain after the other."""
    ends = list(ENDS)
    job.rand.shuffle(ends)
    while job.goes_on:
        job.found += case(job, ends[job.count % len(ends)])
        job.count += 1


def control(job: Job) -> list[str]:
    """Three ways to leave in a hurry."""
    bugs = {
        "no_join": "exits before the writer is joined",
        "cut": "cuts off requests in flight",
        "still_ready": "ready during a drain",
    }
    for bug, name in bugs.items():
        attempt = job.sub(bug, 60)
        command = (sys.executable, str(Path(__file__).with_name("drains_bugs.py")), bug)
        while not case(attempt, "alone", command):
            attempt.count += 1
            assert attempt.count < CONTROL_DRAINS, f"{name}: nothing was wrong after {attempt.count} drains"
    return list(bugs.values())


SHARD = Shard("drains", ("P1", "P6", "P17"), "drains", run, control, weight=2.0)
