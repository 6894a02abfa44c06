"""What the audit says when something is not as it should be."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.__main__ import main
from sidecar.cli import audit

ROW = {
    "destination": "app", "enqueued": 3, "settled": 1, "pending": 2, "dying": 0, "dead": 1, "files": 0, "gone": 1,
    "balanced": True,
}  # fmt: skip


def answered(monkeypatch: pytest.MonkeyPatch, **different: Any) -> None:
    report = {"ok": True, "full": True, "exact": True, "quarantined": 0, "destinations": [ROW], "gone": []} | different

    class Answering:
        def get(self, path: str, params: Any) -> dict[str, Any]:
            return report

    monkeypatch.setattr(audit, "connect", lambda _: Answering())


def test_books_that_do_not_balance_end_with_1_and_name_the_destination(monkeypatch, capfd):
    off = ROW | {"destination": "billing", "balanced": False}
    answered(monkeypatch, ok=False, destinations=[ROW, off])
    assert main(["audit"]) == 1
    out, err = capfd.readouterr()
    assert [line.split()[-1] for line in out.splitlines()] == ["BALANCED", "yes", "NO"]
    assert "error: the books do not balance: billing\n" in err
    assert "app" not in err
    assert main(["audit", "--json"]) == 1
    assert '"balanced":false' in capfd.readouterr().out


def test_what_a_person_removed_and_what_was_damaged_is_told_beside_the_table(monkeypatch, capfd):
    answered(monkeypatch, gone=[{"event_id": "wse_1", "destination": "app"}], quarantined=2, exact=False)
    assert main(["audit"]) == 0
    out, err = capfd.readouterr()
    assert "yes" in out
    assert "gone: app/wse_1.json" in err
    assert "2 damaged records" in err
    assert "audit again" in err
