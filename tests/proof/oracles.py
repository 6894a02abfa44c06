"""What is right about the answer of everything that reads outside bytes: each takes one input and says what is wrong.

``decoders`` asks with mutated input, ``guided`` with input that a coverage-guided search makes. An exception that is not
documented passes through: whoever asks reports it.
"""

from __future__ import annotations

import base64
import functools
import json
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from sidecar.inbound.verify import PRESETS, Accepted, Rejected, Request, Secret, compile_scheme
from sidecar.inbound.verify.explain import outline, suspect
from sidecar.inbound.verify.jsonfield import parse_pointer, read_field
from sidecar.inbound.verify.options import HmacOptions
from sidecar.inbound.verify.vectors import parse_case
from sidecar.journal import records
from sidecar.model import Attempt, DeadReason, Delivery, RejectReason, State, format_event_id
from sidecar.outbound import letter as letters
from sidecar.outbound.retry import parse_retry_after
from tests.support.daemon import REPOSITORY
from tests.support.journals import make_event

__all__ = [
    "BODY",
    "NOW_MS",
    "SEAL",
    "Samples",
    "Signed",
    "delivery_row",
    "ended",
    "explained",
    "field",
    "pointer",
    "retry_after",
    "sealed",
    "signature",
    "signed_requests",
    "slot",
    "stored",
]

SEAL = b"k" * 32
NOW_MS = 1_792_567_000_000
BODY = json.dumps({"id": "evt_1", "data": {"list": [1, {"n": 7}], "s": "x~/y"}}).encode()


class Signed(NamedTuple):
    """A recorded request that is accepted.

    Attributes:
        covered: Whether the signature is over the raw body: not so for tokens, and for schemes that sign single fields.
        siblings: Bodies of the other recorded requests with one of its secrets. A search that keeps what leads on puts
            the head of one together with its body, and that is as honest as this one.
    """

    name: str
    verifier: Any
    request: Request
    secrets: list[Secret]
    now_ms: int
    covered: bool
    siblings: frozenset[bytes] = frozenset()


def signed_requests() -> list[Signed]:
    """The recorded cases that are accepted, ready to be spoiled."""
    found = []
    for line in (REPOSITORY / "tests" / "vectors" / "signatures.jsonl").read_bytes().splitlines():
        case = parse_case(line)
        preset = PRESETS.get(case.provider)
        if preset is None or case.expect != "accept":
            continue
        body = base64.b64decode(json.loads(line)["body_base64"])
        headers = {k.lower().encode(): v.encode() for k, v in case.headers.items()}
        request = Request(case.method.encode(), b"/", b"", headers, body, case.url.encode())
        secrets = [Secret(str(n), s.encode()) for n, s in enumerate([case.secret, *case.extra_secrets])]
        verifier, now_ms = compile_scheme(preset.scheme), int((case.now or 0) * 1000)
        if isinstance(verifier.verify(request, secrets, now_ms), Accepted):
            covered = _covers_body(preset.scheme)
            found.append(Signed(case.provider, verifier, request, secrets, now_ms, covered))
    assert sum(case.covered for case in found) > 50
    return [case._replace(siblings=_siblings(case, found)) for case in found]


def _siblings(case: Signed, recorded: list[Signed]) -> frozenset[bytes]:
    own = {secret.value for secret in case.secrets}
    return frozenset(c.request.body for c in recorded if own & {secret.value for secret in c.secrets})


def _covers_body(scheme: object) -> bool:
    return (
        isinstance(scheme, HmacOptions) and "{body}" in scheme.signed and not (scheme.form_field or scheme.url_decode)
    )


def signature(case: Signed, headers: dict[bytes, bytes], body: bytes) -> str:
    """A head that is refused stays refused, and no other body is accepted where the body is signed."""
    spoiled = msgspec.structs.replace(case.request, headers=headers, body=body, parsed=None)
    early = case.verifier.precheck(spoiled, case.secrets, case.now_ms)
    verdict = case.verifier.verify(spoiled, case.secrets, case.now_ms)
    spliced = body in case.siblings and headers != case.request.headers
    if case.covered and body != case.request.body and isinstance(verdict, Accepted) and not spliced:
        return f"{case.name}: a changed body is accepted: {body!r}"
    if isinstance(early, Rejected) and isinstance(verdict, Accepted):
        return f"{case.name}: refused by its head and then accepted: {headers!r}"
    return ""


def explained(case: Signed, headers: dict[bytes, bytes], body: bytes) -> str:
    """What ``webhook-sidecar verify`` says of a request: always something, and never the secret."""
    spoiled = msgspec.structs.replace(case.request, headers=headers, body=body, parsed=None)
    verdict = case.verifier.verify(spoiled, case.secrets, case.now_ms)
    lines = outline(case.verifier, spoiled, case.secrets, case.now_ms)
    echoed = b"\n".join([body, *headers.values()])
    for secret in case.secrets:
        shown = len(secret.value) > 8 and any(secret.value.decode("latin-1") in line for line in lines)
        if shown and secret.value not in echoed:  # some providers' own examples have "secret" for one
            return f"{case.name}: the outline shows a secret"
    if isinstance(verdict, Rejected) and verdict.reason is RejectReason.WRONG_SECRET:
        why = suspect(case.verifier, spoiled, case.secrets, case.now_ms)
        if why is not None and why.reason is not RejectReason.BODY_MODIFIED_SUSPECTED:
            return f"{case.name}: suspects {why.reason}"
    return ""


def field(body: bytes, path: tuple[str, ...]) -> str:
    """Nothing, a text or an integer: the one that another parser finds there too."""
    found = read_field(body, path)
    if found is None:
        return ""
    if not isinstance(found, str | int) or isinstance(found, bool):
        return f"{body!r}: {found!r}"
    value = json.loads(body)
    for token in path:
        value = value[int(token)] if isinstance(value, list) else value[token]
    return "" if type(value) is type(found) and value == found else f"{body!r}: {found!r}, and json has {value!r}"


def pointer(text: str) -> str:
    """A pointer that is taken can be written again as it was."""
    try:
        tokens = parse_pointer(text)
    except ValueError:
        return ""
    again = "".join("/" + t.replace("~", "~0").replace("/", "~1") for t in tokens)
    return "" if again == text else f"{text!r} was read as {tokens}"


def retry_after(value: bytes) -> str:
    """A wait that one can wait, or none."""
    wait = parse_retry_after(value, NOW_MS)
    return "" if wait is None or 0 <= wait < float("inf") else f"a wait of {wait}"


def stored(payload: bytes) -> str:
    """The documented error or a record."""
    with suppress(records.CorruptRecord):
        records.decode_event(payload)
    return ""


class Samples:
    """One of each row of the journal, and a dead letter, as we write them."""

    def __init__(self) -> None:
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
        self.letter = letters.encode(delivery, 10, SEAL)


@functools.cache
def _samples() -> Samples:
    return Samples()


def slot(block: bytes, number: int) -> str:
    """A slot of a damaged block is the event as it was, a gap, or refused."""
    try:
        found = records.event_slot(block, 5, number)
    except records.CorruptRecord:
        return ""
    good = found is None or bytes(found) == _samples().payload
    return "" if good else f"other bytes passed the checksum: {bytes(found or b'')!r}"


def delivery_row(data: bytes) -> str:
    """Only the row as it was is read."""
    try:
        row = records.DeliveryRow.decode(_samples().row_key, data)
    except records.CorruptRecord:
        return ""
    return "" if data == _samples().row else f"a changed row passed the checksum: {row.states!r}"


def ended(data: bytes) -> str:
    """Only entries as they were are read."""
    try:
        found = records.history_entries(data)
    except records.CorruptRecord:
        return ""
    return "" if set(found) <= {2} else f"history of other slots: {found}"


def sealed(data: bytes) -> str:
    """A letter that counts as sealed is the one that we sealed."""
    try:
        letter = letters.parse(data, SEAL)
    except letters.Malformed:
        return ""
    event, ours = letter.delivery.event, _samples().event
    same = event.body == ours.body and event.headers == ours.headers and event.id == ours.id
    return "" if same or not letter.sealed else "a changed letter is sealed"
