"""A digest has exactly one accepted spelling per encoding, case of hex and padding of base64url aside."""

import binascii
import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.digests import decode_digest, digest_pattern, encode_digest

ALGORITHMS = ["sha1", "sha256", "sha384", "sha512"]
ENCODINGS = ["hex", "base64", "base64url"]
ALPHABETS = {
    "hex": string.hexdigits,
    "base64": string.ascii_letters + string.digits + "+/",
    "base64url": string.ascii_letters + string.digits + "-_",
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@given(data=st.binary(max_size=8))
def test_what_is_written_is_read_again(algorithm, encoding, data):
    """For every algorithm and encoding."""
    mac = hashlib.new(algorithm, data).digest()
    text = encode_digest(encoding, mac)
    assert digest_pattern(encoding, algorithm).fullmatch(text)
    assert decode_digest(encoding, text) == mac


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_hex_is_taken_in_either_case(algorithm):
    """Providers differ; the bytes are the same."""
    mac = hashlib.new(algorithm, b"x").digest()
    assert decode_digest("hex", encode_digest("hex", mac).upper()) == mac
    assert digest_pattern("hex", algorithm).fullmatch(encode_digest("hex", mac).upper())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_base64url_is_taken_with_padding_too(algorithm):
    """Both are in use."""
    mac = hashlib.new(algorithm, b"x").digest()
    bare = encode_digest("base64url", mac)
    padded = bare + b"=" * (-len(bare) % 4)
    assert digest_pattern("base64url", algorithm).fullmatch(padded)
    assert decode_digest("base64url", padded) == mac


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_anything_round_a_digest_is_refused(algorithm, encoding):
    """Blanks, line ends, a character more or less, other alphabets."""
    text = encode_digest(encoding, hashlib.new(algorithm, b"x").digest())
    pattern = digest_pattern(encoding, algorithm)
    odd = [b" " + text, text + b" ", text + b"\n", text[:-1], text + b"0", text + b"=", b"", b"!x" + text[2:]]
    odd += [text[:4] + b" " + text[5:], text[:4] + "é".encode() + text[6:], text[:4] + b"\x00" + text[5:]]
    for bad in odd:
        if encoding == "base64url" and bad.rstrip(b"=") == text:
            continue
        assert not pattern.fullmatch(bad), bad


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_digest_is_written_in_its_alphabet(encoding):
    """Each byte of it and no other, of all there are."""
    text = encode_digest(encoding, hashlib.sha256(b"x").digest())
    pattern = digest_pattern(encoding, "sha256")
    taken = {byte for byte in range(256) if pattern.fullmatch(text[:5] + bytes([byte]) + text[6:])}
    assert taken == set(ALPHABETS[encoding].encode())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_no_pattern_lets_through_is_not_guessed_at(encoding):
    """A character that is none is an error, not passed over."""
    with pytest.raises(binascii.Error):
        decode_digest(encoding, b"AA!AA")


@pytest.mark.parametrize("encoding", ["base64", "base64url"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_two_spellings_mean_the_same_digest(encoding, algorithm):
    """The spare bits of the last character are zero: changing any one character changes the digest or is refused."""
    mac = hashlib.new(algorithm, b"x").digest()
    text = encode_digest(encoding, mac)
    pattern = digest_pattern(encoding, algorithm)
    for position in range(len(text)):
        for c in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=":
            other = text[:position] + bytes([c]) + text[position + 1 :]
            if other != text and pattern.fullmatch(other):
                assert decode_digest(encoding, other) != mac
