"""The corpus through nginx and HAProxy in front of us: no request is framed differently by them and by us.

Each proxy marks every request it forwards. A request that reaches us without the mark was smuggled past it; and where we
accept the same bytes directly, what comes through the proxy has the same bodies, or the proxy refused it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sidecar.clock import Clock
from sidecar.inbound import framing
from sidecar.inbound.application import ServerOptions
from sidecar.inbound.server import Listener
from sidecar.inbound.witness import Witness
from sidecar.metrics import Metrics
from tests.contract.test_edge_corpus import CASES
from tests.proof.corpus import Case
from tests.support.daemon import free_port
from tests.support.raw_http import Desk, Peer

PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"
MARK = b"x-proxy-mark"

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off; proxy_ignore_client_abort on; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream us {{ server 127.0.0.1:{us}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port}; merge_slashes off; large_client_header_buffers 8 16k; underscores_in_headers on;
    location / {{
      proxy_pass http://us; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_set_header X-Proxy-Mark $request_id;
    }}
  }}
}}
"""

HAPROXY = """
defaults
  mode http
  timeout connect 2s
  timeout client 5s
  timeout server 5s
frontend in
  bind 127.0.0.1:{port}
  http-request set-header X-Proxy-Mark %[uuid()]
  default_backend us
backend us
  http-reuse always
  server us 127.0.0.1:{us}
"""

COMMANDS: dict[str, tuple[str, Callable[[str], list[str]]]] = {
    "nginx": (NGINX, lambda file: ["nginx", "-c", file]),
    "haproxy": (HAPROXY, lambda file: ["haproxy", "-db", "-f", file]),
}


@pytest.fixture
async def desk() -> Desk:
    return Desk(max_body=1000)


@pytest.fixture
async def listener(desk: Desk) -> AsyncIterator[Listener]:
    listener = Listener(ServerOptions(), desk, Metrics(), Clock())
    await listener.start("127.0.0.1:0")
    yield listener
    await listener.close()


def start(name: str, folder: Path, us: str) -> tuple[subprocess.Popen[bytes], int]:
    """Start a proxy in front of us and wait until it takes connections."""
    template, command = COMMANDS[name]
    if shutil.which(name, path=PATH) is None:
        pytest.skip(f"{name} is not installed (scripts/install_test_tools.sh)")
    port = free_port()
    file = folder / "proxy.conf"
    file.write_text(template.format(folder=folder, port=port, us=us.rpartition(":")[2]))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command(str(file)), stdout=log, stderr=log, env={**os.environ, "PATH": PATH})
    until_s = time.monotonic() + 20
    while time.monotonic() < until_s:
        assert process.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return process, port
        time.sleep(0.02)
    raise AssertionError((folder / "log").read_text())


async def through(port: int, case: Case) -> list[int]:
    """Send one case through the proxy; the statuses that came back until it closed, or said nothing more."""
    peer = await Peer.open(f"127.0.0.1:{port}")
    with contextlib.suppress(OSError):  # it may have been refused and cut by now
        await peer.send(case.raw)
        peer.half_close()
    got = b""
    with contextlib.suppress(OSError):  # no more came in time, or it cut the connection
        async with asyncio.timeout(1.0):
            while piece := await peer.reader.read(65_536):
                got += piece
    await peer.close()
    return [int(s) for s in re.findall(rb"HTTP/1\.[01] (\d+) ", got)]


def framed_differently(case: Case, desk: Desk) -> list[str]:
    """What is wrong with what reached us."""
    wrong = [f"{case.name}: {head.target!r} was smuggled past it" for head in desk.heads if MARK not in head.lower]
    marks = [head.lower[MARK] for head in desk.heads if MARK in head.lower]
    if len(marks) != len(set(marks)):
        wrong.append(f"{case.name}: one mark on two requests")
    seen = tuple(desk.bodies)
    both = min(len(seen), len(case.bodies))  # the proxy may refuse more than we do, or repair what we refuse
    if seen[:both] != case.bodies[:both]:
        wrong.append(f"{case.name}: we accept {case.bodies} directly, and {seen} through it")
    return wrong


@pytest.mark.parametrize("name", list(COMMANDS))
async def test_no_request_is_framed_differently(name: str, tmp_path: Path, desk: Desk, listener: Listener) -> None:
    process, port = start(name, tmp_path, listener.addresses[0])
    try:
        wrong, reached = [], 0
        for case in CASES:
            desk.heads.clear()
            desk.bodies.clear()
            await through(port, case)
            wrong += framed_differently(case, desk)
            reached += len(desk.heads)
        assert wrong == []
        assert reached > 120, "the proxy forwarded a good part of them"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", list(COMMANDS))
async def test_a_request_that_comes_past_the_proxy_is_noticed(
    name: str, tmp_path: Path, desk: Desk, listener: Listener
) -> None:
    """The control: bytes that reach us past the proxy carry no mark, and other bodies than ours are seen."""
    process, port = start(name, tmp_path, listener.addresses[0])
    try:
        case = next(c for c in CASES if len(c.bodies) == 2)
        await through(port, case)
        assert framed_differently(case, desk) == []
        peer = await Peer.open(listener.addresses[0])
        await peer.send(case.raw)
        await peer.reply()
        await peer.close()
        assert any("smuggled" in line for line in framed_differently(case, desk))
        assert framed_differently(case._replace(bodies=(b"other", b"bytes")), desk)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", list(COMMANDS))
async def test_a_listener_that_frames_by_itself_is_noticed(
    name: str, tmp_path: Path, desk: Desk, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other control: no gate and no witness, and bodies with a length are taken for further requests."""
    honest_length, honest_head = framing.body_length, Witness.head

    def body_length(*given: Any) -> Any:
        length = honest_length(*given)
        return 0 if isinstance(length, int) and length > 0 else length

    def head(self: Witness, data: bytes) -> Any:
        self.__init__()  # type: ignore[misc]
        return honest_head(self, data)

    monkeypatch.setattr(framing, "body_length", body_length)
    monkeypatch.setattr(Witness, "head", head)
    for method in ("expects_body", "body", "ends"):
        monkeypatch.setattr(Witness, method, lambda *_: True)
    process, port = start(name, tmp_path, listener.addresses[0])
    try:
        hidden = next(c for c in CASES if c.name == "a request hidden in a body")
        await through(port, hidden)
        assert any("was smuggled" in line for line in framed_differently(hidden, desk))
    finally:
        process.kill()
        process.wait()
