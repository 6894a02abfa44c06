"""The one reader thread: short read transactions, lanes' windows before people's look-ups.

Longer scans come back for another slice. The event loop never touches LMDB: a cold page would block it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from sidecar.clock import Clock
from sidecar.journal.environment import Environment
from sidecar.journal.view import View

__all__ = ["Reader", "Scan"]


class Scan(Protocol):
    """A long look-up, done in slices."""

    def step(self, view: View) -> bool:
        """Look on until the view's time is up; True when finished."""
        ...

    def result(self) -> Any:
        """What was found."""
        ...


class _Job:
    __slots__ = ("future", "run", "scan")

    def __init__(self, run: Callable[[View], Any] | None, scan: Scan | None, future: asyncio.Future[Any]) -> None:
        self.run, self.scan, self.future = run, scan, future


class Reader:
    """The thread and its two queues."""

    def __init__(self, environment: Environment, clock: Clock, on_corrupt: Callable[[int], None]) -> None:
        self._environment = environment
        self._clock = clock
        self._on_corrupt = on_corrupt
        self._first: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._second: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._tokens: queue.SimpleQueue[bool] = queue.SimpleQueue()  # False ends the thread
        self._thread = threading.Thread(target=self._run, name="journal-reader", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._known_corrupt: set[int] = set()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the thread; futures are resolved on the loop."""
        self._loop = loop
        self._thread.start()

    def read(self, run: Callable[[View], Any], *, lane: bool = False) -> asyncio.Future[Any]:
        """Run one short look-up in a read transaction."""
        return self._submit(_Job(run, None, self._future()), lane=lane)

    def scan(self, scan: Scan) -> asyncio.Future[Any]:
        """Run a long look-up in slices."""
        return self._submit(_Job(None, scan, self._future()), lane=False)

    def close(self) -> None:
        """End the thread; what is queued is dropped."""
        self._tokens.put(False)
        if self._thread.is_alive():
            self._thread.join()

    def _future(self) -> asyncio.Future[Any]:
        assert self._loop is not None
        return self._loop.create_future()

    def _submit(self, job: _Job, *, lane: bool) -> asyncio.Future[Any]:
        (self._first if lane else self._second).put(job)
        self._tokens.put(True)
        return job.future

    def _run(self) -> None:
        while self._tokens.get():
            try:
                job = self._first.get_nowait()
            except queue.Empty:
                job = self._second.get_nowait()
            try:
                self._step(job)
            except Exception as e:  # noqa: BLE001 - whoever asked is told; the thread goes on
                self._answer(job, None, e)

    def _step(self, job: _Job) -> None:
        with self._environment.env.begin(buffers=True) as txn:
            view = View(self._environment, txn, self._clock)
            if job.scan is not None:
                done, result = job.scan.step(view), None
            else:
                assert job.run is not None
                done, result = True, job.run(view)
        for seq in view.corrupt:
            if seq not in self._known_corrupt:
                self._known_corrupt.add(seq)
                self._on_corrupt(seq)
        if not done:
            self._second.put(job)
            self._tokens.put(True)
        else:
            self._answer(job, job.scan.result() if job.scan is not None else result, None)

    def _answer(self, job: _Job, result: Any, error: Exception | None) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, job.future, result, error)


def _resolve(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():  # whoever asked has gone
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
