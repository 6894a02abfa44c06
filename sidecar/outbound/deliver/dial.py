"""From a destination's URL to an open connection: look up the name, refuse what must not be dialled, connect, TLS.

Runs in a task, since connections are opened rarely. Every expected failure is a ``DialFailed`` that says whether the
network or TLS was in the way; foreign exceptions end here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from sidecar.clock import Clock
from sidecar.outbound.deliver.kind import Failure
from sidecar.outbound.deliver.url import Target, denied_reason, is_address

__all__ = ["DialFailed", "Dialer", "Resolve", "tls_context"]

QUEUE_WAIT_S, QUEUE_WAIT_MOST_S = 0.005, 0.1  # between two tries at the full queue of a Unix socket
LOOKUP_KEPT_S = 5.0  # how long an answer of the resolver is used again

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Name and port to addresses in the order to try them; raises OSError."""


class DialFailed(Exception):
    """No connection; nothing of the request was sent.

    Attributes:
        failure: ``connect`` or ``tls``.
        error: Short text for people.
    """

    def __init__(self, failure: Failure, error: str) -> None:
        super().__init__(error)
        self.failure: Failure = failure
        self.error = error


class Dialled(Protocol):
    """What the dialer needs of a protocol: to be told its transports."""

    raw: Any
    transport: Any

    def give_up(self) -> None:
        """Close now, or as soon as it is connected."""
        ...


P = TypeVar("P", bound=Dialled)


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Make the context for an https destination: certificate and host name verified, TLS 1.2 or newer.

    Args:
        ca_file: PEM file that replaces the system's certificate authorities; None = the system's.

    Raises:
        OSError: the file cannot be read, or holds no certificate (ssl.SSLError is an OSError).
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver. An address is its own answer."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in found))


class Dialer(Generic[P]):
    """Opens connections to one destination."""

    def __init__(
        self,
        target: Target,
        tls: ssl.SSLContext | None,
        clock: Clock,
        make: Callable[[], P],
        resolve: Resolve = resolve_by_system,
    ) -> None:
        self._target = target
        self._tls = tls
        self._clock = clock
        self._make = make
        self._resolve = resolve
        self._addresses: list[str] = []
        self._addresses_until_s = 0.0
        self._lookup: asyncio.Task[list[str] | DialFailed] | None = None
        if is_address(target.host) and not denied_reason(target.host):
            self._addresses, self._addresses_until_s = [target.host], math.inf

    async def dial(self, within_s: float) -> P:
        """Open one connection.

        Args:
            within_s: For look-up, connect and TLS handshake together.

        Raises:
            DialFailed: it did not work, or not in time.
        """
        tls = False
        made: P | None = None
        try:
            async with asyncio.timeout(within_s):
                made = await self._connect(within_s)
                if self._tls is not None:
                    tls = True
                    await self._handshake(made, self._tls, within_s)
        except BaseException as e:
            if made is not None and made.raw is not None:
                made.raw.abort()
            if isinstance(e, TimeoutError):
                what = "TLS handshake" if tls else "connection"
                raise DialFailed("tls" if tls else "connect", f"no {what} within {within_s:.3g} s") from None
            raise
        return made

    async def close(self) -> None:
        """Give up a look-up that still runs."""
        if self._lookup is not None:
            self._lookup.cancel()
            await asyncio.gather(self._lookup, return_exceptions=True)

    async def _connect(self, within_s: float) -> P:
        target, loop = self._target, asyncio.get_running_loop()
        if target.scheme == "unix":
            return await self._connect_unix()
        addresses = await self._lookup_addresses()
        failed: DialFailed | None = None
        for n, address in enumerate(addresses):
            # One that swallows packets must not use up the time of the ones behind it.
            share_s = within_s / len(addresses) if n + 1 < len(addresses) else None
            made = self._make()
            try:
                async with asyncio.timeout(share_s), _or_give_up(made):
                    await loop.create_connection(lambda p=made: p, address, target.port)  # type: ignore[misc]
            except TimeoutError:
                failed = DialFailed("connect", f"no connection in time ({_shown(address, target.port)})")
            except OSError as e:
                failed = DialFailed("connect", f"{_reason(e)} ({_shown(address, target.port)})")
            else:
                if n:
                    self._addresses = addresses[n:] + addresses[:n]  # the next dial begins with the one that works
                return made
        assert failed is not None
        raise failed

    async def _connect_unix(self) -> P:
        """Connect to a Unix socket, and wait for a place where its queue is full.

        TCP waits by itself; here the kernel says EAGAIN, which is no sign of a backend that is gone (connect(2)).
        """
        loop, path, wait_s = asyncio.get_running_loop(), self._target.socket, QUEUE_WAIT_S
        while True:
            made = self._make()
            try:
                async with _or_give_up(made):
                    await loop.create_unix_connection(lambda p=made: p, path)  # type: ignore[misc]
            except OSError as e:
                if e.errno != errno.EAGAIN:
                    raise DialFailed("connect", f"{_reason(e)} ({path})") from None
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, QUEUE_WAIT_MOST_S)
            else:
                return made

    async def _lookup_addresses(self) -> list[str]:
        """Give the addresses that may be dialled, at least one.

        Dials that need the same look-up share it, and it outlives an impatient one: a resolver that hangs holds one
        thread, however many tries there are.
        """
        if self._addresses and self._clock.monotonic_s() < self._addresses_until_s:
            return self._addresses
        if self._lookup is None or self._lookup.done():
            self._lookup = asyncio.get_running_loop().create_task(self._look_up())
        found = await asyncio.shield(self._lookup)
        if isinstance(found, DialFailed):
            raise found
        return found

    async def _look_up(self) -> list[str] | DialFailed:
        host = self._target.host
        try:
            found = await self._resolve(host, self._target.port)
        except OSError as e:
            return DialFailed("connect", f"cannot resolve {host}: {e.strerror or 'no address'}")
        except UnicodeError:
            return DialFailed("connect", f"cannot resolve {host}: not a host name")
        allowed = [address for address in found if not denied_reason(address)]
        if allowed:
            self._addresses = allowed
            self._addresses_until_s = self._clock.monotonic_s() + LOOKUP_KEPT_S
            return allowed
        if found:
            return DialFailed("connect", f"{host} is {found[0]}, a {denied_reason(found[0])} address: never dialled")
        return DialFailed("connect", f"cannot resolve {host}: no address")

    async def _handshake(self, made: P, context: ssl.SSLContext, within_s: float) -> None:
        """Put TLS between connection and socket.

        Not left to ``create_connection``, so that the raw transport stays known: only its buffer says whether a
        request has left this process.
        """
        if made.raw.is_closing():
            raise DialFailed("tls", "connection closed before the TLS handshake")
        try:
            made.transport = await asyncio.get_running_loop().start_tls(
                made.raw,
                made,  # type: ignore[arg-type]
                context,
                # The dot of a name that is looked up as it stands is in no certificate (RFC 6066, 3).
                server_hostname=self._target.host.removesuffix("."),
                ssl_handshake_timeout=within_s + 1.0,  # ours comes first
            )
        except ssl.SSLCertVerificationError as e:
            raise DialFailed("tls", f"certificate not accepted: {e.verify_message}") from None
        except ssl.SSLError as e:
            raise DialFailed(
                "tls", f"TLS handshake failed: {(e.reason or 'unknown').lower().replace('_', ' ')}"
            ) from None
        except OSError as e:
            raise DialFailed("tls", f"TLS handshake failed: {_reason(e)}") from None


@contextlib.asynccontextmanager
async def _or_give_up(made: Dialled) -> AsyncIterator[None]:
    # Cancelled at the wrong turn of the loop, the connection comes up all the same, and nobody else knows of it.
    try:
        yield
    except BaseException:
        made.give_up()
        raise


def _shown(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _reason(e: OSError) -> str:
    """The system's words for an errno: "Connection refused"."""
    return os.strerror(e.errno) if e.errno else "connection closed"
