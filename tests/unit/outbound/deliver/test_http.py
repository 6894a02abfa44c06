"""The connection that reads a backend's answer: what comes behind an answer changes nothing about it."""

from __future__ import annotations

import pytest

from tests.support.answers import answered

BUSY = b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("behind", [b"", b"HTTP/1.1 200 OK\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n", b"junk"])
def test_the_wait_that_an_answer_asks_for_is_kept_whatever_comes_behind_it(behind: bytes) -> None:
    """Also when both arrive at once; such a connection is not used again."""
    results = answered([BUSY + behind])
    assert [(r.status, r.retry_after) for r in results.ended[:1]] == [(503, b"7")]
    assert results.keeps[0] is not bool(behind)


def test_an_interim_answer_s_headers_are_not_those_of_the_answer() -> None:
    """Only the final answer may ask for a wait."""
    early = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\n\r\n"
    final = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    for pieces in ([early + final], [early, final]):
        assert [(r.status, r.retry_after) for r in answered(pieces).ended[:1]] == [(503, b"")]


@pytest.mark.parametrize("status", [b"200", b"503"])
def test_a_head_of_too_many_lines_counts_by_its_status_however_it_is_cut(status):
    """Also when it breaks behind them: how the bytes were cut on their way decides nothing."""
    head = b"HTTP/1.1 " + status + b" x\r\n" + b"a: b\r\n" * 130
    for behind in (b": broken\r\n", b"Retry-After: 9\r\n"):
        for pieces in ([head + behind], [head, behind]):
            assert [(r.status, r.failure, r.retry_after) for r in answered(pieces).ended[:1]] == [
                (int(status), "", b"")
            ]


def test_a_head_that_breaks_before_that_is_no_answer():
    head = b"HTTP/1.1 200 x\r\n" + b"a: b\r\n" * 120
    for pieces in ([head + b": broken\r\n"], [head, b": broken\r\n"]):
        assert [(r.status, r.failure) for r in answered(pieces).ended[:1]] == [(None, "garbage")]
