"""The options of a scheme are told by its name, take no key that they do not know, and never change once they are made."""

from typing import get_args

import msgspec
import pytest

from sidecar.inbound.verify import options
from sidecar.inbound.verify.options import SchemeOptions

SMALLEST = {
    "hmac": ({"header": "S"}, options.HmacOptions),
    "token": ({"header": "S"}, options.TokenOptions),
    "basic": ({}, options.BasicOptions),
    "any": ({"forms": [{"scheme": "hmac", "header": "S"}]}, options.AnyOptions),
    "ed25519": ({"header": "S"}, options.Ed25519Options),
    "ecdsa": ({"header": "S"}, options.EcdsaOptions),
    "jwt": ({}, options.JwtOptions),
    "rfc9421": ({}, options.Rfc9421Options),
    "twilio": ({}, options.TwilioOptions),
    "adyen": ({}, options.AdyenOptions),
    "mailgun": ({}, options.MailgunOptions),
    "braintree": ({}, options.BraintreeOptions),
    "sns": ({}, options.SnsOptions),
    "paypal": ({}, options.PaypalOptions),
    "none": ({}, options.NoneOptions),
}
"""Scheme -> what it cannot do without, and its class."""


def test_every_scheme_is_in_the_table_above():
    """A new one needs a row."""
    assert [cls for _, cls in SMALLEST.values()] == list(get_args(SchemeOptions))


@pytest.mark.parametrize(("scheme", "table", "cls"), [(name, *row) for name, row in SMALLEST.items()])
def test_a_table_becomes_the_options_of_the_scheme_it_names(scheme, table, cls):
    """Nothing more is needed, nothing less will do, and an unknown key is an error."""
    table = {"scheme": scheme, **table}
    made = msgspec.convert(table, SchemeOptions)
    assert type(made) is cls
    with pytest.raises(msgspec.ValidationError, match="unknown field `heder`"):
        msgspec.convert({**table, "heder": "x"}, SchemeOptions)
    for key in table.keys() - {"scheme"}:
        with pytest.raises(msgspec.ValidationError, match=f"missing required field `{key}`"):
            msgspec.convert({k: v for k, v in table.items() if k != key}, SchemeOptions)
    for field in cls.__struct_fields__[:1]:
        with pytest.raises(AttributeError, match="immutable"):
            setattr(made, field, getattr(made, field))


@pytest.mark.parametrize(
    ("cls", "option", "value"),
    [
        (options.TimestampOptions, "tolerance", 300.0),
        (options.MailgunOptions, "tolerance", 900.0),
        (options.Rfc9421Options, "max_age", 300.0),
        (options.SnsOptions, "max_age", 3600.0),
        (options.NoneOptions, "allow_unverified", False),
        (options.Rfc9421Options, "require_content_digest", True),
    ],
)
def test_what_nobody_says_is_the_careful_choice(cls, option, value):
    """A replay ends, a body is covered, and nothing is believed unasked."""
    assert getattr(cls(), option) == value
