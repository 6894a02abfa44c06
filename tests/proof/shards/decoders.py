"""Mutated input for everything that reads outside bytes: the documented error or a right answer, nothing else.

Signature headers, JSON fields and pointers, Retry-After, rows of the journal, dead letters.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

from sidecar.inbound.verify import keyed_hash as keyed_hash_module
from sidecar.journal import records
from sidecar.outbound import letter as letters
from tests.proof import oracles
from tests.proof.shard import Job, Shard
from tests.proof.spoil import spoil

CHUNK = 5_000
PATHS = (("id",), ("data", "list", "1", "n"), ("data", "s"), ("",))
WAITS = (b"120", b"Wed, 21 Oct 2026 07:28:00 GMT", b"0")
NASTY = (
    b"",
    b"\x00",
    b"\xff",
    b"\xd9\xa2",
    b"=",
    b",",
    b" ",
    b"t=",
    b"v1=",
    b"sha256=",
    b"1_0",
    b"nan",
    b"-1",
    b"1e9",
    b"9" * 400,
    b"\xed\xa0\x80",
    b"\\ud800",
    b"[" * 80,
    b'{"a":',
    b"NaN",
    b"1e999",
    b"\xef\xbb\xbf",
    b"~",
    b"~2",
    b"/",
    b"\r\n",
    b"%00",
)


def changed(job: Job, data: bytes) -> bytes:
    """Some bytes, changed a little."""
    return spoil(job.rand, [data], NASTY)


class Targets:
    """Each target takes one mutated input and says what is wrong, or nothing."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.signed = oracles.signed_requests()
        self.samples = oracles.Samples()
        self.all: tuple[Callable[[], str], ...] = (
            self.signature,
            self.signature,
            self.field,
            self.pointer,
            self.slot,
            self.stored,
            self.delivery_row,
            self.ended,
            self.sealed,
            self.retry_after,
        )

    def signature(self) -> str:
        case = self.job.rand.choice(self.signed)
        headers, body = dict(case.request.headers), case.request.body
        if not case.verifier.reads or (self.job.rand.random() < 0.3 and case.verifier.needs_body):
            body = changed(self.job, body)
        else:
            name = self.job.rand.choice(sorted(case.verifier.reads))
            headers[name] = changed(self.job, headers.get(name, b""))
        return oracles.signature(case, headers, body)

    def field(self) -> str:
        return oracles.field(changed(self.job, oracles.BODY), self.job.rand.choice(PATHS))

    def pointer(self) -> str:
        return oracles.pointer(changed(self.job, b"/data/list/1/a~1b").decode("utf-8", "surrogateescape"))

    def slot(self) -> str:
        return oracles.slot(changed(self.job, self.samples.block), self.job.rand.choice((0, 1, 2, 3)))

    def stored(self) -> str:
        return oracles.stored(changed(self.job, self.samples.payload))

    def delivery_row(self) -> str:
        return oracles.delivery_row(changed(self.job, self.samples.row))

    def ended(self) -> str:
        return oracles.ended(changed(self.job, self.samples.history))

    def sealed(self) -> str:
        return oracles.sealed(changed(self.job, self.samples.letter))

    def retry_after(self) -> str:
        return oracles.retry_after(changed(self.job, self.job.rand.choice(WAITS)))


def some(job: Job) -> None:
    """A few thousand inputs over all targets."""
    targets = Targets(job)
    for n in range(CHUNK):
        target = targets.all[n % len(targets.all)]
        try:
            wrong = target()
        except Exception as e:  # noqa: BLE001 - whatever it raises is what we look for
            wrong = f"{type(e).__name__}: {e}"
        job.count += 1
        if wrong:
            job.found.append(f"seed {job.seed}, {target.__name__}: {wrong[:300]}")
        if not job.goes_on:
            return


def run(job: Job) -> None:
    """Go on until the time is over."""
    while job.goes_on:
        job.isolated(partial(_loop, job))


def _loop(job: Job) -> None:
    for _ in range(20):
        if job.goes_on:
            some(job)


@contextmanager
def _spoiled(bug: str) -> Any:
    if bug == "signature":
        with mock.patch.object(keyed_hash_module.HmacVerifier, "_matches", return_value=True):
            yield
    elif bug == "checksum":
        with mock.patch.object(records, "zlib", mock.Mock(crc32=lambda *_: 0)):
            yield
    else:
        with (
            mock.patch.object(letters, "Malformed", type("Other", (ValueError,), {})),
            mock.patch.object(letters, "parse", json.loads),
        ):
            yield


def control(job: Job) -> list[str]:
    """Signatures that all match, checksums that all agree, a decoder with an error of its own."""
    for bug in ("signature", "checksum", "error"):
        attempt = job.sub(bug, 60)
        with _spoiled(bug):
            attempt.isolated(partial(_loop, attempt))
        assert attempt.found, f"{bug}: {attempt.count} inputs, and nothing was wrong"
    return ["every signature matches", "every checksum agrees", "an undocumented error"]


SHARD = Shard("decoders", ("P7", "P8", "P9"), "decoder inputs", run, control)
