"""The echo backend."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sidecar.cli.echo import Echo
from sidecar.cli.stdout import StdoutFailed
from sidecar.errors import SidecarError

HEAD = (
    b"POST /in?token=canary&a=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer canary\r\nX-A: \x1b[31m\r\n"
    b"Webhook-Sidecar-Event-Id: wse_1\r\nWebhook-Sidecar-Attempt: 2\r\n"
)


async def ask(echo: Echo, data: bytes) -> bytes:
    host, _, port = echo.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


@pytest.fixture
async def shown():
    return []


@pytest.fixture
async def echo(shown):
    running = Echo("127.0.0.1:0", shown.append)
    await running.start()
    yield running
    await running.close()


async def test_each_webhook_is_printed_with_secrets_masked_and_answered_200(echo, shown):
    answer = await ask(
        echo,
        HEAD + b"Content-Length: 4\r\n\r\nab\x1bc" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    first, second = shown[1:]
    assert first.startswith("--> POST /in?token=****&a=1  4 bytes\n    event-id wse_1  attempt 2\n")
    assert "    Authorization: ****" in first
    assert "    ab\\u001bc" in first
    assert "    hi" in second
    assert "canary" not in first + second
    assert "\x1b" not in first + second


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), StdoutFailed("stdout")])
async def test_what_cannot_be_shown_is_answered_all_the_same(error):
    """``run --with-echo | head -1``: the daemon has to go on, and the delivery is done."""

    def write(text: str) -> None:
        raise error

    deaf = Echo("127.0.0.1:0", write)
    await deaf.start()
    assert (await ask(deaf, HEAD + b"Content-Length: 0\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    await deaf.close()


async def test_a_long_body_is_cut(echo, shown):
    await ask(echo, HEAD + b"Connection: close\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000)
    assert "... 2,952 more bytes" in shown[1]


@pytest.mark.parametrize(
    "data", [b"", b"junk", HEAD + b"Content-Length: x\r\n\r\n", HEAD + b"Content-Length: 9\r\n\r\nab"]
)
async def test_garbage_closes_the_connection_and_nothing_else(echo, shown, data):
    assert await ask(echo, data) == b""
    assert (await ask(echo, HEAD + b"\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("address", ["127.0.0.1:x", "192.0.2.1:1"])
async def test_an_address_that_cannot_be_bound_is_named(address):
    with pytest.raises(SidecarError, match="--with-echo"):
        await Echo(address).start()


async def test_a_taken_port_is_named():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        with pytest.raises(SidecarError, match="cannot listen"):
            await Echo(f"127.0.0.1:{s.getsockname()[1]}").start()
