"""What receiving needs of its neighbours is what they offer, by the same names in the same order."""

import inspect

import pytest

from sidecar.inbound.handshake_book import HandshakeBook
from sidecar.inbound.keystore import KeyStore
from sidecar.inbound.needs import Book, Journal, Keys
from sidecar.journal import journal


@pytest.mark.parametrize(
    ("need", "neighbour", "members"),
    [
        (Journal, journal.Journal, ["append"]),
        (Keys, KeyStore, ["snapshot", "ask"]),
        (Book, HandshakeBook, ["secrets", "knows", "expected", "learn"]),
    ],
)
def test_a_neighbour_offers_what_is_needed(need, neighbour, members):
    """The type checker sees where they are put together; this sees each of them."""
    assert [name for name in vars(need) if not name.startswith("_")] == members
    for name in members:
        if callable(getattr(need, name)):
            wanted, offered = (list(inspect.signature(getattr(c, name)).parameters) for c in (need, neighbour))
            assert offered == wanted
