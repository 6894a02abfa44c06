"""The client's side of the admin socket: what goes wrong is said with the right exit code."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from sidecar.cli.client import Client
from sidecar.errors import DaemonUnreachable, NotFoundError, SidecarError, UsageError


@contextmanager
def answering(path: str, answer: bytes) -> Iterator[Client]:
    """A socket that gives one fixed answer to one connection."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):  # the rest of a request that came in pieces, up to its end
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield Client(path)
    thread.join()
    listener.close()


def http(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (404, b'{"error":{"code":"not_found","message":"no such"}}', NotFoundError, "no such"),
        (400, b'{"error":{"code":"bad","message":"odd"}}', UsageError, "odd"),
        (409, b'{"error":{"code":"ambiguous","message":"many"}}', UsageError, "many"),
        (503, b'{"error":{"code":"x","message":"still starting"}}', DaemonUnreachable, "still starting"),
        (500, b'{"error":{"code":"x","message":"bug"}}', SidecarError, "bug"),
        (422, b'{"ok":false,"problems":["a","b"]}', SidecarError, "a; b"),
        (500, b"<html>", SidecarError, "answered 500"),
        (500, b"[]", SidecarError, "answered 500"),
    ],
)
def test_a_refusal_becomes_the_error_with_its_exit_code(tmp_path, status, body, error, text):
    with answering(str(tmp_path / "s"), http(status, body)) as client, pytest.raises(error, match=text):
        client.get("/api/v1/x")


@pytest.mark.parametrize("answer", [b"", b"junk\r\n\r\n", b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n{"])
def test_an_answer_that_breaks_off_is_an_unreachable_daemon(tmp_path, answer):
    with answering(str(tmp_path / "s"), answer) as client, pytest.raises(DaemonUnreachable):
        client.get("/api/v1/x")


@pytest.mark.parametrize(
    "cut", [b'ff\r\n{"do', b"ff\r\n", b"f", b""], ids=["in a row", "in a chunk", "in a size", "between"]
)
def test_a_stream_that_breaks_off_is_an_unreachable_daemon_after_the_rows_that_came(tmp_path, cut):
    head = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
    with answering(str(tmp_path / "s"), head + b'c\r\n{"done":1}\n\n\r\n' + cut) as client:
        rows = client.rows("POST", "/x", {})
        assert next(rows) == {"done": 1}
        with pytest.raises(DaemonUnreachable, match="went away"):
            list(rows)


def test_a_stream_that_ends_as_it_should_gives_its_rows_however_they_are_cut(tmp_path):
    head = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b'4\r\n{"do\r\n7\r\nne":1}\n\r\n1\r\n\n\r\nb\r\n{"done":2}\n\r\n0\r\n\r\n'
    with answering(str(tmp_path / "s"), head + body) as client:
        assert list(client.rows("POST", "/x", {})) == [{"done": 1}, {"done": 2}]


def test_an_error_row_ends_a_stream_as_an_error(tmp_path):
    row = b'{"type":"error","message":"disk full"}\n'
    with answering(str(tmp_path / "s"), http(200, row)) as client, pytest.raises(SidecarError, match="disk full"):
        list(client.rows("POST", "/x", {}))


def test_no_socket_a_dead_one_and_a_silent_one_are_told_apart(tmp_path):
    path = str(tmp_path / "s")
    with pytest.raises(DaemonUnreachable, match="there is no socket"):
        Client(path).get("/x")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
    with pytest.raises(DaemonUnreachable, match="nobody listens"):
        Client(path).get("/x")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path + "2")
        s.listen()
        with pytest.raises(DaemonUnreachable, match="does not answer"):
            Client(path + "2").status_of("/livez", timeout_s=0.05)
