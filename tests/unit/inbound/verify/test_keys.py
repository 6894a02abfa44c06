"""A secret becomes the key that its provider means, or a text that says what is wrong, without quoting it."""

import pytest

from sidecar.inbound.verify.keys import Keys, derive_key
from sidecar.inbound.verify.options import HmacOptions


def key(value, **options):
    return derive_key(HmacOptions(header="X", **options), value)


def test_text_is_taken_as_it_is():
    """Also where it looks like something that other providers decode."""
    assert key(b"whsec_abc=") == b"whsec_abc="
    assert key("schlüssel".encode()) == "schlüssel".encode()


@pytest.mark.parametrize("value", [b"whsec_a2V5cw==", b"whsec_a2V5cw", b"a2V5cw==", b"a2V5cw"])
def test_base64_is_decoded_with_or_without_prefix_and_padding(value):
    """Padding is optional, the prefix is cut where it is there."""
    assert key(value, secret_encoding="base64", secret_prefix="whsec_") == b"keys"


@pytest.mark.parametrize(("value", "made"), [(b"a2V5", b"key"), (b"a2V5cw", b"keys"), (b"a2V5c3M", b"keyss")])
def test_padding_may_be_left_out_whatever_the_length(value, made):
    """As much is put back as there should be."""
    assert key(value, secret_encoding="base64") == made


def test_a_secret_without_the_prefix_may_be_text():
    """Some libraries take an unprefixed secret as it is."""
    options = {"secret_encoding": "base64", "secret_prefix": "whsec_", "secret_unprefixed": "text"}
    assert key(b"a2V5cw==", **options) == b"a2V5cw=="
    assert key(b"whsec_a2V5cw==", **options) == b"keys"


def test_hex_is_decoded_strictly():
    """Either case, but no blanks, which Python's fromhex would take."""
    assert key(b"00fF", secret_encoding="hex") == b"\x00\xff"
    for bad in (b"0", b"0g", b"00 ff", b"00\n", "٠٠".encode()):
        assert isinstance(key(bad, secret_encoding="hex"), str)


@pytest.mark.parametrize("bad", [b"a b=", b"a2V5cw==x", b"a", b"!!!!", b"a2V5\ncw==", b"a2V5cw==~", "ключ".encode()])
def test_bad_base64_is_named_and_not_quoted(bad):
    """The operator reads what was expected; the value stays secret."""
    said = key(b"whsec_" + bad, secret_encoding="base64", secret_prefix="whsec_")
    assert said == "is not base64 after 'whsec_'"
    assert key(bad, secret_encoding="base64") == "is not base64"


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (b"", {}),
        (b"whsec_", {"secret_encoding": "base64", "secret_prefix": "whsec_"}),
        (b"", {"secret_encoding": "hex"}),
    ],
)
def test_an_empty_key_is_refused(value, options):
    """A hash with an empty key proves nothing."""
    assert key(value, **options) == "is empty"


def test_keys_are_made_once_and_at_most_sixty_four_are_kept():
    """Only reloads bring new ones; what is wrong with a secret is remembered as well."""
    made = []

    def derive(value):
        made.append(value)
        return b"key" if value else "is empty"

    keys = Keys(derive)
    assert [keys.of(b"a"), keys.of(b"a"), keys.of(b""), keys.of(b"")] == [b"key", b"key", "is empty", "is empty"]
    assert made == [b"a", b""]
    kept = set()
    for n in range(200):
        keys.of(b"%d" % n)
        kept.add(len(keys._known))
    assert max(kept) == 64
