"""Keys from the network: what strangers may cause is bounded, what is here is answered from here."""

import asyncio

import pytest

from sidecar.inbound import keystore
from sidecar.inbound.keystore import (
    BURST,
    KEEP_S,
    MAX_KEYS,
    MAX_WAITING,
    PAUSE_S,
    REFILL_S,
    REFRESH_S,
    FetchFailed,
    KeyStore,
)
from sidecar.inbound.verify import Fetch


class Clock:
    def __init__(self):
        self.s = 1000.0

    def wall_ms(self):
        return int(self.s * 1000)

    def monotonic_s(self):
        return self.s


class Net:
    """Documents by URL; what is held back waits."""

    def __init__(self):
        self.calls, self.down, self.gate = [], False, None

    async def load(self, fetch):
        self.calls.append(fetch.url)
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise FetchFailed("down")
        return b"doc %d" % len(self.calls)


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr(keystore._log, "limited", lambda *a, **k: None)
    net, clock = Net(), Clock()
    return net, clock, KeyStore(net.load, clock)


def fetch(n=1, **more):
    return Fetch(f"k{n}", f"https://k/{n}", **more)


async def ask(store, wanted):
    """The answer to one question; None when nothing newer is to be had."""
    said = asyncio.get_running_loop().create_future()
    return await said if store.ask(wanted, said.set_result) else None


async def test_a_new_key_is_fetched_once_however_many_wait(world):
    """And all of them hear of it."""
    net, _, store = world
    net.gate = asyncio.Event()
    asked = [asyncio.ensure_future(ask(store, fetch())) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    net.gate.set()
    assert await asyncio.gather(*asked) == [True] * 5
    assert net.calls == ["https://k/1"]
    assert store.snapshot["k1"].data == b"doc 1"


async def test_after_a_failure_there_is_a_pause(world):
    """Within it nobody asks again, afterwards somebody may."""
    net, clock, store = world
    net.down = True
    assert await ask(store, fetch()) is False
    net.down = False
    assert await ask(store, fetch()) is False
    assert len(net.calls) == 1
    clock.s += PAUSE_S
    assert await ask(store, fetch()) is True


async def test_strangers_cannot_make_us_fetch_without_bound(world):
    """A bucket for all keys together, filled again with time."""
    net, clock, store = world
    outcomes = [await ask(store, fetch(n)) for n in range(50)]
    assert outcomes == [True] * BURST + [False] * (50 - BURST)
    assert len(net.calls) == BURST
    clock.s += REFILL_S
    assert [await ask(store, fetch(n)) for n in range(100, 103)] == [True, False, False]


async def test_strangers_cannot_make_the_log_remember_without_bound(monkeypatch):
    """What a limit is kept for must not come from a request: each is remembered as long as the process lives."""
    told = set()
    monkeypatch.setattr(keystore._log, "limited", lambda key, *a, **k: told.add(key))
    net, clock = Net(), Clock()
    net.down = True
    store = KeyStore(net.load, clock)
    for n in range(50):
        assert await ask(store, fetch(n)) is False
        clock.s += REFILL_S
    assert len(net.calls) == 50
    assert told == {"keys fetch"}


async def test_only_so_many_requests_wait(world):
    """Beyond that the answer is 503 at once."""
    net, _, store = world
    net.gate = asyncio.Event()
    asked = [asyncio.ensure_future(ask(store, fetch())) for _ in range(MAX_WAITING + 3)]
    done, waiting = await asyncio.wait(asked, timeout=0.05)
    assert [t.result() for t in done] == [False] * 3
    net.gate.set()
    assert await asyncio.gather(*waiting) == [True] * MAX_WAITING


async def test_a_young_document_that_lacks_a_key_is_the_last_word(world):
    """An older one is asked for again."""
    net, clock, store = world
    await ask(store, fetch())
    assert await ask(store, fetch(newer=True)) is None
    clock.s += keystore.SETTLED_S
    assert await ask(store, fetch(newer=True)) is True
    assert store.snapshot["k1"].data == b"doc 2"
    assert len(net.calls) == 2


async def test_only_so_many_keys_are_kept_and_never_at_the_cost_of_a_wanted_one(world):
    """The oldest that a stranger named goes first."""
    _, clock, store = world
    store.want([fetch(0)])
    store.tick()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for n in range(1, MAX_KEYS + 5):
        clock.s += REFILL_S
        assert await ask(store, fetch(n)) is True
    assert len(store.snapshot) == MAX_KEYS
    assert "k0" in store.snapshot
    assert "k1" not in store.snapshot


async def test_so_many_failures_are_remembered(world):
    """The memory of them is bounded too."""
    net, clock, store = world
    net.down = True
    for n in range(MAX_KEYS + 5):
        clock.s += REFILL_S
        await ask(store, fetch(n))
    assert len(store._failed_s) == MAX_KEYS


async def test_keys_are_refreshed_in_the_background_and_forgotten_when_that_fails(world):
    """Old ones still count meanwhile."""
    net, clock, store = world
    store.want([fetch(0)])
    running = asyncio.ensure_future(store.run())
    for _ in range(3):  # the fetch itself waits for nothing
        await asyncio.sleep(0)
    assert "k0" in store.snapshot
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    clock.s += REFRESH_S + 1
    net.down = True
    store.tick()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert store.snapshot["k0"].data == b"doc 1"
    store.tick()
    assert len(net.calls) == 2, "no second try within the pause"
    clock.s += KEEP_S
    store.tick()
    assert "k0" not in store.snapshot
    await asyncio.sleep(0)


async def test_stopping_lets_nothing_run_on(world):
    """A fetch that is under way is cancelled, and who waits for it hears so."""
    net, _, store = world
    net.gate = asyncio.Event()
    running = asyncio.ensure_future(store.run())
    asked = asyncio.ensure_future(ask(store, fetch()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    assert await asked is False
    with pytest.raises(asyncio.CancelledError):
        await running
