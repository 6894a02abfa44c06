"""The nouns of verification keep secrets to themselves and know which of them count."""

from sidecar.inbound.verify.request import Accepted, Fetch, Rejected, Request, Secret, active_secrets
from sidecar.model import RejectReason


def test_a_secret_never_shows_its_value():
    """Neither repr, str nor a message that quotes it contains the value."""
    secret = Secret("2026-11", b"hunter2")
    assert "hunter2" not in f"{secret!r} {secret} {[secret]}"
    assert repr(secret) == "Secret(id='2026-11')"


def test_what_is_to_be_fetched_shows_its_address_only():
    """What is posted for it may have a secret in it."""
    fetch = Fetch("k", "https://production.plaid.com/key", b'{"secret":"hunter2"}')
    assert repr(fetch) == "Fetch(url='https://production.plaid.com/key')"
    assert "hunter2" not in f"{[fetch]}"


def test_not_before_is_the_first_moment_and_not_after_the_first_one_without():
    """The window is closed at its start and open at its end; without limits a secret always counts."""
    secret = Secret("a", b"x", not_before_ms=1000, not_after_ms=2000)
    assert [secret.active(t) for t in (999, 1000, 1999, 2000)] == [False, True, True, False]
    assert Secret("a", b"x").active(0)


def test_the_newest_active_secret_comes_first_else_the_first_listed():
    """Latest not_before wins; among those without one the order of the configuration stands."""
    old, plain = Secret("old", b"1", not_after_ms=50), Secret("plain", b"2")
    new, newer, future = (Secret(str(t), b"3", not_before_ms=t) for t in (60, 90, 101))
    assert [s.id for s in active_secrets([old, plain, new, newer, future], 100)] == ["90", "60", "plain"]
    assert [s.id for s in active_secrets([plain, Secret("second", b"4")], 100)] == ["plain", "second"]
    assert active_secrets([old, future], 100) == []


def test_verdicts_are_values_that_compare():
    """Two equal verdicts are equal, and a fresh request has no memory of a precheck."""
    assert Accepted("a") == Accepted("a")
    assert Rejected(RejectReason.WRONG_SECRET) != Rejected(RejectReason.WRONG_SECRET, "detail")
    assert Request(b"POST", b"/", b"", {}).parsed is None
