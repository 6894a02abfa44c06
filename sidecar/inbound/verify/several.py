"""[P] Several forms of a keyed hash behind one source: the head says which one, and that one decides alone."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.inbound.verify.keyed_hash import HmacVerifier
from sidecar.inbound.verify.options import AnyOptions
from sidecar.inbound.verify.request import Fetch, Headers, Rejected, Request, Secret, Verdict
from sidecar.inbound.verify.verdicts import MISSING, UNSUPPORTED

__all__ = ["AnyVerifier"]


class AnyVerifier:
    """Judges by the first form that the head shows; see ``AnyOptions``. A form that fails is never made up for."""

    masked: frozenset[bytes] = frozenset()
    needs_body = True
    can_sign = True
    unverified = False
    fetches: tuple[Fetch, ...] | None = None

    def __init__(self, options: AnyOptions) -> None:
        if not options.forms:
            raise ValueError("forms: at least one")
        self.forms = [HmacVerifier(form) for form in options.forms]
        self.reads = frozenset[bytes]().union(*(form.reads for form in self.forms))
        self.needs_url = any(form.needs_url for form in self.forms)
        self.tolerance_ms = self.forms[0].tolerance_ms
        self.covered = self._covered if any(form.covered is not None for form in self.forms) else None

    def _form(self, request: Request) -> HmacVerifier | Rejected:
        shown = [form for form in self.forms if form.shown(request)]
        return next((form for form in shown if form.fits(request)), UNSUPPORTED if shown else MISSING)

    def precheck(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Rejected | None:
        """See ``Verifier``."""
        form = self._form(request)
        return form if isinstance(form, Rejected) else form.precheck(request, secrets, now_ms)

    def verify(self, request: Request, secrets: Sequence[Secret], now_ms: int) -> Verdict:
        """See ``Verifier``."""
        form = self._form(request)
        return form if isinstance(form, Rejected) else form.verify(request, secrets, now_ms)

    def _covered(self, request: Request) -> bytes | None:
        form = self._form(request)
        return None if isinstance(form, Rejected) or form.covered is None else form.covered(request)

    def sign(self, request: Request, secret: Secret, now_ms: int) -> Headers:
        """Sign in the form that the request shows, else in the first."""
        form = self._form(request)
        return (self.forms[0] if isinstance(form, Rejected) else form).sign(request, secret, now_ms)

    def secret_problem(self, value: bytes) -> str:
        """See ``Verifier``."""
        return next((problem for form in self.forms if (problem := form.secret_problem(value))), "")
