"""``/api/v1``: one row of ``ROUTES`` for each endpoint, and what it does.

Whoever comes here has been let in by the server. Errors are ``ApiError``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

from sidecar.admin import commands, queries, redrive
from sidecar.admin.filters import BulkRequest, FilterError, filters_from, parse_when_ms, rfc3339
from sidecar.admin.gateway import Gateway
from sidecar.admin.reply import ApiError, Call, Reply, Stream, json_reply
from sidecar.admin.status import status
from sidecar.admin.views import journal_row, mask_url
from sidecar.log import safe_text

__all__ = ["Api", "PREFIX", "ROUTES"]

PREFIX = "/api/v1/"
_ALIVE_S = 15.0  # an idle stream says so, and finds out that its reader has gone
_GATHER_S = 0.05  # what a tail waits for more after it wrote: a write costs more than its rows

MAX_WINDOW_S = 24 * 3600.0
"""How long a secret may be expected."""

T = TypeVar("T")
Answer = Reply | Stream
Handler = Callable[["Api", Call, str], Awaitable[Answer]]


class HandshakeRequest(msgspec.Struct, frozen=True):
    """What to do with a source's secrets: expect one for so long, or forget the one of this id."""

    for_s: float = 0.0
    forget: str = ""


class Api:
    """The endpoints, for one daemon."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def stop(self) -> None:
        """End the streams."""
        self._gateway.feed.end()

    def allowed(self, path: str) -> tuple[str, ...]:
        """The methods of a path below ``PREFIX``; none when there is no such endpoint."""
        route, _ = _find(path)
        return tuple(sorted(ROUTES[route])) if route is not None else ()

    async def answer(self, call: Call) -> Answer:
        """Answer one call to a path and method that ``allowed`` names.

        Raises:
            ApiError: It is refused.
        """
        route, name = _find(call.path)
        assert route is not None
        if not self._gateway.started:
            raise ApiError(503, "unavailable", "still starting")
        try:
            return await ROUTES[route][call.method](self, call, name)
        except FilterError as e:
            raise ApiError(400, "bad_request", str(e)) from None
        except queries.Ambiguous as e:
            raise ApiError(409, "ambiguous", str(e)) from None
        except msgspec.ValidationError as e:
            raise ApiError(400, "bad_request", safe_text(str(e))) from None

    # --- looking

    async def status(self, call: Call, name: str) -> Answer:
        """How everything is doing."""
        del call, name
        return json_reply(await status(self._gateway))

    async def events(self, call: Call, name: str) -> Answer:
        """A page of events."""
        del name
        cursor, limit = _number(call, "cursor", 0), _number(call, "limit", 50)
        return json_reply(await queries.events(self._gateway, filters_from(call.params), cursor=cursor, limit=limit))

    async def event(self, call: Call, name: str) -> Answer:
        """One event, by our id, its beginning, or the provider's id."""
        del call
        found = await queries.event(self._gateway, name)
        if found is None:
            raise ApiError(404, "not_found", "no event of this id or key is in the journal")
        return json_reply(found)

    async def event_body(self, call: Call, name: str) -> Answer:
        """The raw body, never shown by a browser."""
        del call
        view = await queries.find_event(self._gateway, name)
        if view is None:
            raise ApiError(404, "not_found", "no event of this id or key is in the journal")
        disposition = ("Content-Disposition", f'attachment; filename="{view.event.id}.bin"')
        return Reply(200, view.event.body, "application/octet-stream", (disposition,))

    async def dead_letters(self, call: Call, name: str) -> Answer:
        """A page of dead letters, newest events first."""
        del name
        cursor, limit = call.params.get("cursor", ""), _number(call, "limit", 100)
        filters = filters_from(call.params)
        return json_reply(await queries.dead_letters(self._gateway, filters, cursor=cursor, limit=limit))

    async def dead_letter(self, call: Call, name: str) -> Answer:
        """The dead letters of one event."""
        found = await queries.dead_letter(self._gateway, name, call.params.get("destination", ""))
        if not found:
            raise ApiError(404, "not_found", "no dead letter of this id")
        return json_reply({"dead_letters": found})

    async def audit(self, call: Call, name: str) -> Answer:
        """Whether the books balance."""
        del name
        full = call.params.get("full", "") in {"1", "true"}
        return json_reply(await queries.audit(self._gateway, full=full))

    async def journal_stats(self, call: Call, name: str) -> Answer:
        """How the journal is doing."""
        del call, name
        return json_reply(journal_row(self._gateway.journal.stats()))

    async def config(self, call: Call, name: str) -> Answer:
        """Names only: what there is, without a secret or a value that could be one."""
        del call, name
        return json_reply(
            {
                "sources": [s.name for s in self._gateway.sources()],
                "destinations": [
                    {"name": d.name, "kind": d.kind, "url": mask_url(d.url)} for d in self._gateway.destinations()
                ],
            }
        )

    async def sources(self, call: Call, name: str) -> Answer:
        """The sources: where and how to send to them."""
        del call, name
        return json_reply({"sources": [msgspec.structs.asdict(s) for s in self._gateway.sources()]})

    async def refused(self, call: Call, name: str) -> Answer:
        """What was refused since then, by reason."""
        del name
        now_ms = self._gateway.clock.wall_ms()
        since_ms = parse_when_ms(call.params.get("since") or "1h", now_ms)
        counts = self._gateway.refused_since(since_ms, call.params.get("source", ""))
        return json_reply({"since": rfc3339(since_ms), "refused": counts})

    # --- changing

    async def events_replay(self, call: Call, name: str) -> Answer:
        """Make finished deliveries pending again."""
        del name
        return await _bulk(commands.replay_events(self._gateway, _request(call)))

    async def events_discard(self, call: Call, name: str) -> Answer:
        """Drop pending deliveries, or redirect them."""
        del name
        return await _bulk(commands.discard_events(self._gateway, _request(call)))

    async def dead_letters_replay(self, call: Call, name: str) -> Answer:
        """Put dead letters back."""
        del name
        return await _bulk(redrive.replay_letters(self._gateway, _request(call)))

    async def dead_letters_rm(self, call: Call, name: str) -> Answer:
        """Drop dead letters for good."""
        del name
        return await _bulk(redrive.remove_letters(self._gateway, _request(call)))

    async def journal_backup(self, call: Call, name: str) -> Answer:
        """Copy the journal to a new directory on the daemon's machine."""
        del name
        if not call.trusted:  # a path on our disk is for whoever may open the socket there, not for a token
            raise ApiError(403, "forbidden", "a backup is made over the Unix socket only")
        path = _decoded(call, dict[str, str]).get("path", "")
        if not os.path.isabs(path):
            raise ApiError(400, "bad_request", "path: expected an absolute path that does not exist yet")
        try:
            size = await self._gateway.journal.backup(path)
        except OSError as e:
            raise ApiError(409, "backup_failed", f"{safe_text(path)}: {(e.strerror or 'failed').lower()}") from None
        return json_reply({"path": safe_text(path, 4096), "bytes": size})

    # --- watching

    async def tail(self, call: Call, name: str) -> Answer:
        """What is happening, as it happens; what a slow reader missed is said as ``dropped``."""
        del name
        return Stream(self._tail({k: v for k in ("source", "destination", "type") if (v := call.params.get(k))}))

    # --- secrets that arrive by handshake

    async def handshake(self, call: Call, name: str) -> Answer:
        """The secrets of a source, in clear: over the socket only."""
        if not call.trusted:
            raise ApiError(403, "forbidden", "secrets are shown over the socket only")
        self._known_source(name)
        told = self._gateway.handshakes.show(name)
        for row in told["secrets"]:
            row["arrived_at"] = rfc3339(row.pop("arrived_at_ms"))
        return json_reply(told)

    async def handshake_change(self, call: Call, name: str) -> Answer:
        """Expect a secret for a while, or forget one; over the socket only."""
        if not call.trusted:
            raise ApiError(403, "forbidden", "secrets are handled over the socket only")
        request = _decoded(call, HandshakeRequest)
        self._known_source(name)
        book = self._gateway.handshakes
        if request.forget:
            if not await book.forget(name, request.forget):
                raise ApiError(404, "not_found", "no secret of this id has arrived, or it could not be removed")
            self._gateway.receiver.secrets_changed(name)
            return json_reply({"source": name, "forgotten": request.forget})
        if not 0 < request.for_s <= MAX_WINDOW_S:
            raise ApiError(400, "bad_request", f"for_s: expected up to {MAX_WINDOW_S:.0f} seconds")
        if not book.expect(name, request.for_s):
            raise ApiError(409, "full", "this source has as many secrets as it may have; forget one first")
        return json_reply({"source": name, "expected_for_s": round(request.for_s)})

    def _known_source(self, name: str) -> None:
        if name not in {source.name for source in self._gateway.sources()}:
            raise ApiError(404, "not_found", f'no source "{safe_text(name)}"')

    async def _tail(self, wanted: dict[str, str]) -> AsyncIterator[bytes | dict[str, Any] | None]:
        feed = self._gateway.feed
        watcher = feed.watch()
        try:
            yield None
            while not feed.ended:
                try:
                    told, dropped = await asyncio.wait_for(watcher.next(), _ALIVE_S)
                except TimeoutError:
                    yield None
                    continue
                if dropped:
                    yield {"type": "dropped", "dropped": dropped}
                if lines := b"".join([t.line for t in told if all(t.row.get(k) == v for k, v in wanted.items())]):
                    yield lines
                await asyncio.sleep(_GATHER_S)
        finally:
            feed.unwatch(watcher)


ROUTES: dict[str, dict[str, Handler]] = {
    "status": {"GET": Api.status},
    "events": {"GET": Api.events},
    "events/replay": {"POST": Api.events_replay},
    "events/discard": {"POST": Api.events_discard},
    "events/*": {"GET": Api.event},
    "events/*/body": {"GET": Api.event_body},
    "dead-letters": {"GET": Api.dead_letters},
    "dead-letters/replay": {"POST": Api.dead_letters_replay},
    "dead-letters/rm": {"POST": Api.dead_letters_rm},
    "dead-letters/*": {"GET": Api.dead_letter},
    "audit": {"GET": Api.audit},
    "journal/stats": {"GET": Api.journal_stats},
    "journal/backup": {"POST": Api.journal_backup},
    "tail": {"GET": Api.tail},
    "config": {"GET": Api.config},
    "sources": {"GET": Api.sources},
    "refused": {"GET": Api.refused},
    "handshakes/*": {"GET": Api.handshake, "POST": Api.handshake_change},
}
"""Path below ``/api/v1/`` (``*``: one segment, percent-decoded) -> method -> what answers."""


def _find(path: str) -> tuple[str | None, str]:
    """Find the route of a raw path, and what stands for its ``*``."""
    rest = path.removeprefix(PREFIX)
    if rest in ROUTES and "*" not in rest:
        return rest, ""
    parts = rest.split("/")
    if len(parts) in {2, 3} and parts[1]:
        route = "/".join([parts[0], "*", *parts[2:]])
        if route in ROUTES:
            return route, unquote(parts[1], errors="replace")
    return None, ""


def _number(call: Call, name: str, default: int) -> int:
    text = call.params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ApiError(400, "bad_request", f"{name}: expected a number")
    return int(text)


def _request(call: Call) -> BulkRequest:
    return _decoded(call, BulkRequest)


def _decoded(call: Call, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(call.body or b"{}", type=type_)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ApiError(400, "bad_request", "the body is not JSON") from None


async def _bulk(rows: AsyncIterator[dict[str, Any]]) -> Stream:
    """Begin a bulk command, so that a request that makes no sense is an error and not a stream."""
    first = await anext(rows)

    async def stream() -> AsyncIterator[dict[str, Any] | None]:
        yield first
        async for row in rows:
            yield row

    return Stream(stream())
