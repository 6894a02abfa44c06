"""A receiver with everything round it in view, and requests for it."""

from __future__ import annotations

import ipaddress

import msgspec

from sidecar.feed import Feed
from sidecar.inbound.ack import Answer, error_answer
from sidecar.inbound.application import Head
from sidecar.inbound.dedup import DedupOptions
from sidecar.inbound.receive import Receiver
from sidecar.inbound.source import SourceOptions
from sidecar.inbound.verify import (
    PRESETS,
    HmacOptions,
    NoneOptions,
    Request,
    Secret,
    compile_scheme,
    sign_request,
)
from sidecar.journal.types import Appended
from sidecar.metrics import Metrics
from sidecar.model import Refusal

NOW = 1_700_000_000_000
SECRET = Secret("2026", b"whsec_test")
UNAUTHORIZED = error_answer(Refusal.UNAUTHORIZED)


class FakeClock:
    now = NOW
    mono = 100.0

    def wall_ms(self):
        return self.now

    def monotonic_s(self):
        return self.mono


class RecordingJournal:
    """Keeps what is appended; answers at once, or when told."""

    def __init__(self):
        self.appended = []
        self.result = None  # None: a fresh commit
        self.waiting = None

    def append(self, event, claim, ack, done):
        self.appended.append((event, claim, ack))
        event.seq = len(self.appended)
        event.id = f"wse_{event.seq:026}"

        def commit():
            done(Appended(event) if self.result is None else self.result)

        if self.waiting is None:
            commit()
        else:
            self.waiting.append(commit)


class World:
    """A receiver with everything round it in view."""

    def __init__(self, *sources, trusted=("127.0.0.0/8",)):
        self.journal, self.metrics, self.feed, self.clock = RecordingJournal(), Metrics(), Feed(), FakeClock()
        self.receiver = Receiver(
            self.journal,
            self.metrics,
            self.feed,
            self.clock,
            trusted_proxies=[ipaddress.ip_network(t) for t in trusted],
        )
        self.receiver.configure(sources)

    def send(self, h, body=b"{}"):
        """The answers to one request."""
        answers = []
        admitted = self.receiver.head(h)
        if isinstance(admitted, Answer):
            return admitted
        self.receiver.complete(h, admitted.context, body, answers.append)
        assert len(answers) <= 1
        return answers[0] if answers else None

    def counts(self, family="received"):
        """What is not zero."""
        return {k: v for k, v in getattr(self.metrics, family).values.items() if v}


class Keys:
    """The key store, as far as a test says."""

    def __init__(self):
        self.snapshot, self.asked, self.settled = {}, [], False

    def ask(self, fetch, done):
        if self.settled:
            return False
        self.asked.append((fetch, done))
        return True


class Book:
    """The book of handshakes, as far as a test says."""

    def __init__(self):
        self.known, self.open, self.learned = [], False, []

    def secrets(self, source):
        return tuple(Secret(f"handshake-{n}", v) for n, v in enumerate(self.known, 1))

    def knows(self, source, value):
        return value in self.known

    def expected(self, source):
        return self.open

    def learn(self, source, value, peer, done):
        self.open = False
        self.learned.append((source, value, peer, done))


class OneSource:
    """A receiver with one source, and with keys and secrets from elsewhere."""

    def __init__(self, **options):
        self.journal, self.metrics, self.clock = RecordingJournal(), Metrics(), FakeClock()
        self.keys, self.book, self.confirmed = Keys(), Book(), []
        self.feed = Feed()
        self.receiver = Receiver(
            self.journal, self.metrics, self.feed, self.clock, keys=self.keys, book=self.book,
            confirm=lambda source, url: self.confirmed.append((source, url)),
        )  # fmt: skip
        defaults = {"name": "s", "path": b"/in", "destinations": ("d",), "verifier": PLAIN}
        self.receiver.configure([SourceOptions(**{**defaults, **options})])

    def send(self, body=b"{}", **more):
        h = msgspec.structs.replace(head(**more), length=len(body))
        answers = []
        admitted = self.receiver.head(h)
        if isinstance(admitted, Answer):
            return [admitted]
        self.receiver.complete(h, admitted.context, body, answers.append)
        return answers

    def counts(self, family="received"):
        return {k[1]: v for k, v in getattr(self.metrics, family).values.items() if v}


def head(path=b"/in", headers=(), method=b"POST", peer="198.51.100.1", query=b"", secure=False, length=None):
    headers = [(b"Host", b"sidecar:8787"), *headers]
    lower, repeated = {}, set()
    for name, value in headers:
        if name.lower() in lower:
            repeated.add(name.lower())
        lower.setdefault(name.lower(), value)
    target = path + (b"?" + query if query else b"")
    ascii_ = all(name.isascii() and value.isascii() for name, value in headers)
    return Head(method, target, path, query, headers, lower, frozenset(repeated), length, peer, secure, 0.0, ascii_)


def source(name="s", path=b"/in", preset="stripe", **more):
    known = PRESETS[preset]
    options = {
        "name": name,
        "path": path,
        "verifier": compile_scheme(known.scheme),
        "secrets": (SECRET,),
        "destinations": ("app",),
        "dedup": DedupOptions(key=known.dedup_key, key_signed=known.key_signed),
    }
    return SourceOptions(**{**options, **more})


def signed(preset="stripe", body=b"{}", secret=SECRET, now=NOW, unique_id="7", path=b"/in", **more):
    known = PRESETS[preset]
    verifier = compile_scheme(known.scheme)
    return head(path, sign_request(verifier, secret, body, now, preset=known, unique_id=unique_id), **more)


OPEN = {"verifier": compile_scheme(NoneOptions(allow_unverified=True)), "secrets": (), "dedup": DedupOptions()}
PLAIN = compile_scheme(HmacOptions(header="X-Sig"))
BODY = b'{"id":"evt_1"}'


def plain(body: bytes = b"{}") -> Request:
    """What ``PLAIN`` signs."""
    return Request(b"POST", b"/in", b"", {}, body)
