"""What every kind of destination promises, run over ``KINDS``. A new kind adds one harness here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import pytest

from sidecar.clock import Clock
from sidecar.model import Delivery, Event, OutcomeKind, format_event_id
from sidecar.outbound.deliver import KINDS, Destination, HttpOptions, Result
from sidecar.outbound.retry import RetryPolicy, judge
from tests.support.backends import free_port, running, silence


class Harness(Protocol):
    """How to set up a backend of one kind."""

    def working(self) -> contextlib.AbstractAsyncContextManager[tuple[Destination, list[tuple[str, bytes]]]]:
        """A backend that takes everything, and what it took: (event id, body)."""

    def silent(self) -> contextlib.AbstractAsyncContextManager[tuple[Destination, asyncio.Event]]:
        """A backend that never confirms, and an event set when something reached it. Its timeout is 0.2 s."""

    def gone(self) -> contextlib.AbstractAsyncContextManager[Destination]:
        """Nobody is there."""


class HttpHarness:
    def make(self, port: int, timeout_s: float = 5.0) -> Destination:
        return KINDS["http"]("app", HttpOptions(url=f"http://127.0.0.1:{port}/", timeout_s=timeout_s), Clock())

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[tuple[Destination, list[tuple[str, bytes]]]]:
        took: list[tuple[str, bytes]] = []
        async with running() as backend:
            answer = backend.script

            async def script(request, writer) -> None:
                took.append((request.values(b"Webhook-Sidecar-Event-Id")[0].decode(), request.body))
                await answer(request, writer)

            backend.script = script
            yield self.make(backend.port), took

    @contextlib.asynccontextmanager
    async def silent(self) -> AsyncIterator[tuple[Destination, asyncio.Event]]:
        async with running(silence) as backend:
            yield self.make(backend.port, 0.2), backend.arrived

    @contextlib.asynccontextmanager
    async def gone(self) -> AsyncIterator[Destination]:
        with free_port() as port:
            yield self.make(port)


HARNESSES: dict[str, Harness] = {"http": HttpHarness()}


@pytest.fixture(params=sorted(KINDS))
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    return HARNESSES[request.param]


def delivery(seq: int = 1, body: bytes = b'{"n":1}') -> Delivery:
    event = Event("orders", ("app",), 1_700_000_000_000, b"POST", b"/in", b"", [(b"Content-Type", b"x/y")], body)
    event.seq, event.id = seq, format_event_id(event.received_at_ms, 7, seq)
    return Delivery(event, "app")


class Trial:
    """One try and everything that ``done`` was called with."""

    def __init__(self, destination: Destination, owed: Delivery) -> None:
        self.results: list[Result] = []
        self.over = asyncio.Event()
        self.handle = destination.attempt(owed, (), self._done)
        self.called_inside_attempt = bool(self.results)

    def _done(self, result: Result) -> None:
        self.results.append(result)
        self.over.set()

    async def outcome(self) -> OutcomeKind:
        await asyncio.wait_for(self.over.wait(), 5)
        await asyncio.sleep(0)
        assert len(self.results) == 1
        assert not self.called_inside_attempt
        return judge(RetryPolicy(), self.results[0]).kind


def test_every_kind_has_a_harness() -> None:
    """A kind of destination without a harness here would be untested."""
    assert HARNESSES.keys() == KINDS.keys()


@pytest.mark.parametrize("body", [b"", b"\0\xff\r\n\r\n", b"x" * 3_000_000], ids=["empty", "binary", "large"])
async def test_a_confirmed_delivery_carries_event_id_and_exact_bytes(harness: Harness, body: bytes) -> None:
    """A confirmed delivery is judged delivered, and the backend has the event's id and body as they were."""
    async with harness.working() as (destination, took):
        owed = delivery(body=body)
        assert await Trial(destination, owed).outcome() is OutcomeKind.DELIVERED
        await destination.close()
    assert took == [(owed.event.id, body)]


async def test_many_at_once_arrive_once_each(harness: Harness) -> None:
    """More tries than slots: every one is made, once."""
    async with harness.working() as (destination, took):
        trials = [Trial(destination, delivery(seq, b"%d" % seq)) for seq in range(100)]
        assert {await trial.outcome() for trial in trials} == {OutcomeKind.DELIVERED}
        await destination.close()
    assert sorted(int(body) for _, body in took) == list(range(100))


async def test_nobody_there_uses_no_attempt(harness: Harness) -> None:
    """What never reached a backend is unreachable, with a text that says why."""
    async with harness.gone() as destination:
        trial = Trial(destination, delivery())
        assert await trial.outcome() is OutcomeKind.UNREACHABLE
        assert trial.results[0].error
        await destination.close()


async def test_no_confirmation_in_time_is_a_failed_attempt_and_not_early(harness: Harness) -> None:
    """Sent and not confirmed in time: retryable; the time allowed was really given."""
    async with harness.silent() as (destination, _):
        trial = Trial(destination, delivery())
        assert await trial.outcome() is OutcomeKind.RETRYABLE
        assert 200 <= trial.results[0].duration_ms < 1000
        await destination.close()


async def test_cancel_interrupts_at_once_and_only_once(harness: Harness) -> None:
    """Cancelling reports an interruption before it returns; cancelling again does nothing."""
    async with harness.silent() as (destination, arrived):
        trial = Trial(destination, delivery())
        await arrived.wait()
        trial.handle.cancel()
        assert [result.failure for result in trial.results] == ["interrupted"]
        trial.handle.cancel()
        assert await trial.outcome() is OutcomeKind.INTERRUPTED
        await destination.close()


async def test_cancel_before_the_connection_is_there(harness: Harness) -> None:
    """A try can be cancelled in the same breath it was begun in."""
    async with harness.silent() as (destination, arrived):
        trial = Trial(destination, delivery())
        trial.handle.cancel()
        assert await trial.outcome() is OutcomeKind.INTERRUPTED
        await destination.close()
        assert not arrived.is_set()


async def test_cancel_after_the_end_changes_nothing(harness: Harness) -> None:
    """A delivered event stays delivered."""
    async with harness.working() as (destination, _):
        trial = Trial(destination, delivery())
        assert await trial.outcome() is OutcomeKind.DELIVERED
        trial.handle.cancel()
        assert await trial.outcome() is OutcomeKind.DELIVERED
        await destination.close()


async def test_close_interrupts_what_runs_and_what_waits(harness: Harness) -> None:
    """Closing ends every try, those in line too, and what is tried afterwards."""
    async with harness.silent() as (destination, arrived):
        trials = [Trial(destination, delivery(seq)) for seq in range(40)]
        await arrived.wait()
        await destination.close()
        assert all(len(trial.results) == 1 for trial in trials)
        trials.append(Trial(destination, delivery(99)))
        assert {await trial.outcome() for trial in trials} == {OutcomeKind.INTERRUPTED}
        await destination.close()
