"""Mutated input for everything that reads outside bytes: the documented error or a right answer, nothing else.

Signature headers, JSON fields and pointers, Retry-After, rows of the journal, dead letters.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from unittest import mock

import msgspec

from sidecar.inbound.verify import PRESETS, Accepted, Rejected, Request, Secret, compile_scheme
from sidecar.inbound.verify import keyed_hash as keyed_hash_module
from sidecar.inbound.verify.jsonfield import parse_pointer, read_field
from sidecar.inbound.verify.options import HmacOptions
from sidecar.inbound.verify.vectors import parse_case
from sidecar.journal import records
from sidecar.model import Attempt, DeadReason, Delivery, State, format_event_id
from sidecar.outbound import letter as letters
from sidecar.outbound.retry import parse_retry_after
from tests.proof.shard import Job, Shard
from tests.support.daemon import REPOSITORY
from tests.support.journals import make_event

CHUNK = 5_000
KEY = b"k" * 32
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


def mutate(job: Job, data: bytes) -> bytes:
    """Change some bytes a little."""
    rand, changed = job.rand, bytearray(data)
    for _ in range(rand.choice((1, 1, 1, 3))):
        at = rand.randrange(len(changed) + 1)
        kind = rand.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rand.randrange(8)
        elif kind == 1:
            changed[at:at] = rand.choice(NASTY)
        elif kind == 2:
            del changed[at : at + rand.choice((1, 2, 9))]
        else:
            changed[at : at + 3] = rand.choice(NASTY)
    return bytes(changed)


def covers_body(scheme: object) -> bool:
    """Whether the signature is over the raw body: not so for tokens, and for schemes that sign single fields."""
    return (
        isinstance(scheme, HmacOptions) and "{body}" in scheme.signed and not (scheme.form_field or scheme.url_decode)
    )


def signatures() -> list[tuple[Any, Request, list[Secret], int, bool]]:
    """The recorded cases that are accepted, ready to be spoiled, each with whether its whole body is signed."""
    found = []
    for line in (REPOSITORY / "tests" / "vectors" / "signatures.jsonl").read_bytes().splitlines():
        case = parse_case(line)
        preset = PRESETS.get(case.provider)
        if preset is None or case.expect != "accept":
            continue
        row = json.loads(line)

        headers = {k.lower().encode(): v.encode() for k, v in case.headers.items()}
        request = Request(
            case.method.encode(), b"/", b"", headers, base64.b64decode(row["body_base64"]), case.url.encode()
        )
        secrets = [Secret(str(n), s.encode()) for n, s in enumerate([case.secret, *case.extra_secrets])]
        verifier, now_ms = compile_scheme(preset.scheme), int((case.now or 0) * 1000)
        if isinstance(verifier.verify(request, secrets, now_ms), Accepted):
            found.append((verifier, request, secrets, now_ms, covers_body(preset.scheme)))
    assert sum(covered for *_, covered in found) > 50
    return found


class Targets:
    """Each target takes one mutated input and says what is wrong, or nothing."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.signed = signatures()
        self.event = make_event(b"0123456789" * 30, key="k1")
        self.event.seq, self.event.id, self.event.accepted_at_ms = 5, format_event_id(1, 7, 5), 9
        self.payload = records.encode_event(self.event, 0, (0, 1))
        self.block = records.events_block(5, {0: (self.payload, False), 2: (self.payload, False)}, 9)
        record = records.Record(attempts=1, log=[Attempt(1, 5, 5, "5xx", 500)])
        self.row_key = records.deliveries_key(1, 5)
        self.row = records.DeliveryRow(bytearray(b"\1\0\1"), 9, {2: record}).encode(self.row_key)
        self.history = records.history_entry(2, State.DELIVERED, record) * 2
        delivery = Delivery(
            self.event, "app", State.DYING, 0, 1, 5, 0, DeadReason.REJECTED, (Attempt(1, 5, 5, "4xx", 400),)
        )
        self.letter = letters.encode(delivery, 10, KEY)
        self.body = json.dumps({"id": "evt_1", "data": {"list": [1, {"n": 7}], "s": "x~/y"}}).encode()
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
        verifier, request, secrets, now_ms, covered = self.job.rand.choice(self.signed)
        headers, body = dict(request.headers), request.body
        spoil_body = not verifier.reads or (self.job.rand.random() < 0.3 and verifier.needs_body)
        if spoil_body:
            body = mutate(self.job, body)
        else:
            name = self.job.rand.choice(sorted(verifier.reads))
            headers[name] = mutate(self.job, headers.get(name, b""))
        spoiled = msgspec.structs.replace(request, headers=headers, body=body, parsed=None)
        early = verifier.precheck(spoiled, secrets, now_ms)
        verdict = verifier.verify(spoiled, secrets, now_ms)
        if covered and spoil_body and body != request.body and isinstance(verdict, Accepted):
            return f"a changed body is accepted: {body!r}"
        if isinstance(early, Rejected) and isinstance(verdict, Accepted):
            return f"refused by its head and then accepted: {headers!r}"
        return ""

    def field(self) -> str:
        body, path = (
            mutate(self.job, self.body),
            self.job.rand.choice((("id",), ("data", "list", "1", "n"), ("data", "s"), ("",))),
        )
        found = read_field(body, path)
        return "" if found is None or isinstance(found, str | int) else f"{body!r}: {found!r}"

    def pointer(self) -> str:
        text = mutate(self.job, b"/data/list/1/a~1b").decode("utf-8", "surrogateescape")
        try:
            tokens = parse_pointer(text)
        except ValueError:
            return ""
        again = "".join("/" + t.replace("~", "~0").replace("/", "~1") for t in tokens)
        return "" if again == text else f"{text!r} was read as {tokens}"

    def slot(self) -> str:
        try:
            found = records.event_slot(mutate(self.job, self.block), 5, self.job.rand.choice((0, 1, 2, 3)))
        except records.CorruptRecord:
            return ""
        return (
            ""
            if found is None or bytes(found) == self.payload
            else f"other bytes passed the checksum: {bytes(found)!r}"
        )

    def stored(self) -> str:
        with suppress(records.CorruptRecord):
            records.decode_event(mutate(self.job, self.payload))
        return ""

    def delivery_row(self) -> str:
        data = mutate(self.job, self.row)
        try:
            row = records.DeliveryRow.decode(self.row_key, data)
        except records.CorruptRecord:
            return ""
        return "" if data == self.row else f"a changed row passed the checksum: {row.states!r}"

    def ended(self) -> str:
        data = mutate(self.job, self.history)
        try:
            found = records.history_entries(data)
        except records.CorruptRecord:
            return ""
        return "" if set(found) <= {2} else f"history of other slots: {found}"

    def sealed(self) -> str:
        data = mutate(self.job, self.letter)
        try:
            letter = letters.parse(data, KEY)
        except letters.Malformed:
            return ""
        event = letter.delivery.event
        same = event.body == self.event.body and event.headers == self.event.headers and event.id == self.event.id
        return "" if same or not letter.sealed else "a changed letter is sealed"

    def retry_after(self) -> str:
        wait = parse_retry_after(
            mutate(self.job, self.job.rand.choice((b"120", b"Wed, 21 Oct 2026 07:28:00 GMT", b"0"))), 1_792_567_000_000
        )
        return "" if wait is None or 0 <= wait < float("inf") else f"a wait of {wait}"


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
