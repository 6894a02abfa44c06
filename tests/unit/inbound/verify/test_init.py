"""The package's own two functions are the schemes' in one step."""

from sidecar.inbound.verify import Accepted, HmacOptions, Request, Secret, sign, verify


def test_what_sign_makes_verify_accepts():
    """Without keeping a verifier."""
    options, secret = HmacOptions(header="S"), Secret("a", b"k")
    r = Request(b"POST", b"/", b"", {}, b"body")
    signed = Request(b"POST", b"/", b"", {n.lower(): v for n, v in sign(options, r, secret, 0)}, b"body")
    assert verify(options, signed, [secret], 0) == Accepted("a")
