"""The composition root: builds the parts, starts them in order, drains them in reverse.

Nothing is decided here but order. The parts are handed to each other as arguments; the admin plane sees
the running daemon through its ``Gateway`` protocol, which ``Daemon`` implements.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import platform
import random
import signal
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence

from sidecar import __version__, log
from sidecar.admin.gateway import AdminOptions, DestinationInfo, ReloadResult, SourceInfo
from sidecar.admin.redrive import remove_left_over, remove_left_over_of
from sidecar.admin.server import AdminServer
from sidecar.clock import Clock
from sidecar.config.load import InvalidConfig, load_settings
from sidecar.config.settings import Settings, TlsFiles, restart_needed
from sidecar.config.watch import Watcher
from sidecar.errors import ConfigError, SidecarError
from sidecar.feed import Feed
from sidecar.inbound.fetching import Fetcher
from sidecar.inbound.handshake_book import HandshakeBook
from sidecar.inbound.keystore import FetchFailed, KeyStore
from sidecar.inbound.receive import Receiver
from sidecar.inbound.server import Listener
from sidecar.inbound.verify import Fetch
from sidecar.journal import Journal
from sidecar.metrics import Metrics
from sidecar.model import State
from sidecar.notify import Notifier
from sidecar.outbound.deadletter import DeadLetters
from sidecar.outbound.dispatch import Dispatcher

__all__ = ["Daemon", "run"]

SWITCH_INTERVAL_S = 0.0001  # LMDB gives up the GIL at each call; at 5 ms the writer would wait that long each time
BEAT_S = 0.5
STOP_S = 20.0  # from SIGTERM to exit, at most, beside drain.accept_for
LET_END_S = 5.0  # for answers and attempts under way when we stop
FATAL_EXIT = 74

_log = log.get_logger("daemon")

Companion = Callable[[], Awaitable[object]]
"""Something that the command line starts beside the daemon (the echo backend)."""


def run(
    config_path: str | None,
    *,
    companion: Companion | None = None,
    show_console: Callable[[str], None] | None = None,
) -> int:
    """Run the daemon until it is told to stop.

    Args:
        config_path: The configuration; None to look in the usual places.
        companion: Started on the daemon's loop before it accepts anything.
        show_console: Called once it accepts webhooks and no token is configured, with the console's address and the
            token made for this process; None when nobody would see it. A secret, so it is in no log.

    Returns:
        The exit code: 0 after an orderly stop, 74 when the journal failed.

    Raises:
        SidecarError: It could not start; the error says why and what to do.
    """
    import uvloop  # noqa: PLC0415 - only the daemon needs it, not the commands that import this module's neighbours

    settings = load_settings(config_path, env=os.environ)
    log.start(settings.log)
    try:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        os.umask(0o077)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # too early: it would end us instead of meaning a reload
        return uvloop.run(Daemon(settings, config_path, show_console=show_console).serve(companion))
    finally:
        log.stop()


class Daemon:
    """The running daemon; implements ``admin.gateway.Gateway``."""

    def __init__(
        self,
        settings: Settings,
        config_path: str | None,
        clock: Clock | None = None,
        *,
        show_console: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.metrics = Metrics()
        self.feed = Feed()
        self.started = False
        self.started_at_ms = self.clock.wall_ms()
        self.draining = False
        self._config_path = config_path
        self._show_console = show_console
        self._stop = asyncio.Event()
        self._now = asyncio.Event()  # a second signal: stop at once
        self._exit_code = 0
        self._hurry = False
        self._beat_s = self.clock.monotonic_s()
        self._drain_started_s = 0.0
        self._accept_timer: asyncio.TimerHandle | None = None
        self._lease_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self._reloading = asyncio.Lock()
        self._tls: ssl.SSLContext | None = None
        self._notifier = Notifier(os.environ)
        self.journal = Journal.open(settings.journal, self.clock, metrics=self.metrics)
        try:
            self.journal.register(*_names(settings))
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
                confirm=lambda source, url: self._keep(self._confirm(source, url)),
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
            self._admin = AdminServer(self, _admin_options(settings))
            self._watcher = Watcher(settings.watched, self._files_changed)
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
            await self._shut_down()
        return self._exit_code

    async def _start(self, loop: asyncio.AbstractEventLoop, companion: Companion | None) -> None:
        settings = self.settings
        self._describe_build()
        self.receiver.configure(settings.sources)
        self.keys.want(_fetches(settings))
        self.dispatcher.configure(settings.destinations, routes=_routes(settings))
        self.journal.start(
            loop,
            on_batch=self.dispatcher.on_batch,
            on_due=self.dispatcher.on_due,
            on_fatal=self._journal_failed,
        )
        await self._admin.start()
        if companion is not None:
            await companion()
        self.dispatcher.start()
        self.metrics.on_scrape.append(self._refresh_metrics)
        self._tls = _tls_context(settings.server.tls)
        await self.listener.start(settings.server.listen, ssl=self._tls)
        self._keep(self._heartbeat())
        self._keep(self.keys.run())
        self._keep(self._watcher.run())
        for warning in settings.warnings:
            _log.warning(warning)
        if not self.journal.was_clean:
            _log.info("the last process did not stop in order; the journal was checked")
            self._keep(self._remove_left_over())
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
        self._notifier.ready(self._doing())
        if settings.admin.token is None:
            self._tell_console()

    def _tell_console(self) -> None:
        if self._show_console is not None and self._admin.console_url:
            self._show_console(self._admin.console_url)

    def _handle_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop, number)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._keep(self._reload_and_tell()))

    def _told_to_stop(self, number: int) -> None:
        if self._stop.is_set():
            self._now.set()  # safe: the journal is crash-safe
            return
        _log.info("stopping", signal=signal.Signals(number).name)
        self._notifier.stopping()
        self._hurry = number == signal.SIGINT  # a person at a terminal: nobody propagates endpoints
        self._stop.set()

    def _journal_failed(self, error: BaseException) -> None:
        del error  # the journal has said it
        self._exit_code = FATAL_EXIT
        self._now.set()
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
        self._cancel_timers()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.listener.close()
        await self.dispatcher.stop()
        await self._fetcher.close()
        await self._admin.close()
        await self.journal.aclose()
        left = _pending(self.journal)
        _log.info("stopped", left_pending=left, exit_code=self._exit_code)
        _deaf()

    async def _wind_down(self) -> None:
        settings, now_s = self.settings, self.clock.monotonic_s
        deadline_s = now_s() + STOP_S
        self._begin_drain()
        if not self._hurry:
            still_s = self._drain_started_s + self._accept_for_s() - now_s()
            if still_s > 0:
                await asyncio.sleep(still_s)
                deadline_s += still_s
        self.receiver.stop_accepting()
        self.listener.stop_accepting()
        await self.listener.drain(LET_END_S)
        if not self._hurry:
            await self.dispatcher.drain(max(0.0, deadline_s - now_s() - LET_END_S))
        await self.dispatcher.stop(LET_END_S)
        left = _pending(self.journal)
        if left and settings.journal.ephemeral:
            _log.error("undelivered events are lost with this volume", left=left)

    # --- drain

    async def drain(self, wait_s: float) -> int:
        """Begin or extend a drain; see ``Gateway.drain``."""
        self._begin_drain()
        loop = asyncio.get_running_loop()
        if self._lease_timer is not None:
            self._lease_timer.cancel()
        self._lease_timer = loop.call_later(max(self.settings.drain.lease_s, wait_s), self._end_drain)
        if wait_s > 0:
            return await self.dispatcher.drain(wait_s)
        return _pending(self.journal)

    def _begin_drain(self) -> None:
        if self.draining:
            return
        self.draining = True
        self._drain_started_s = self.clock.monotonic_s()
        self.listener.refuse_new()
        accept_for_s = self._accept_for_s()
        if accept_for_s > 0:
            loop = asyncio.get_running_loop()
            self._accept_timer = loop.call_later(accept_for_s, self.receiver.stop_accepting)
        else:
            self.receiver.stop_accepting()
        _log.info("draining", accept_for_s=accept_for_s, pending=_pending(self.journal))

    def _end_drain(self) -> None:
        if self._stop.is_set():
            return
        self._cancel_timers()
        self.draining = False
        self.listener.accept_again()
        self.receiver.resume()
        _log.warning("the drain's lease ended without a SIGTERM: accepting again")

    def _accept_for_s(self) -> float:
        return 0.0 if self.settings.journal.ephemeral or self._hurry else self.settings.drain.accept_for_s

    def _cancel_timers(self) -> None:
        for timer in (self._accept_timer, self._lease_timer):
            if timer is not None:
                timer.cancel()
        self._accept_timer = self._lease_timer = None

    # --- reload

    async def reload(self) -> ReloadResult:
        """Read the configuration again and put it in force, or change nothing."""
        async with self._reloading:
            self._notifier.reloading(self.clock.monotonic_s())
            try:
                new = await asyncio.to_thread(load_settings, self._config_path, env=os.environ)
                later = restart_needed(self.settings, new)
                await self._apply(new)
            except (ConfigError, SidecarError, ssl.SSLError, ValueError, OSError) as e:
                problems = e.problems if isinstance(e, ConfigError) else ()
                self.metrics.reload_ok.set(0)
                if isinstance(e, InvalidConfig):
                    self._watcher.watch((*self.settings.watched, *e.watched))
                _log.error("reload refused: the old configuration stays in force", problems=len(problems), error=str(e))
                for problem in problems:
                    _log.error("configuration problem", problem=problem.splitlines()[0])
                self._notifier.ready("a changed configuration was refused: the old one stays in force")
                return ReloadResult(ok=False, problems=problems or (str(e),))
            self._watcher.watch(new.watched)
            self._note_reload()
            _log.info("reloaded", sources=len(new.sources), destinations=len(new.destinations))
            for key in later:
                _log.warning("this change needs a restart", key=key)
            self._notifier.ready(self._doing())
            return ReloadResult(ok=True, restart_needed=tuple(later))

    async def _apply(self, new: Settings) -> None:
        # Everything that can fail comes before anything that shows.
        if new.server.tls is not None and self._tls is not None:
            _tls_context(new.server.tls)
        await self.journal.register_live(*_names(new))
        self.receiver.configure(new.sources, new.server.trusted_proxies)
        self.keys.want(_fetches(new))
        self.dispatcher.configure(new.destinations, routes=_routes(new), max_buffered_bytes=new.max_buffered_bytes)
        token = new.admin.token
        fresh_token = self._admin.configure(token.decode("utf-8", "surrogateescape") if token is not None else None)
        if new.server.tls is not None and self._tls is not None:
            self._tls.load_cert_chain(new.server.tls.cert, new.server.tls.key)
        log.start(new.log)
        self.settings = new
        if fresh_token:
            self._tell_console()

    async def _reload_and_tell(self) -> None:
        await self.reload()

    async def _files_changed(self, names: list[str]) -> None:
        _log.info("watched files changed", files=", ".join(os.path.basename(n) for n in names))
        await self.reload()

    def _doing(self) -> str:
        return f"{len(self.settings.sources)} sources, {len(self.settings.destinations)} destinations"

    def _note_reload(self) -> None:
        self.metrics.reload_ok.set(1)
        self.metrics.reload_time.set(self.clock.wall_ms() / 1000)

    # --- what the admin plane asks

    def loop_beat_ago_s(self) -> float:
        """Seconds since the event loop's last heartbeat."""
        return self.clock.monotonic_s() - self._beat_s

    def masked_headers(self, source: str) -> frozenset[bytes]:
        """Lower-case names of headers that carry this source's secret."""
        return next((s.verifier.masked for s in self.settings.sources if s.name == source), frozenset())

    def refused_since(self, since_ms: int, source: str = "") -> dict[str, int]:
        """Requests refused since then, by reason."""
        return self.receiver.refused_since(since_ms, source)

    def sources(self) -> Sequence[SourceInfo]:
        """The sources in force."""
        return [
            SourceInfo(
                name=s.name,
                path=s.path.decode("ascii", "replace"),
                preset=s.preset,
                scheme=_scheme(self.settings, s.name),
                methods=tuple(sorted(m.decode() for m in s.methods)),
                destinations=s.destinations,
                max_body=s.max_body,
            )
            for s in self.settings.sources
        ]

    def destinations(self) -> Sequence[DestinationInfo]:
        """The destinations in force."""
        return [DestinationInfo(name=d.name, kind=d.kind, url=d.http.url) for d in self.settings.destinations]

    # --- metrics

    def _describe_build(self) -> None:
        self.metrics.build_info.set(
            1, __version__, os.environ.get("WEBHOOK_SIDECAR_REVISION", ""), platform.python_version()
        )
        for kind in ("map_full", "disk_full", "fatal"):
            self.metrics.journal_errors.create(kind)
        self._note_reload()

    def _refresh_metrics(self) -> None:
        m, journal = self.metrics, self.journal
        stats, counters = journal.stats(), journal.counters()
        m.journal_used.set(stats.used_bytes)
        m.journal_capacity.set(stats.capacity_bytes)
        m.journal_disk_free.set(stats.disk_free_bytes)
        for source in self.settings.sources:
            m.dedup_evicted_early.create(source.name)
            for name in source.destinations:
                m.enqueued.create(source.name, name)
        for (source_name, name), n in counters.enqueued.items():
            m.enqueued.set_total(n, source_name, name)
        for source_name, n in journal.dedup_evicted_early().items():
            m.dedup_evicted_early.set_total(n, source_name)
        for lane in self.dispatcher.status():
            for outcome in (State.DELIVERED, State.DEAD, State.DISCARDED, State.REDIRECTED):
                m.settled.set_total(counters.settled.get((lane.name, outcome.word), 0), lane.name, outcome.word)
            m.pending.set(lane.ready, lane.name, "ready")
            m.pending.set(lane.scheduled, lane.name, "scheduled")
            m.pending.set(lane.in_flight, lane.name, "in_flight")
            m.pending.set(lane.dying, lane.name, "dying")
        now_ms = self.clock.wall_ms()
        total_bytes = 0
        totals = self.dead_letters.totals()
        for name in {d.name for d in self.settings.destinations} | set(totals):
            t = totals.get(name)
            m.dead_letters.set(t.count if t else 0, name)
            oldest_ms = t.oldest_ms if t else None
            m.oldest_dead_letter.set(max(0, now_ms - oldest_ms) / 1000 if oldest_ms else 0, name)
            total_bytes += t.bytes if t else 0
        m.dead_letters_bytes.set(total_bytes)
        dropped, suppressed = log.counts()
        m.log_dropped.set_total(dropped)
        m.log_suppressed.set_total(suppressed)

    async def refresh(self) -> None:
        """Bring the gauges up to date that take a look into the journal; asked before each scrape."""
        now_ms = self.journal.clock_ms()
        for name in self.journal.destinations():
            oldest_ms = await self.journal.oldest_pending_ms(name)
            self.metrics.oldest_pending.set(0 if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000, name)

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
        self._keep(self._remove_left_over(event_id))

    async def _remove_left_over(self, event_id: str = "") -> None:
        await (remove_left_over_of(self, event_id) if event_id else remove_left_over(self))

    async def _heartbeat(self) -> None:
        due_s = self.clock.monotonic_s() + BEAT_S
        while True:
            await asyncio.sleep(BEAT_S)
            self._beat_s = self.clock.monotonic_s()
            self.metrics.loop_lag.set(max(0.0, self._beat_s - due_s))
            due_s = self._beat_s + BEAT_S
            if self._notifier.alive_due(self._beat_s) and self._admin.alive():
                self._notifier.alive(self._beat_s)

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a background task failed", error=log.bug_text(error))


def _deaf() -> None:
    """Hear no more signals: everything is closed, and the loop's end would let them kill us, exit code and all."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


def _callback_failed(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log a bug that nobody else caught; the loop's own way is a traceback, whose last line may quote a request."""
    del loop
    error = context.get("exception")
    why = log.bug_text(error) if isinstance(error, BaseException) else str(context.get("message", ""))
    _log.limited("callback", "error", "a callback failed on a bug", error=why)


def _names(settings: Settings) -> tuple[list[str], list[str]]:
    return [s.name for s in settings.sources], [d.name for d in settings.destinations]


def _fetches(settings: Settings) -> list[Fetch]:
    """What the sources surely need from the network."""
    return [fetch for source in settings.sources for fetch in source.verifier.fetches or ()]


def _routes(settings: Settings) -> dict[str, list[str]]:
    return {d.name: [s.name for s in settings.sources if d.name in s.destinations] for d in settings.destinations}


def _scheme(settings: Settings, name: str) -> str:
    verify = settings.config.sources[name].verify
    return verify if isinstance(verify, str) else str(verify.get("preset", verify.get("scheme", "")))


def _admin_options(settings: Settings) -> AdminOptions:
    token = settings.admin.token
    return AdminOptions(
        listen=settings.admin.listen,
        socket=settings.admin.socket,
        token=token.decode("utf-8", "surrogateescape") if token is not None else None,
    )


def _tls_context(files: TlsFiles | None) -> ssl.SSLContext | None:
    if files is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with contextlib.suppress(AttributeError):
        context.options |= ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(files.cert, files.key)
    return context


def _pending(journal: Journal) -> int:
    counters = journal.counters()
    return sum(counters.enqueued.values()) - sum(counters.settled.values())
