"""The daemon that reads every event it owes before it is ready: what a start must not do."""

from __future__ import annotations

import sys
from typing import Any

from sidecar.__main__ import main
from sidecar.journal import Journal
from sidecar.journal.records import decode_event, event_slot, event_slots, split_key

honest_start = Journal.start


def start(self: Journal, *arguments: Any, **options: Any) -> None:
    environment = self._environment
    with environment.env.begin() as txn:
        for key, block in txn.cursor(environment.db[b"events"]):
            first = split_key(key)
            for slot, _ in event_slots(block):
                payload = event_slot(block, first, slot)
                assert payload is not None
                decode_event(payload)
    honest_start(self, *arguments, **options)


Journal.start = start
if __name__ == "__main__":
    sys.exit(main())
