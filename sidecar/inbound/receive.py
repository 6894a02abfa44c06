"""One request: find its source, verify it, name it, hand it to the journal, answer after the commit.

Stands between the listener, which knows only HTTP, and the journal, which knows only events. Never waits and never
touches a disk: it is called with a head, then with a body, and answers through a callback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sidecar.clock import Clock
from sidecar.feed import Feed
from sidecar.inbound.ack import Answer, ack_answer
from sidecar.inbound.application import Admit, Head
from sidecar.inbound.dedup import claim, extract, printable_key
from sidecar.inbound.forwarded import Forwarded, Network, ProxyTrust
from sidecar.inbound.handshakes import Handshakes
from sidecar.inbound.intake import Intake, Reply
from sidecar.inbound.needs import Book, Journal, Keys
from sidecar.inbound.resign import Resigner
from sidecar.inbound.source import Source, SourceOptions
from sidecar.inbound.sources import Sources
from sidecar.inbound.telling import UNKNOWN, Telling
from sidecar.inbound.verify import Rejected, Request
from sidecar.inbound.verify.explain import suspect
from sidecar.inbound.verify.handshakes import MAX_BYTES as HANDSHAKE_BYTES
from sidecar.journal.types import Appended, Duplicate
from sidecar.metrics import Metrics
from sidecar.model import Event, Refusal, RejectReason

__all__ = ["Receiver"]

EXPLAIN_EVERY_S: Final = 0.2
"""How often a refusal is looked into more closely: at most some hundred µs each time."""

_OWN_SIGNATURE: Final = Rejected(RejectReason.MALFORMED_BODY, "a handshake signs such bodies for anybody")
_NOT_UTF8: Final = Rejected(RejectReason.MALFORMED_SIGNATURE, "a header that counts is not UTF-8")


class Receiver:
    """The application behind the listener: implements ``application.Application`` for all configured sources.

    Attributes:
        resign: Signs late deliveries afresh; see ``resign.Resigner``.
    """

    def __init__(
        self,
        journal: Journal,
        metrics: Metrics,
        feed: Feed,
        clock: Clock,
        *,
        trusted_proxies: Sequence[Network] = (),
        on_revived: Callable[[str], None] | None = None,
        keys: Keys | None = None,
        book: Book | None = None,
        confirm: Callable[[str, str], None] | None = None,
    ) -> None:
        """Prepare; ``configure`` brings the sources.

        Args:
            journal: Where events go.
            metrics: Where to count.
            feed: Where to tell those who watch.
            clock: The machine's clocks.
            trusted_proxies: Whose X-Forwarded-* are believed.
            on_revived: Told the id of an event whose dead deliveries a repeat made pending again.
            keys: For schemes whose keys are on the network.
            book: For secrets that arrive by handshake.
            confirm: Calls the address that confirms a subscription: (source, URL).
        """
        self._journal = journal
        self._on_revived = on_revived
        self._keys = keys
        self._metrics = metrics
        self._feed = feed
        self._clock = clock
        self._telling = Telling(metrics, feed, clock)
        self._sources = Sources(self._telling, book)
        self._handshakes = Handshakes(self._sources, self._telling, clock, book=book, confirm=confirm)
        self._trust = ProxyTrust(trusted_proxies)
        self._stopped: Refusal | None = None
        self._explain_s = 0.0
        self.resign = Resigner(self._sources).resign
        self.configure(())

    # --- configuration and drain

    def configure(self, sources: Sequence[SourceOptions], trusted_proxies: Sequence[Network] | None = None) -> None:
        """Take over a configuration at once; requests under way finish with the source they began with.

        Args:
            sources: All of them; names and paths are unique.
            trusted_proxies: None = as before.

        Raises:
            ValueError: When an option has none of its forms; nothing is changed then.
        """
        self._sources.configure(sources)
        if trusted_proxies is not None:
            self._trust = ProxyTrust(trusted_proxies)

    def secrets_changed(self, name: str) -> None:
        """Take over the secrets that have arrived for a source, or were forgotten."""
        self._sources.secrets_changed(name)

    @property
    def accepting(self) -> bool:
        """Whether new requests are taken."""
        return self._stopped is None

    def stop_accepting(self, code: Refusal = Refusal.SHUTTING_DOWN) -> None:
        """Answer new requests with 503 and this code; those whose head was taken are finished."""
        self._stopped = code

    def resume(self) -> None:
        """Take requests again."""
        self._stopped = None

    def refused_since(self, since_ms: int, source: str = "") -> dict[str, int]:
        """How many requests were refused since then (wall clock, whole hours, 7 days), by reason or error code."""
        return self._telling.refused_since(since_ms, source)

    # --- the listener's side

    def head(self, head: Head) -> Admit | Answer:
        """Decide what the head alone decides."""
        source = self._sources.by_path.get(head.path)
        try:
            return self._admit(source, head)
        except Exception as error:  # noqa: BLE001 - the top of a request: a bug must not cost the sender an answer
            return self._telling.refuse_on_bug(source, error)

    def _admit(self, source: Source | None, head: Head) -> Admit | Answer:
        if source is None:
            return self._telling.refuse(None, Refusal.NOT_FOUND)
        options = source.options
        handshake_only = head.method in source.handshake_methods
        if head.method not in options.methods and not handshake_only:
            return self._telling.refuse(source, Refusal.METHOD_NOT_ALLOWED)
        if head.repeated and not source.reads.isdisjoint(head.repeated):
            return self._telling.refuse(source, Refusal.DUPLICATE_HEADER)
        intake = self._intake(source, head)
        handshake = options.handshake
        if handshake is not None and handshake_only:
            intake.trial = not handshake.signed
        elif handshake is not None and not handshake.signed:
            small = head.length is not None and head.length <= HANDSHAKE_BYTES
            by_head = handshake.unsigned_head
            intake.trial = small and (head.method in source.tries or (by_head is not None and by_head(intake.request)))
        if not intake.trial:
            rejected = self._precheck(source, intake.request, head)
            if rejected is not None:
                return self._telling.unauthorized(source, rejected)
        if not handshake_only and not intake.trial and not source.takes(head):
            return self._telling.refuse(source, Refusal.UNSUPPORTED_MEDIA_TYPE)
        if self._stopped is not None:
            return self._telling.refuse(source, self._stopped)
        return Admit(options.max_body, intake)

    def _intake(self, source: Source, head: Head) -> Intake:
        chain: list[bytes] = []
        if b"x-forwarded-for" in head.repeated:
            chain = [value for name, value in head.headers if name.lower() == b"x-forwarded-for"]
        forwarded = self._trust.read(head.peer, head.secure, head.lower, chain)
        public = source.public
        if public is not None:
            forwarded = Forwarded(forwarded.chain, public.proto, public.host)
        url = source.url(forwarded, head.path, head.query)
        request = Request(head.method, head.path, head.query, head.lower, b"", url, repeated=head.repeated)
        if source.fetches and self._keys is not None:
            request.keys = self._keys.snapshot
        return Intake(source, head, request, forwarded, self._telling.durations[source.name])

    def _precheck(self, source: Source, request: Request, head: Head) -> Rejected | None:
        if not head.ascii:
            for name in source.reads:
                value = head.lower.get(name)
                if value is not None and not _is_utf8(value):
                    return _NOT_UTF8
        return source.verifier.precheck(request, source.secrets, self._clock.wall_ms())

    def complete(self, head: Head, context: object, body: bytes, reply: Reply) -> None:
        """Judge the whole request; the answer comes now or after the commit."""
        del head  # the intake has it
        intake = context
        assert isinstance(intake, Intake)
        intake.started_s = self._clock.monotonic_s()
        intake.reply = reply
        intake.request.body = body
        answer = self._judge_or_fail(intake)
        if answer is not None:
            intake.answer(answer, self._clock.monotonic_s())

    def _judge_or_fail(self, intake: Intake) -> Answer | None:
        try:
            return self._judge(intake)
        except Exception as error:  # noqa: BLE001 - the top of a request: a bug must not cost the sender an answer
            return self._telling.refuse_on_bug(intake.source, error)

    def refused(self, context: object | None, head: Head | None, code: Refusal) -> None:
        """Count what the listener itself refused: framing, limits, timeouts."""
        source = context.source if isinstance(context, Intake) else None
        if source is None and head is not None:
            source = self._sources.by_path.get(head.path)
        if code is Refusal.BODY_TOO_LARGE and isinstance(context, Intake):
            limit, announced = context.source.options.max_body, context.head.length
            self._telling.count(source, code, code, limit_bytes=limit, announced_bytes=announced)
        else:
            self._telling.count(source, code, code)

    def aborted(self, context: object | None) -> None:
        """Count a sender that went away before its request was complete."""
        self._metrics.received.inc(context.source.name if isinstance(context, Intake) else UNKNOWN, "aborted")

    # --- one request

    def _judge(self, intake: Intake) -> Answer | None:
        """Verify and store; None when the answer comes after the commit."""
        source, request = intake.source, intake.request
        now_ms = self._clock.wall_ms()
        if intake.trial:
            answer = self._handshakes.answer(intake, now_ms, "")
            if answer is not None or intake.learning:
                return answer
            if request.method in source.handshake_methods:
                return self._telling.refuse(source, Refusal.METHOD_NOT_ALLOWED)
        if not request.body and not source.options.allow_empty:
            return self._telling.refuse(source, Refusal.EMPTY_BODY)
        verdict = source.verifier.verify(request, source.secrets, now_ms)
        if isinstance(verdict, Rejected):
            return self._rejected(intake, verdict)
        if intake.trial and not source.takes(intake.head):  # it looked like a handshake, which may have any
            return self._telling.refuse(source, Refusal.UNSUPPORTED_MEDIA_TYPE)
        if verdict.key_id:
            self._metrics.key_matched.inc(source.name, verdict.key_id)
        handshake = source.handshake
        if handshake is not None and handshake.signs is not None and handshake.signs.fullmatch(request.body):
            return self._telling.unauthorized(source, _OWN_SIGNATURE)
        if handshake is not None and handshake.signed:
            answer = self._handshakes.answer(intake, now_ms, verdict.key_id)
            if answer is not None:
                return answer
        self._store(intake, now_ms)
        return None

    def _rejected(self, intake: Intake, rejected: Rejected) -> Answer | None:
        """Refuse, unless a key from the network may still turn the verdict: then the answer comes with it."""
        source, wanted = intake.source, rejected.fetch
        if wanted is None or self._keys is None or intake.fetched:
            return self._telling.unauthorized(source, self._explained(intake, rejected))
        intake.fetched = True

        def done(ok: bool) -> None:
            if ok:
                answer = self._judge_or_fail(intake)
            else:
                # It speaks about us and the network, not about the sender, so not 401.
                self._metrics.verification_failures.inc(source.name, RejectReason.KEY_UNAVAILABLE)
                answer = self._telling.refuse(source, Refusal.KEYS_UNAVAILABLE)
            if answer is not None:
                intake.answer(answer, self._clock.monotonic_s())

        return None if self._keys.ask(wanted, done) else self._telling.unauthorized(source, rejected)

    def _explained(self, intake: Intake, rejected: Rejected) -> Rejected:
        """Look for a better word than "wrong secret", now and then: a stranger can ask as often as they like."""
        now_s = self._clock.monotonic_s()
        if rejected.reason is not RejectReason.WRONG_SECRET or now_s < self._explain_s:
            return rejected
        self._explain_s = now_s + EXPLAIN_EVERY_S
        return suspect(intake.source.verifier, intake.request, intake.source.secrets, self._clock.wall_ms()) or rejected

    def _store(self, intake: Intake, now_ms: int) -> None:
        source, request, head, forwarded = intake.source, intake.request, intake.head, intake.forwarded
        options, dedup, body = source.options, source.dedup, request.body
        key = extract(dedup, request.headers, body, max_inflated=options.max_body)
        event = Event(
            source=source.name,
            destinations=options.destinations,
            received_at_ms=now_ms,
            method=head.method,
            path=head.path,
            query=head.query,
            headers=head.headers,
            body=body,
            verified=not source.verifier.unverified,
            key="" if dedup.key == "body" else printable_key(key),
            forwarded_for=forwarded.chain,
            forwarded_proto=forwarded.proto,
            forwarded_host=forwarded.host,
        )
        missing = key is None and dedup.key != "none"

        def done(result: Appended | Duplicate | Refusal) -> None:
            self._stored(intake, event, result, missing=missing)

        covered = source.covered(request) if source.covered is not None else None
        self._journal.append(event, claim(source.name, dedup, key, body, covered), options.ack, done)

    def _stored(self, intake: Intake, event: Event, result: Appended | Duplicate | Refusal, *, missing: bool) -> None:
        name, m = intake.source.name, self._metrics
        if isinstance(result, Refusal):
            intake.answer(self._telling.refuse(intake.source, result), self._clock.monotonic_s())
            return
        if isinstance(result, Appended):
            outcome, event_id = "accepted", event.id
            m.last_accepted.set(event.received_at_ms / 1000, name)
            if missing:
                m.dedup_key_missing.inc(name)
            answer = ack_answer(intake.source.options.ack, event_id)
        else:
            outcome, event_id = "duplicate", result.event_id
            if result.conflict:
                m.dedup_conflicts.inc(name)
            if result.revived and self._on_revived is not None:
                self._on_revived(event_id)
            answer = ack_answer(result.ack, event_id, replayed=True)
        m.received.inc(name, outcome)
        if self._feed.watched:
            self._telling.publish(name, outcome, event_id=event_id, key=event.key, bytes=len(event.body))
        intake.answer(answer, self._clock.monotonic_s())


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
