"""A recording is a raw request or an entry of a HAR; anything else is said to be neither."""

from __future__ import annotations

import pytest

from sidecar.cli.recorded import read_recorded
from sidecar.errors import UsageError


def test_a_raw_request_and_a_har_say_the_same():
    raw = read_recorded(b"POST /in?a=1 HTTP/1.1\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 2\r\n\r\n{}\n")
    har = b'{"request":{"method":"POST","url":"https://h/in?a=1#x","headers":[{"name":"X-A","value":"1"}],"postData":{"text":"{}"}}}'
    assert (raw.path, raw.query, raw.headers[b"x-a"], raw.body) == (b"/in", b"a=1", b"1", b"{}")
    found = read_recorded(har)
    assert (found.path, found.query, found.headers[b"x-a"], found.body) == (b"/in", b"a=1", b"1", b"{}")


@pytest.mark.parametrize(
    "data",
    [b"", b"GET", b"GET / HTTP/1.1\nno colon", b"{}", b'{"request":5}', b"{" + b'"a":{' * 100_000, b'{"a":\xff}'],
)
def test_what_is_neither_is_usage(data):
    with pytest.raises(UsageError):
        read_recorded(data)
