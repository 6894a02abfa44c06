"""[P] The modules that decide, most important first, each with the tests that must notice any change to it.

To add one: a line here. What a module decides must be seen by its own tests in ``tests/unit``.
"""

from __future__ import annotations

__all__ = ["MODULES"]

_INBOUND, _VERIFY = "tests/unit/inbound", "tests/unit/inbound/verify"
_JOURNAL, _OUTBOUND, _CONFIG = "tests/unit/journal", "tests/unit/outbound", "tests/unit/config"

MODULES: dict[str, tuple[str, ...]] = {
    "sidecar.lifecycle": ("tests/unit/test_lifecycle.py",),
    "sidecar.journal.records": (f"{_JOURNAL}/test_records.py",),
    "sidecar.outbound.retry": (f"{_OUTBOUND}/test_retry.py",),
    "sidecar.outbound.hold": (f"{_OUTBOUND}/test_hold.py",),
    "sidecar.outbound.settle": (f"{_OUTBOUND}/test_settle.py",),
    "sidecar.inbound.dedup": (f"{_INBOUND}/test_dedup.py",),
    "sidecar.inbound.verify.timestamp": (f"{_VERIFY}/test_timestamp.py",),
    "sidecar.inbound.verify.jsonfield": (f"{_VERIFY}/test_jsonfield.py",),
    "sidecar.inbound.verify.verdicts": (f"{_VERIFY}/test_verdicts.py",),
    "sidecar.inbound.verify.several": (f"{_VERIFY}/test_several.py",),
    "sidecar.inbound.framing": (f"{_INBOUND}/test_framing.py",),
    "sidecar.inbound.chunked": (f"{_INBOUND}/test_chunked.py",),
    "sidecar.outbound.letter": (f"{_OUTBOUND}/test_letter.py",),
    "sidecar.admin.filters": ("tests/unit/admin/test_filters.py",),
    "sidecar.journal.dedup_entries": (f"{_JOURNAL}/test_dedup_entries.py",),
    "sidecar.journal.dedup_recent": (f"{_JOURNAL}/test_dedup_recent.py",),
    "sidecar.journal.bloom": (f"{_JOURNAL}/test_bloom.py",),
    "sidecar.journal.limits": (f"{_JOURNAL}/test_limits.py",),
    "sidecar.journal.meta": (f"{_JOURNAL}/test_meta.py",),
    "sidecar.inbound.verify.keyed_hash": (f"{_VERIFY}/test_keyed_hash.py",),
    "sidecar.inbound.verify.bespoke": (f"{_VERIFY}/test_bespoke.py",),
    "sidecar.inbound.verify.handshakes.signed": (f"{_VERIFY}/handshakes/test_signed.py",),
    "sidecar.inbound.verify.handshakes.unsigned": (f"{_VERIFY}/handshakes/test_unsigned.py",),
    "sidecar.inbound.verify.signed": (f"{_VERIFY}/test_signed.py",),
    "sidecar.inbound.verify.fields": (f"{_VERIFY}/test_fields.py",),
    "sidecar.inbound.verify.form": (f"{_VERIFY}/test_form.py",),
    "sidecar.inbound.verify.digests": (f"{_VERIFY}/test_digests.py",),
    "sidecar.inbound.verify.keys": (f"{_VERIFY}/test_keys.py",),
    "sidecar.inbound.ack": (f"{_INBOUND}/test_ack.py",),
    "sidecar.inbound.forwarded": (f"{_INBOUND}/test_forwarded.py",),
    "sidecar.inbound.source": (f"{_INBOUND}/test_source.py",),
    "sidecar.inbound.verify.twilio": (f"{_VERIFY}/test_twilio.py",),
    "sidecar.outbound.budget": (f"{_OUTBOUND}/test_budget.py",),
    "sidecar.outbound.deliver.url": (f"{_OUTBOUND}/deliver/test_url.py",),
    "sidecar.outbound.deliver.headers": (f"{_OUTBOUND}/deliver/test_headers.py",),
    "sidecar.outbound.lane": tuple(f"{_OUTBOUND}/test_lane{part}.py" for part in ("", "_hold", "_waits", "_life")),
    "sidecar.inbound.verify.public_key": (f"{_VERIFY}/test_public_key.py",),
    "sidecar.inbound.verify.body_signed": (f"{_VERIFY}/test_body_signed.py",),
    "sidecar.inbound.verify.tokens": (f"{_VERIFY}/test_tokens.py",),
    "sidecar.inbound.verify.messages": (f"{_VERIFY}/test_messages.py",),
    "sidecar.inbound.verify.certificates": (f"{_VERIFY}/test_certificates.py",),
    "sidecar.outbound.hand": (f"{_OUTBOUND}/test_hand.py",),
    "sidecar.config.units": (f"{_CONFIG}/test_units.py",),
    "sidecar.config.placeholders": (f"{_CONFIG}/test_placeholders.py",),
    "sidecar.config.rules": (f"{_CONFIG}/test_rules.py",),
    "sidecar.config.shape": (f"{_CONFIG}/test_shape.py",),
    "sidecar.config.problems": (f"{_CONFIG}/test_problems.py",),
    "sidecar.model": ("tests/unit/test_model.py",),
}
