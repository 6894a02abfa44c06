"""What ``doctor`` looks at. Each check says what it found, whether that is good, and what to do when it is not."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import ssl
import tempfile
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from sidecar.cli.client import Client
from sidecar.cli.output import size
from sidecar.clock import Clock
from sidecar.config.settings import Settings
from sidecar.daemon import files
from sidecar.errors import DaemonUnreachable
from sidecar.journal.place import file_system_type
from sidecar.outbound.deliver.dial import tls_context

__all__ = ["Finding", "examine"]

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "overlay", "ceph", "glusterfs", "afs", "lustre"}
_SLOW_FSYNC_S = 0.025
_RELEASED_MS = 1_760_000_000_000  # no clock that is right shows an earlier time
_STOP_S = 20.0
_TIME_ERROR = 5


class Finding(msgspec.Struct, frozen=True):
    """One line of the report."""

    check: str
    verdict: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything around a valid configuration."""
    running = _is_running(settings)
    yield Finding("daemon", "ok", "running" if running else "not running")
    if not running:
        yield from _ports(settings)
    yield from _disks(settings, running=running)
    for d in settings.destinations:
        yield _destination(d.name, d.http.url, d.http.ca_file)
    yield _descriptors(settings)
    yield _clock()
    yield _grace(settings)


def _is_running(settings: Settings) -> bool:
    try:
        return Client(settings.admin.socket).status_of("/livez")[0] > 0
    except DaemonUnreachable:
        return False


def _ports(settings: Settings) -> Iterator[Finding]:
    for name, listen in (("server.listen", settings.server.listen), ("admin.listen", settings.admin.listen)):
        if listen.startswith("unix:"):
            continue
        host, _, port = listen.rpartition(":")
        try:
            info = socket.getaddrinfo(
                host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            with socket.socket(info[0][0], socket.SOCK_STREAM) as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(info[0][4])
        except OSError as e:
            yield Finding(
                name, "fail", f"{listen}: {(e.strerror or 'cannot be bound').lower()}", f"free it, or change {name}"
            )
        else:
            yield Finding(name, "ok", f"{listen} is free")


def _disks(settings: Settings, *, running: bool) -> Iterator[Finding]:
    folders = (("journal", settings.journal), ("dead letters", settings.dead_letters))
    existing = {what: _existing(options.path) for what, options in folders}
    together = len({os.stat(place).st_dev for place in existing.values()}) == 1
    total = sum(options.max_size_bytes for _, options in folders)
    for what, options in folders:
        share = total if together else options.max_size_bytes
        lost = _lost(options.path, running=running) if what == "dead letters" else None
        if lost is not None:
            yield lost
            continue
        yield from _disk(what, existing[what], options.max_size_bytes, share)


def _lost(path: str, *, running: bool) -> Finding | None:
    """Say what is wrong when the dead letters' folder is not there; before the first start nothing is."""
    if os.path.isdir(path):
        return None
    if os.path.lexists(path):
        return Finding("dead letters", "fail", f"{path} is not a folder", "take it away")
    if not running:
        return None
    # It is made at the start only: later it may be a mount that is gone.
    fix = "bring it or its mount back, or make it anew for the daemon's user: what waits is written then"
    return Finding("dead letters", "fail", f"{path} is gone: nothing that dies can be written", fix)


def _existing(path: str) -> str:
    """The folder, or the one above that exists and in which it would be made."""
    place = path
    while not os.path.isdir(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    return place


def _disk(what: str, place: str, max_size_bytes: int, share_bytes: int) -> Iterator[Finding]:
    """Look at one folder; ``share_bytes`` is what we may use of its volume altogether."""
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding(what, "fail", f"{place} is not writable", f"give uid {os.geteuid()} write access")
        return
    kind = file_system_type(place) or "unknown"
    if kind in _NETWORK or kind.startswith("fuse"):
        yield Finding(what, "fail", f"{place} is on {kind}", "use a local volume: LMDB and fsync are not safe there")
    elif kind == "tmpfs":
        yield Finding(what, "warn", f"{place} is on tmpfs: gone after a reboot", "use a volume")
    else:
        yield Finding(what, "ok", f"{place} is on {kind}")
    volume = os.statvfs(place)
    free, total = volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize
    found = f"{size(free)} free of {size(total)}, may use {size(max_size_bytes)}"
    if share_bytes > max_size_bytes:
        found += f", {size(share_bytes)} with what else of ours is there"
    if share_bytes > 0.8 * total:
        yield Finding(
            f"{what} size", "warn", found, "keep max_size of journal and dead letters below 80 % of the volume"
        )
    elif free < min(max_size_bytes, 64 << 20):
        yield Finding(f"{what} size", "fail", found, "make room on the volume")
    else:
        yield Finding(f"{what} size", "ok", found)
    yield _fsync(what, place)


def _fsync(what: str, place: str) -> Finding:
    clock, times = Clock(), []
    try:
        with tempfile.TemporaryFile(dir=place) as f:
            for _ in range(10):
                f.write(b"x" * 4096)
                f.flush()
                started_s = clock.monotonic_s()
                os.fsync(f.fileno())
                times.append(clock.monotonic_s() - started_s)
    except OSError as e:
        return Finding(f"{what} fsync", "fail", (e.strerror or "failed").lower(), "check the volume")
    median_s = sorted(times)[len(times) // 2]
    verdict: Literal["ok", "warn"] = "ok" if median_s < _SLOW_FSYNC_S else "warn"
    fix = "every ack waits for one: use a faster volume" if verdict == "warn" else ""
    return Finding(f"{what} fsync", verdict, f"{median_s * 1000:.1f} ms in the middle of 10", fix)


def _destination(name: str, url: str, ca_file: str | None) -> Finding:
    check, fix = f"destination {name}", "start it; until then deliveries wait in the journal"
    try:
        if url.startswith("unix:"):
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(3)
                s.connect(url.removeprefix("unix:").partition(":")[0])
            return Finding(check, "ok", "reachable")
        parts = urlsplit(url.replace("{path}", "/"))
        address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        with socket.create_connection(address, timeout=3) as s:
            if parts.scheme != "https":
                return Finding(check, "ok", f"{address[0]}:{address[1]} is reachable")
            with tls_context(ca_file).wrap_socket(s, server_hostname=address[0].removesuffix(".")) as tls:
                return _certificate(check, tls)
    except ssl.SSLError as e:
        return Finding(
            check, "warn", f"TLS: {e.reason or e}", "renew the certificate, or name its authority in ca_file"
        )
    except (OSError, ValueError) as e:
        why = (getattr(e, "strerror", None) or str(e)).lower()
        return Finding(check, "warn", f"not reachable: {why}", fix)


def _certificate(check: str, tls: ssl.SSLSocket) -> Finding:
    certificate = tls.getpeercert() or {}
    expires_s = ssl.cert_time_to_seconds(str(certificate["notAfter"])) if "notAfter" in certificate else None
    days = (expires_s - Clock().wall_ms() / 1000) / 86400 if expires_s is not None else None
    if days is not None and days < 14:
        return Finding(check, "warn", f"its certificate expires in {days:.0f} days", "renew it")
    return Finding(check, "ok", "reachable over TLS")


def _descriptors(settings: Settings) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # the daemon raises the soft one itself
    need = files.needed(settings)
    shown = "any number" if hard == resource.RLIM_INFINITY else f"at most {hard}"
    if hard != resource.RLIM_INFINITY and hard < need:
        fix = f"raise the limit (ulimit -Hn {need}), or lower server.max_connections"
        return Finding("file descriptors", "fail", f"{shown}, {need} may be needed", fix)
    return Finding("file descriptors", "ok", f"{shown}, {need} may be needed")


def _clock() -> Finding:
    if Clock().wall_ms() < _RELEASED_MS:
        return Finding("clock", "fail", "it is in the past", "set the clock: signed timestamps are refused otherwise")
    if _is_synchronised() is False:
        fix = "run chrony or systemd-timesyncd: a clock that is minutes off refuses signed webhooks"
        return Finding("clock", "warn", "plausible, but the kernel knows of nothing that keeps it right", fix)
    return Finding("clock", "ok", "plausible")


def _is_synchronised() -> bool | None:
    """Ask the kernel whether something disciplines its clock; None where it cannot be asked.

    Source: adjtimex(2): ``modes`` 0 only reads; TIME_ERROR (5) means not synchronised.
    """
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    if adjtimex is None:
        return None
    state = int(adjtimex(ctypes.create_string_buffer(512)))  # more than any struct timex
    return None if state < 0 else state != _TIME_ERROR


def _grace(settings: Settings) -> Finding:
    need_s = settings.drain.accept_for_s + _STOP_S
    fix = "set terminationGracePeriodSeconds (or TimeoutStopSec) above it"
    verdict: Literal["ok", "warn"] = "ok" if need_s <= 55 else "warn"
    return Finding("stopping", verdict, f"takes up to {need_s:.0f}s", fix)
