"""[P] What one text or number of the configuration must look like, each rule with its code and its words.

A rule stands in the annotation of a field in ``schema``; ``shape`` applies it, ``describe`` publishes its
pattern in the JSON Schema.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from sidecar.config.units import DURATION_PATTERN, SIZE_PATTERN, parse_duration, parse_size
from sidecar.outbound.deliver.url import parse_url

__all__ = ["Between", "DestinationUrl", "Duration", "Listen", "Network", "PublicUrl", "Rule", "Size", "Text"]

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,252})|\[[0-9A-Fa-f:.]+\])"
_PORT = r"[0-9]{1,5}"


@dataclass(frozen=True)
class Text:
    """A text with a pattern.

    Attributes:
        code: Of the problem.
        expected: What a person should write, for messages.
        pattern: The whole text must match; the JSON Schema publishes it.
    """

    code: str
    expected: str
    pattern: str

    def complaint(self, value: str) -> str | None:
        """Say what was expected instead; None when the value is right."""
        return None if re.fullmatch(self.pattern, value) else self.expected


@dataclass(frozen=True)
class Duration:
    """A duration in a range, both ends included."""

    least: str
    most: str
    code: str = "C121"
    pattern: str = DURATION_PATTERN

    @property
    def expected(self) -> str:
        """What a person should write."""
        return f'"{self.least}" to "{self.most}" (a number and ms, s, m, h or d)'

    def complaint(self, value: str) -> str | None:
        """Say what was expected instead; None when the value is right."""
        seconds, least, most = parse_duration(value), parse_duration(self.least), parse_duration(self.most)
        assert least is not None
        assert most is not None
        if seconds is None:
            return self.expected
        return None if least <= seconds <= most else f'"{self.least}" to "{self.most}"'


@dataclass(frozen=True)
class Size:
    """A size in a range, both ends included."""

    least: str
    most: str
    code: str = "C122"
    pattern: str = SIZE_PATTERN

    @property
    def expected(self) -> str:
        """What a person should write."""
        return f'"{self.least}" to "{self.most}" (a whole number and B, KiB, MiB, GiB or TiB)'

    def complaint(self, value: str) -> str | None:
        """Say what was expected instead; None when the value is right."""
        size, least, most = parse_size(value), parse_size(self.least), parse_size(self.most)
        assert least is not None
        assert most is not None
        if size is None:
            return self.expected
        return None if least <= size <= most else f'"{self.least}" to "{self.most}"'


@dataclass(frozen=True)
class Between:
    """A number in a range, both ends included."""

    least: float
    most: float
    code: str = "C123"

    @property
    def expected(self) -> str:
        """What a person should write."""
        return f"{self.least:,} to {self.most:,}".replace(",", "")

    def fits(self, value: float) -> bool:
        """Whether the number is in the range."""
        return self.least <= value <= self.most


@dataclass(frozen=True)
class Network:
    """An IPv4 or IPv6 network, or one address."""

    code: str = "C125"
    expected: str = 'a network or an address, e.g. "10.0.0.0/8" or "::1/128"'
    pattern: str = r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"

    def complaint(self, value: str) -> str | None:
        """Say what was expected instead; None when the value is right."""
        try:
            ipaddress.ip_network(value)
        except ValueError:
            loose = None
            try:
                loose = ipaddress.ip_network(value, strict=False)
            except ValueError:
                return self.expected
            return f'the first address of a network, "{loose}"'
        return None


@dataclass(frozen=True)
class Listen:
    """Where to listen."""

    code: str = "C124"
    expected: str = '"host:port", "[::]:port" or "unix:/path", e.g. "0.0.0.0:8787"'
    pattern: str = rf"^({_HOST}:{_PORT}|unix:/.+)$"

    def complaint(self, value: str) -> str | None:
        """Say what was expected instead; None when the value is right."""
        if "\0" in value or re.fullmatch(self.pattern, value) is None:
            return self.expected
        if value.startswith("unix:"):
            size = len(value.encode("utf-8", "replace"))
            return None if size <= 105 else "a socket path of at most 100 bytes (the system's limit)"
        host, _, port = value.rpartition(":")
        if int(port) > 65535:
            return "a port of 0 to 65535"
        return self.expected if host.startswith("[") and not _is_ipv6(host[1:-1]) else None


@dataclass(frozen=True)
class PublicUrl:
    """What senders see: scheme and authority, perhaps a path prefix."""

    code: str = "C126"
    expected: str = 'an http or https URL without query, e.g. "https://hooks.example.com"'
    pattern: str = rf"^https?://{_HOST}(:{_PORT})?(/[!$&-;=@-Z_a-z~%]*)?$"

    def complaint(self, value: str) -> str | None:
        """Say what was expected instead; None when the value is right."""
        return None if re.fullmatch(self.pattern, value) else self.expected


@dataclass(frozen=True)
class DestinationUrl:
    """Where a destination is."""

    code: str = "C120"
    expected: str = 'an http, https or unix URL, e.g. "http://app:3000/hooks"'
    pattern: str = r"^(https?://[^/?#@{}]+|unix:/[^:{}]+(:|$))"

    def complaint(self, value: str) -> str | None:
        """Say what was expected instead; None when the value is right."""
        try:
            parse_url(value)
        except ValueError as error:
            return str(error).removeprefix("expected ")
        return None


Rule = Text | Duration | Size | Network | Listen | PublicUrl | DestinationUrl


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
