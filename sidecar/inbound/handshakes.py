"""How handshakes are answered: at once, or once a secret that came with one is on disk; one that nobody expects is refused.

What a provider's handshake looks like is in ``verify/handshakes``; here is what we do about it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sidecar.clock import Clock
from sidecar.inbound.ack import Answer
from sidecar.inbound.intake import Intake
from sidecar.inbound.needs import Book
from sidecar.inbound.source import Source
from sidecar.inbound.sources import Sources
from sidecar.inbound.telling import Telling
from sidecar.inbound.verify import HandshakeAnswer, Rejected, active_secrets
from sidecar.model import Refusal, RejectReason

__all__ = ["Handshakes"]

_NOT_EXPECTED: Final = Rejected(RejectReason.HANDSHAKE_NOT_EXPECTED, "webhook-sidecar handshake expect")


class Handshakes:
    """Answers them for all sources.

    Args:
        sources: Told of a secret that has arrived.
        telling: Told what became of a request.
        clock: The machine's clocks.
        book: Keeps secrets that arrive; None = none is ever expected.
        confirm: Calls the address that confirms a subscription: (source, URL); None = nobody does.
    """

    def __init__(
        self,
        sources: Sources,
        telling: Telling,
        clock: Clock,
        *,
        book: Book | None,
        confirm: Callable[[str, str], None] | None,
    ) -> None:
        self._sources = sources
        self._telling = telling
        self._clock = clock
        self._book = book
        self._confirm = confirm

    def answer(self, intake: Intake, now_ms: int, matched: str) -> Answer | None:
        """Answer a handshake.

        Args:
            intake: The whole request.
            now_ms: Wall clock.
            matched: Id of the secret that verified it; "" = it came unsigned.

        Returns:
            None when it is none, or, with ``intake.learning`` set, when the answer comes after its secret is on disk.
        """
        source, request = intake.source, intake.request
        assert source.handshake is not None
        secrets = active_secrets(source.secrets, now_ms)
        secrets.sort(key=lambda secret: secret.id != matched)  # the one that the provider uses comes first
        said = source.handshake.respond(request, secrets, source.terms)
        if said is None:
            return None
        if isinstance(said, Rejected):
            return self._telling.unauthorized(source, said)
        if isinstance(said, Refusal):
            return self._telling.refuse(source, said)
        if said.learned and not (self._book is not None and self._book.knows(source.name, said.learned)):
            return self._learn(intake, said)
        if said.confirm and self._confirm is not None:
            self._confirm(source.name, said.confirm)
        return self._shaken(source, said)

    def _shaken(self, source: Source, said: HandshakeAnswer) -> Answer:
        self._telling.handshake(source)
        return Answer(said.status, said.body, said.content_type, said.headers)

    def _learn(self, intake: Intake, said: HandshakeAnswer) -> Answer | None:
        source = intake.source
        if self._book is None or not self._book.expected(source.name):
            return self._telling.unauthorized(source, _NOT_EXPECTED)

        def done(ok: bool) -> None:
            self._sources.secrets_changed(source.name)
            answer = self._shaken(source, said) if ok else self._telling.refuse(source, Refusal.STORAGE_ERROR)
            intake.answer(answer, self._clock.monotonic_s())

        intake.learning = True
        self._book.learn(source.name, said.learned, intake.head.peer, done)
        return None
