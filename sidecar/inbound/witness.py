"""llhttp as the second reader of every message: it tokenises heads and must see the same ends as our own gate.

``connection`` asks it; the verdicts are ``framing``'s. The only module of this lane that knows httptools.
"""

from __future__ import annotations

from collections.abc import Callable

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

__all__ = ["Witness"]


class Witness:
    """llhttp's view of one connection. After any False or None it knows nothing more: the connection has to end."""

    __slots__ = ("_complete", "_feed", "_headers", "_skips_body")

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._complete = False
        self._skips_body = False  # of a request with Upgrade, which we ignore and llhttp does not: the gate is alone
        # The parser takes these two callbacks by name; it and they refer to each other until ``forget``.
        self._feed: Callable[[bytes], None] = HttpRequestParser(self).feed_data

    def on_header(self, name: bytes, value: bytes) -> None:
        """Be called by the parser."""
        self._headers.append((name, value))

    def on_message_complete(self) -> None:
        """Be called by the parser."""
        self._complete = True

    def head(self, data: bytes) -> list[tuple[bytes, bytes]] | None:
        """Read one whole head.

        Returns:
            Its headers, with white space left behind the values; None when llhttp does not take it.
        """
        try:
            self._feed(data)
        except HttpParserUpgrade:
            self._skips_body = True
        except HttpParserError:
            return None
        headers = self._headers
        self._headers = []
        return headers

    def expects_body(self, length: int) -> bool:
        """Whether llhttp, too, thinks that a body follows the head just read, or that none does (length 0)."""
        return self._skips_body or self._complete is (length == 0)

    def body(self, data: bytes) -> bool:
        """Read bytes of the body, framing included; False when llhttp does not take them."""
        if not self._skips_body:
            try:
                self._feed(data)
            except HttpParserError:
                return False
        return True

    def ends(self) -> bool:
        """Whether llhttp, too, thinks that the message ends here. Makes ready for the next one."""
        agreed = self._complete or self._skips_body
        self._complete = self._skips_body = False
        if self._headers:  # trailers
            self._headers = []
        return agreed

    def forget(self) -> None:
        """Let go of the parser."""
        self._feed = _nothing


def _nothing(data: bytes) -> None:
    raise HttpParserError(f"{len(data)} bytes behind the end")
