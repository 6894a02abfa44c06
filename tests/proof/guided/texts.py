"""What people, providers and clients write: signed requests, JSON and pointers into it, configuration, filters."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qsl

import msgspec

from sidecar.admin.filters import BulkRequest, FilterError, filters_from
from tests.proof import oracles
from tests.proof.guided.target import Target
from tests.support.configs import SECRET_ENV, load_any, secret_folder
from tests.support.daemon import REPOSITORY

__all__ = ["configuration", "filters", "pointer", "signature"]

SIGNATURE_WORDS = (
    b"t=",
    b"v1=",
    b"v0=",
    b"sha256=",
    b"sha1=",
    b"v1,",
    b"v1a,",
    b"\xff",
    b"1_0",
    b"\xd9\xa2",
    b"9" * 30,
)


def signature(_folder: Path) -> Target:
    """Which recorded request; its head, as lines; its body: verified, and explained as ``verify --request`` does."""
    signed = oracles.signed_requests()

    def judge(data: bytes) -> str:
        case = signed[int.from_bytes(data[:1]) % len(signed)]
        head, _, body = data[1:].partition(b"\n\n")
        lines = [line.partition(b": ") for line in head.split(b"\n")]
        headers = {name: value for name, colon, value in reversed(lines) if colon}
        return oracles.signature(case, headers, body) or oracles.explained(case, headers, body)

    seeds = [
        bytes([n]) + b"\n".join(b"%b: %b" % pair for pair in case.request.headers.items()) + b"\n\n" + case.request.body
        for n, case in enumerate(signed)
    ]
    names = {name for case in signed for name in case.verifier.reads}
    return Target(seeds, judge, (*SIGNATURE_WORDS, *sorted(name + b": " for name in names)))


def pointer(_folder: Path) -> Target:
    """A JSON pointer, a line end, a document, in which the pointer finds what another parser finds."""

    def judge(data: bytes) -> str:
        written, _, body = data.partition(b"\n")
        text = written.decode("utf-8", "surrogateescape")
        path = tuple(token.replace("~1", "/").replace("~0", "~") for token in text[1:].split("/"))
        return oracles.pointer(text) or oracles.field(body, path) or oracles.retry_after(written)

    seeds = [b"/id\n", b"/data/list/1/n\n", b"/data/s\n", b"/\n", b"/a~1b/m~0n\n"]
    dates = [
        b"120",
        b"Wed, 21 Oct 2026 07:28:00 GMT",
        b"Wednesday, 21-Oct-26 07:28:00 GMT",
        b"Wed Oct 21 07:28:00 2026",
    ]
    words = (
        b'"id"',
        b'"\\u0069d"',
        b'"data"',
        b"[",
        b"{",
        b"1e999",
        b"NaN",
        b"\\ud800",
        b"\xef\xbb\xbf",
        b"~01",
        b"-0",
    )
    return Target([s + oracles.BODY for s in seeds] + [*dates, b'/a\n{"a":1,"b":[],"a":2}'], judge, words)


def configuration(folder: Path) -> Target:
    """A configuration file: taken, or refused with every problem and without a secret."""
    secret_folder(folder)
    example = re.sub(r"(?m)^#(?=[a-z\[\]]|  \{)", "", (REPOSITORY / "config.example.toml").read_text(encoding="utf-8"))
    sections = [part.encode() for part in re.split(r"(?m)^(?=\[)", re.sub(r"(?m)^#.*\n", "", example)) if part.strip()]

    def judge(data: bytes) -> str:
        in_place = data.count(b"change-me") == len(
            re.findall(rb'(?m)^secret\w* = \[\{ value = "[\w-]*change-me"', data)
        )
        load_any(folder, data[1:], SECRET_ENV, offline=data[:1] == b"#", written_secret=in_place)
        return ""

    words = sorted(set(re.findall(rb"[a-z_]{3,}|\"[^\"\n]{1,20}\"", example.encode())))
    wrong = b'[sources.a]\nsecrets = [{ value = "development-secret-change-me", not_after = "soon" }]\n'
    sections.append(wrong)  # a message about the secret's own line
    return Target([b"#" + s for s in sections] + [b"\n" + s for s in sections], judge, tuple(words[:300]), 2048)


def filters(_folder: Path) -> Target:
    """What a client of the admin listener asks for, as a query or as JSON: taken, or refused by name."""

    def judge(data: bytes) -> str:
        try:
            if data[:1] == b"?":
                wanted = filters_from(dict(parse_qsl(data[1:].decode("utf-8", "replace"))))
            else:
                wanted = msgspec.json.decode(data, type=BulkRequest)
                wanted.check()
            query = wanted.query(oracles.NOW_MS)
        except (FilterError, msgspec.DecodeError, UnicodeDecodeError):
            return ""
        bounds = (query.since_ms, query.until_ms)
        return "" if all(0 <= n < 1 << 63 for n in bounds) else f"an impossible time: {bounds}"

    asked = [{"since": "2h"}, {"until": "2026-11-20T08:00:00Z", "state": "dead"}, {"all": True, "rate": 2.5, "max": 3}]
    ids = {"ids": ["wse_" + "0" * 26], "reason": "expired", "contains": "x", "dry_run": True, "to": "app"}
    seeds = [json.dumps(a).encode() for a in [*asked, ids]]
    queries = [b"?since=2026-11-20&state=pending", b"?ids=wse_00000000000000000000000000&key=evt_1&until=3d"]
    return Target(
        seeds + queries, judge, (b'"since":', b'"until":', b"0001-01-01T00:00:00+23:59", b"9999-12-31", b"999999999w")
    )
