"""The composition root: builds the parts, starts them in order, drains them in reverse.

Nothing is decided here but order. The parts are handed to each other as arguments; the admin plane sees
the running daemon through its ``Gateway`` protocol, which ``Daemon`` implements.
"""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import random
import signal
import ssl
from collections.abc import Awaitable, Callable, Sequence

from sidecar import __version__, log
from sidecar.admin.gateway import DestinationInfo, ReloadResult, SourceInfo
from sidecar.admin.redrive import remove_left_over, remove_left_over_of
from sidecar.admin.server import AdminServer
from sidecar.admin.views import secret_headers
from sidecar.clock import Clock
from sidecar.config.settings import Settings
from sidecar.config.watch import Watcher
from sidecar.daemon import extracts, files
from sidecar.daemon.background import Background
from sidecar.daemon.drain import Drain
from sidecar.daemon.gauges import Gauges
from sidecar.daemon.heartbeat import Heartbeat
from sidecar.daemon.reload import Reload, doing
from sidecar.daemon.tls import answer_with, tls_context
from sidecar.feed import Feed
from sidecar.inbound.fetching import Fetcher
from sidecar.inbound.handshake_book import HandshakeBook
from sidecar.inbound.keystore import FetchFailed, KeyStore
from sidecar.inbound.receive import Receiver
from sidecar.inbound.server import Listener
from sidecar.journal import Journal
from sidecar.metrics import Metrics
from sidecar.notify import Notifier
from sidecar.outbound.deadletter import DeadLetters
from sidecar.outbound.dispatch import Dispatcher

__all__ = ["Companion", "Daemon"]

STOP_S = 20.0  # from SIGTERM to exit, at most, beside drain.accept_for
LET_END_S = 5.0  # for answers and attempts under way when we stop
FATAL_EXIT = 74
HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_log = log.get_logger("daemon")

Companion = Callable[[], Awaitable[object]]
"""Something that the command line starts beside the daemon (the echo backend)."""


class Daemon:
    """The running daemon; implements ``admin.gateway.Gateway``."""

    def __init__(
        self,
        settings: Settings,
        config_path: str | None,
        clock: Clock | None = None,
        *,
        show_link: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.metrics = Metrics()
        self.feed = Feed()
        self.started = False
        self.started_at_ms = self.clock.wall_ms()
        self._show_link = show_link
        self._stop = asyncio.Event()
        self._now = asyncio.Event()  # a second signal: stop at once
        self._exit_code = 0
        self._hurry = False
        self._deaf = False  # everything is closed: signals mean nothing any more
        self._background = Background()
        self._tls: ssl.SSLContext | None = None
        self._notifier = Notifier(os.environ)
        files.demand(settings)
        self.journal = Journal.open(settings.journal, self.clock, metrics=self.metrics)
        try:
            self.journal.register(*extracts.names(settings))
            self.dead_letters = DeadLetters(settings.dead_letters, self.journal.mac_key)
            self.dead_letters.open()
            self.handshakes = HandshakeBook(settings.journal.path, self.clock)
            self._fetcher = Fetcher()
            self.keys = KeyStore(self._fetcher.load, self.clock)
            self.receiver = Receiver(
                self.journal,
                self.metrics,
                self.feed,
                self.clock,
                trusted_proxies=settings.server.trusted_proxies,
                on_revived=self._revived,
                keys=self.keys,
                book=self.handshakes,
                confirm=lambda source, url: self._background.keep(self._confirm(source, url)),
            )
            self.dispatcher = Dispatcher(
                self.journal,
                self.metrics,
                self.feed,
                self.clock,
                max_buffered_bytes=settings.max_buffered_bytes,
                deadletters=self.dead_letters,
                resign=self.receiver.resign,
                rand=random.random,
            )
            self.listener = Listener(settings.server.options, self.receiver, self.metrics, self.clock)
            self._admin = AdminServer(self, extracts.admin_options(settings))
            self._gauges = Gauges(
                self.metrics, self.journal, self.dispatcher, self.dead_letters, self.clock, self._in_force
            )
            self._drain = Drain(self.listener, self.receiver, self.dispatcher, self._owed, self.clock)
            self._heart = Heartbeat(self.metrics, self._notifier, self._admin.alive, self.clock, self._look)
            self._watcher = Watcher(settings.watched, self._files_changed)
            self._reload = Reload(
                config_path, self._in_force, self._apply, self._watcher, self._notifier, self.metrics, self.clock
            )
        except BaseException:
            self.journal.close()
            raise

    # --- life

    async def serve(self, companion: Companion | None = None) -> int:
        """Start, wait for the end, stop; the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_callback_failed)
        self._handle_signals(loop)
        try:
            await self._start(loop, companion)
            await self._stop.wait()
        finally:
            try:
                await self._shut_down()
            finally:
                self._deaf = True
        return self._exit_code

    async def _start(self, loop: asyncio.AbstractEventLoop, companion: Companion | None) -> None:
        settings = self.settings
        self._describe_build()
        self.receiver.configure(settings.sources)
        self.keys.want(extracts.fetches(settings))
        self.dispatcher.configure(settings.destinations, routes=extracts.routes(settings))
        self.journal.start(
            loop,
            on_batch=self.dispatcher.on_batch,
            on_due=self.dispatcher.on_due,
            on_withdrawn=self.dispatcher.on_withdrawn,
            on_fatal=self._journal_failed,
        )
        await self._admin.start()
        if companion is not None:
            await companion()
        self.dispatcher.start()
        self.metrics.on_scrape.append(self._gauges.refresh)
        tls = self.settings.server.tls  # a reload may have come meanwhile
        self._tls = tls_context(tls) if tls is not None else None
        await self.listener.start(settings.server.listen, ssl=self._tls)
        self._background.keep(self._heart.run())
        self._background.keep(self.keys.run())
        self._background.keep(self._watcher.run())
        for warning in settings.warnings:
            _log.warning(warning)
        if not self.journal.was_clean:
            _log.info("the last process did not stop in order; the journal was checked")
            self._background.keep(self._remove_left_over())
        stats = self.journal.stats()
        _log.info(
            "ready",
            version=__version__,
            webhooks=", ".join(self.listener.addresses),
            admin=", ".join(self._admin.addresses),
            sources=len(settings.sources),
            destinations=len(settings.destinations),
            journal=stats.path,
            used_bytes=stats.used_bytes,
        )
        gc.collect()
        gc.freeze()
        self.started = True
        self._notifier.ready(doing(settings))
        if settings.admin.token is None:
            self._tell_link()

    async def _look(self) -> None:
        await self.listener.look()
        await self._admin.look()

    def _tell_link(self) -> None:
        if self._show_link is not None and self._admin.front_url:
            self._show_link(self._admin.front_url)

    def _handle_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not loop.add_signal_handler: at its end uvloop gives them back to the kernel, and a late one would kill us.
        def hear(number: int, _: object) -> None:
            if not self._deaf:
                loop.call_soon_threadsafe(self._heard, number)

        for number in HEARD:
            signal.signal(number, hear)

    def _heard(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._background.keep(self._reload_and_tell())
        else:
            self._told_to_stop(number)

    def _told_to_stop(self, number: int) -> None:
        if self._stop.is_set():
            self._now.set()  # safe: the journal is crash-safe
            return
        _log.info("stopping", signal=signal.Signals(number).name)
        self._notifier.stopping()
        self._hurry = number == signal.SIGINT  # a person at a terminal: nobody propagates endpoints
        self._drain.final = True
        self._stop.set()

    def _journal_failed(self, error: BaseException) -> None:
        del error  # the journal has said it
        self._exit_code = FATAL_EXIT
        self._now.set()
        self._drain.final = True
        self._stop.set()

    async def _shut_down(self) -> None:
        if self.started and not self._now.is_set():
            orderly: asyncio.Future[None] = asyncio.ensure_future(self._wind_down())
            at_once: asyncio.Future[bool] = asyncio.ensure_future(self._now.wait())
            await asyncio.wait((orderly, at_once), return_when=asyncio.FIRST_COMPLETED)
            for task in (orderly, at_once):
                task.cancel()
            await asyncio.wait((orderly, at_once))
            if not orderly.cancelled():
                orderly.result()
        self._drain.cancel_timers()
        await self._background.stop()
        await self.listener.close()
        await self.dispatcher.stop()
        await self._fetcher.close()
        await self._admin.close()
        await self.journal.aclose()
        if self.started:  # else whoever called says why it could not start, with the exit code that goes with it
            _log.info("stopped", left_pending=self._owed(), exit_code=self._exit_code)

    async def _wind_down(self) -> None:
        settings, now_s = self.settings, self.clock.monotonic_s
        deadline_s = now_s() + STOP_S
        self._drain.begin(self._accept_for_s())
        if not self._hurry:
            still_s = self._drain.started_s + self._accept_for_s() - now_s()
            if still_s > 0:
                await asyncio.sleep(still_s)
                deadline_s += still_s
        self.receiver.stop_accepting()
        self.listener.stop_accepting()
        await self.listener.drain(LET_END_S)
        if not self._hurry:
            await self.dispatcher.drain(max(0.0, deadline_s - now_s() - LET_END_S))
        await self.dispatcher.stop(LET_END_S)
        left = self._owed()
        if left and settings.journal.ephemeral:
            _log.error("undelivered events are lost with this volume", left=left)

    # --- drain

    @property
    def draining(self) -> bool:
        """Whether a drain is on: from its request or SIGTERM until its lease ends."""
        return self._drain.on

    async def drain(self, wait_s: float) -> int:
        """Begin or extend a drain; see ``Gateway.drain``."""
        lease_s = self.settings.drain.lease_s
        return await self._drain.lease(wait_s, accept_for_s=self._accept_for_s(), lease_s=lease_s)

    def _accept_for_s(self) -> float:
        return 0.0 if self.settings.journal.ephemeral or self._hurry else self.settings.drain.accept_for_s

    # --- reload

    async def reload(self) -> ReloadResult:
        """Read the configuration again and put it in force, or change nothing."""
        return await self._reload.run()

    def _in_force(self) -> Settings:
        return self.settings

    async def _apply(self, new: Settings) -> None:
        # Everything that can fail comes before anything that shows; of what shows, only the first may refuse.
        tls = tls_context(new.server.tls) if new.server.tls is not None and self._tls is not None else None
        files.demand(new)
        destinations = self.dispatcher.prepare(new.destinations)
        await self.journal.register_live(*extracts.names(new))
        self.receiver.configure(new.sources, new.server.trusted_proxies)
        self.listener.configure(new.server.options.authorities)
        self.keys.want(extracts.fetches(new))
        self.dispatcher.take_over(destinations, routes=extracts.routes(new), max_buffered_bytes=new.max_buffered_bytes)
        fresh_token = self._admin.configure(extracts.token(new))
        if tls is not None and self._tls is not None:
            answer_with(self._tls, tls)
        log.start(new.log)
        self.settings = new
        if fresh_token:
            self._tell_link()

    async def _reload_and_tell(self) -> None:
        await self.reload()

    async def _files_changed(self, names: list[str]) -> None:
        _log.info("watched files changed", files=", ".join(os.path.basename(n) for n in names))
        self._background.keep(self._reload_and_tell())  # on its own: a bug in it must not end the watch

    # --- what the admin plane asks

    def loop_beat_ago_s(self) -> float:
        """Seconds since the event loop's last heartbeat."""
        return self._heart.beat_ago_s()

    def masked_headers(self, source: str) -> frozenset[bytes]:
        """Lower-case names of headers that carry this source's secret."""
        return secret_headers({s.name: s.verifier.masked for s in self.settings.sources}, source)

    def refused_since(self, since_ms: int, source: str = "") -> dict[str, int]:
        """Requests refused since then, by reason."""
        return self.receiver.refused_since(since_ms, source)

    def sources(self) -> Sequence[SourceInfo]:
        """The sources in force."""
        return extracts.sources(self.settings)

    def destinations(self) -> Sequence[DestinationInfo]:
        """The destinations in force."""
        return extracts.destinations(self.settings)

    # --- metrics

    def _owed(self) -> int:
        return self.journal.counters().owed

    def _describe_build(self) -> None:
        self.metrics.build_info.set(
            1, __version__, os.environ.get("WEBHOOK_SIDECAR_REVISION", ""), platform.python_version()
        )
        for kind in ("map_full", "disk_full", "fatal"):
            self.metrics.journal_errors.create(kind)
        self._reload.note()

    async def refresh(self) -> None:
        """Bring the gauges up to date that take a look into the journal; asked before each scrape."""
        await self._gauges.look()

    # --- on the side

    async def _confirm(self, source: str, url: str) -> None:
        """Call the address that confirms a subscription; its answer only matters to the log."""
        try:
            await self._fetcher.get(url)
        except FetchFailed as error:
            _log.error("a subscription could not be confirmed", source=source, error=str(error))
        else:
            _log.info("a subscription is confirmed", source=source)

    def _revived(self, event_id: str) -> None:
        """A repeat made dead deliveries of an event pending again: their letters have had their time."""
        self._background.keep(self._remove_left_over(event_id))

    async def _remove_left_over(self, event_id: str = "") -> None:
        await (remove_left_over_of(self, event_id) if event_id else remove_left_over(self))


def _callback_failed(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log a bug that nobody else caught; the loop's own way is a traceback, whose last line may quote a request."""
    del loop
    error = context.get("exception")
    why = log.bug_text(error) if isinstance(error, BaseException) else str(context.get("message", ""))
    _log.limited("callback", "error", "a callback failed on a bug", error=why)
