"""When two cuts of the same bytes count as another verdict."""

from __future__ import annotations

from tests.proof.shards.http_fuzz import differs
from tests.proof.wire import talk

EXPECTS = b"POST /hook HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"


async def test_continue_is_said_only_while_the_body_is_missing():
    whole, parts = talk([EXPECTS + b"{}"]), talk([EXPECTS, b"{}"])
    assert (whole.statuses, parts.statuses) == ((200,), (100, 200))
    assert not differs(whole, parts)


async def test_another_body_or_another_answer_is_another_verdict():
    whole = talk([EXPECTS + b"{}"])
    assert differs(whole, talk([EXPECTS, b"[]"]))
    assert differs(whole, talk([EXPECTS.replace(b"POST", b"PO ST"), b"{}"]))
