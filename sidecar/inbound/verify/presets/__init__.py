"""[P] What is known about each provider, as data: one entry each, by kind of provider.

Every number is the provider's own (``docs``) unless a comment says why not. ``dedup_ttl_s`` covers the provider's
whole retry span, since a key forgotten before the last retry turns that retry into a second event; where the span is
not published it is a week.
"""

from __future__ import annotations

from sidecar.inbound.verify.presets import code, commerce, messaging, payments, platform, work
from sidecar.inbound.verify.presets.preset import Preset

__all__ = ["PRESETS", "Preset"]

#: Preset name -> preset.
PRESETS: dict[str, Preset] = {
    preset.name: preset for group in (code, commerce, messaging, payments, platform, work) for preset in group.PRESETS
}
