"""SNS and PayPal: the address of the certificate is theirs, the certificate counts in its time, every field is covered."""

import base64
import datetime as dt
import json
import zlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from sidecar.inbound.verify.certificates import PAYPAL_CERTIFICATE, SNS_CERTIFICATE, PaypalVerifier, SnsVerifier
from sidecar.inbound.verify.options import PaypalOptions, SnsOptions
from sidecar.inbound.verify.request import Accepted, Fetched, Rejected, Request, Secret
from sidecar.model import RejectReason

NOW = 1_700_000_000_000
MOMENT = dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC)
KEY = rsa.generate_private_key(65537, 2048)
TOPIC = "arn:aws:sns:eu-west-1:1:t"
CERT_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem"
SUBSCRIBE = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=1"


def certificate(key=KEY, days=10):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(MOMENT - dt.timedelta(days=1)).not_valid_after(MOMENT + dt.timedelta(days=days))
    return made.sign(key, SHA256()).public_bytes(Encoding.PEM)


PEM = certificate()
PINNED = Secret("pin", PEM)


def sns(version="2", *, drop=(), **fields):
    body = {
        "Type": "Notification", "MessageId": "m", "TopicArn": TOPIC, "Message": "hello\n", "Subject": "s",
        "Timestamp": "2023-11-14T22:13:20.000Z", "SignatureVersion": version, "SigningCertURL": CERT_URL,
    }  # fmt: skip
    if fields.get("Type", "Notification") != "Notification":
        body |= {"SubscribeURL": SUBSCRIBE, "Token": "t"}
        del body["Subject"]
    body |= fields
    body = {k: v for k, v in body.items() if k not in drop and v is not None}
    names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
    text = "".join(f"{n}\n{body[n]}\n" for n in names if n in body and not isinstance(body[n], int))
    algorithm = SHA1() if version == "1" else SHA256()
    return {"Signature": base64.b64encode(KEY.sign(text.encode(), padding.PKCS1v15(), algorithm)).decode(), **body}


def judge_sns(body, secrets=(PINNED,), *, keys=None, topics=(TOPIC,), now=NOW):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    verifier = SnsVerifier(SnsOptions(topics=topics))
    request = Request(b"POST", b"/", b"", {}, data, None, keys)
    assert verifier.precheck(request, secrets, now) is None
    verdict = verifier.verify(request, secrets, now)
    return verdict.key_id if isinstance(verdict, Accepted) else verdict.reason


@pytest.mark.parametrize("kind", ["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"])
@pytest.mark.parametrize("version", ["1", "2"])
def test_each_kind_of_message_in_both_versions(kind, version):
    """Any signed field that changes is refused; others do not count."""
    body = sns(version, Type=kind)
    assert judge_sns(body) == "pin"
    assert judge_sns({**body, "UnsubscribeURL": "x"}) == "pin"
    for name in set(body) - {"Signature", "SigningCertURL", "SignatureVersion", "Type", "Timestamp", "TopicArn"}:
        assert judge_sns({**body, name: "changed"}) is RejectReason.WRONG_SECRET, name


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", RejectReason.MALFORMED_BODY),
        (b"[]", RejectReason.MALFORMED_BODY),
        (sns(Type="Other"), RejectReason.MALFORMED_BODY),
        (sns(drop=["Message"]), RejectReason.MALFORMED_BODY),
        (sns(MessageId=5), RejectReason.MALFORMED_BODY),
        (json.dumps(sns()).encode()[:-1] + b',"Message":"x"}', RejectReason.MALFORMED_BODY),
        (sns("3"), RejectReason.UNSUPPORTED_VERSION),
        ({**sns(), "SignatureVersion": None}, RejectReason.UNSUPPORTED_VERSION),
        ({**sns(), "Signature": None}, RejectReason.MISSING_SIGNATURE),
        ({**sns(), "Signature": "!"}, RejectReason.MALFORMED_SIGNATURE),
        ({**sns(), "Signature": "é"}, RejectReason.MALFORMED_SIGNATURE),
        ({**sns(), "Signature": "AAAA!"}, RejectReason.MALFORMED_SIGNATURE),
        ({**sns(), "Signature": ""}, RejectReason.MALFORMED_SIGNATURE),
        ({**sns(), "Signature": "A" * 2000}, RejectReason.MALFORMED_SIGNATURE),
        (sns(TopicArn="arn:aws:sns:eu-west-1:1:u"), RejectReason.WRONG_CLAIM),
        (sns(Timestamp="2023-11-14T20:13:20.000Z"), RejectReason.STALE_TIMESTAMP),
        (sns(Timestamp="yesterday"), RejectReason.MALFORMED_TIMESTAMP),
    ],
)
def test_what_sns_does_not_send_is_refused(body, reason):
    """By name."""
    assert judge_sns(body) is reason


@pytest.mark.parametrize(
    "url",
    [
        "http://sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com.evil.com/a.pem",
        "https://evil.com/sns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com:444/a.pem",
        "https://sns.eu-west-1.amazonaws.com/a.pem\n",
        "https://sns.eu-west-1.amazonaws.com/a.pem?x",
        "https://sns.eu-west-1.amazonaws.com/../a.pem",
        "https://s3.eu-west-1.amazonaws.com/a.pem",
        "https://sns.s3.amazonaws.com/a.pem",
        "https://sns.s3-eu-west-1.amazonaws.com/a.pem",
        "https://sns.s3-accelerate.amazonaws.com/a.pem",
        "https://evilsns.eu-west-1.amazonaws.com/a.pem",
        "https://sns.e.amazonaws.com/a.pem",
        "https://sns.eu-west-1.amazonaws.com/a.pem#.pem",
        "",
        None,
        5,
    ],
)
def test_a_certificate_comes_from_sns_alone(url):
    """The pattern is anchored at both ends; nothing is fetched from anywhere else."""
    assert judge_sns({**sns(), "SigningCertURL": url}, ()) is RejectReason.FORBIDDEN_KEY_SOURCE
    assert not SNS_CERTIFICATE.fullmatch(str(url))


@pytest.mark.parametrize(
    "url",
    [
        CERT_URL,
        "https://sns.us-gov-west-1.amazonaws.com/SimpleNotificationService-0.pem",
        "https://sns.cn-north-1.amazonaws.com.cn/a/b_c/x.y.pem",
    ],
)
def test_every_region_has_its_certificate(url):
    """China too."""
    assert SNS_CERTIFICATE.fullmatch(url)
    assert judge_sns({**sns(), "SigningCertURL": url}) == "pin"


def test_a_certificate_that_is_not_here_is_asked_for():
    """Only with it, and only in its time, a message counts."""
    verifier = SnsVerifier(SnsOptions())
    request = Request(b"POST", b"/", b"", {}, json.dumps(sns()).encode())
    verdict = verifier.verify(request, (), NOW)
    assert (verdict.reason, verdict.fetch.url) == (RejectReason.KEY_UNAVAILABLE, CERT_URL)
    other = certificate(rsa.generate_private_key(65537, 2048))
    for data, wanted in ((PEM, "network"), (other, "wrong_secret"), (b"junk", "wrong_secret")):
        assert judge_sns(sns(), (), keys={CERT_URL: Fetched(data, NOW)}) == wanted
    late = sns(Timestamp="2023-12-14T22:13:20.000Z")
    month = NOW + 30 * 86_400_000
    assert judge_sns(late, (), keys={CERT_URL: Fetched(PEM, NOW)}, now=month) is RejectReason.WRONG_SECRET
    assert judge_sns(late, now=month) == "pin", "a pinned certificate is the operator's own business"


def test_a_message_needs_no_subject_and_a_long_signature_is_still_read():
    """Up to what a key of 8192 bits makes."""
    assert judge_sns(sns(drop=["Subject"])) == "pin"
    assert judge_sns({**sns(), "Signature": "A" * 1400}) is RejectReason.WRONG_SECRET
    assert judge_sns({**sns(), "Signature": "A" * 1404}) is RejectReason.MALFORMED_SIGNATURE


def test_the_topic_is_named_where_it_is_wrong():
    """For the operator."""
    request = Request(b"POST", b"/", b"", {}, json.dumps(sns()).encode())
    assert SnsVerifier(SnsOptions(topics=("arn:other",))).verify(request, (PINNED,), NOW).detail == "TopicArn"


def test_what_each_needs_of_a_request_is_known_beforehand():
    """The body, no secret, and a certificate from the network; PayPal's headers besides."""
    for verifier in (SnsVerifier(SnsOptions()), PaypalVerifier(PaypalOptions())):
        assert (verifier.needs_body, verifier.needs_url, verifier.can_sign, verifier.unverified) == (
            True, False, False, False,
        )  # fmt: skip
        assert (verifier.fetches, verifier.masked, verifier.tolerance_ms) == ((), frozenset(), None)
    assert SnsVerifier(SnsOptions()).reads == frozenset()
    assert PaypalVerifier(PaypalOptions()).reads == set(paypal())
    assert PaypalVerifier(PaypalOptions(max_age=300.0)).tolerance_ms == 300_000


def test_only_our_topics_are_confirmed():
    """And only at an address of SNS."""
    verifier = SnsVerifier(SnsOptions(topics=(TOPIC,)))
    assert verifier.confirmation(TOPIC, SUBSCRIBE) == SUBSCRIBE
    assert verifier.confirmation("arn:other", SUBSCRIBE) == ""
    assert verifier.confirmation(TOPIC, "https://evil.com/?Action=ConfirmSubscription") == ""
    assert verifier.confirmation(TOPIC, None) == ""
    assert SnsVerifier(SnsOptions()).confirmation(TOPIC, SUBSCRIBE) == ""
    assert judge_sns(sns(), topics=()) == "pin"


PAYPAL_URL = "https://api.paypal.com/v1/notifications/certs/CERT-1"


def paypal(body=b"x", **changes):
    stamp = "2023-11-14T22:13:20Z"
    text = f"id|{stamp}|WH|{zlib.crc32(body)}".encode()
    headers = {
        "transmission-id": "id", "transmission-time": stamp, "cert-url": PAYPAL_URL, "auth-algo": "SHA256withRSA",
        "transmission-sig": base64.b64encode(KEY.sign(text, padding.PKCS1v15(), SHA256())).decode(),
    }  # fmt: skip
    headers |= {k.replace("_", "-"): v for k, v in changes.items()}
    return {f"paypal-{k}".encode(): v.encode() for k, v in headers.items()}


def judge_paypal(headers, secrets=(PINNED,), *, body=b"x", keys=None, webhook_id="WH", now=NOW, **options):
    verifier = PaypalVerifier(PaypalOptions(webhook_id=webhook_id, **options))
    request = Request(b"POST", b"/", b"", headers, body, None, keys)
    rejected = verifier.precheck(request, secrets, now)
    verdict = verifier.verify(request, secrets, now)
    assert rejected is None or rejected == verdict
    return verdict.key_id if isinstance(verdict, Accepted) else verdict.reason


def test_paypals_signature_covers_id_time_webhook_and_checksum():
    """Each of them."""
    assert judge_paypal(paypal()) == "pin"
    for changed in (paypal(transmission_id="other"), paypal(transmission_time="2023-11-14T22:13:21Z")):
        assert judge_paypal(changed) is RejectReason.WRONG_SECRET
    assert judge_paypal(paypal(), body=b"y") is RejectReason.WRONG_SECRET
    assert judge_paypal(paypal(), webhook_id="other") is RejectReason.WRONG_SECRET
    assert judge_paypal(paypal(), (Secret("p", PEM, not_after_ms=1),)) is RejectReason.RETIRED_SECRET
    assert judge_paypal(paypal(), (), keys={PAYPAL_URL: Fetched(PEM, NOW)}) == "network"
    assert judge_paypal(paypal(), ()) is RejectReason.KEY_UNAVAILABLE


def test_paypals_certificate_needs_a_chain_and_counts_in_its_time():
    """From its first moment to its last; SNS's address is proof enough."""
    wanted = PaypalVerifier(PaypalOptions()).verify(Request(b"POST", b"/", b"", paypal(), b"x"), (), NOW).fetch
    assert (wanted.key, wanted.url, wanted.chain) == (PAYPAL_URL, PAYPAL_URL, "messageverificationcerts.paypal.com")
    wanted = SnsVerifier(SnsOptions()).verify(Request(b"POST", b"/", b"", {}, json.dumps(sns()).encode()), (), NOW)
    assert (wanted.fetch.key, wanted.fetch.chain) == (CERT_URL, "")
    day, keys = 86_400_000, {PAYPAL_URL: Fetched(PEM, NOW)}
    for now, verdict in (
        (NOW - day - 1, RejectReason.WRONG_SECRET),
        (NOW - day, "network"),
        (NOW + 10 * day, "network"),
        (NOW + 10 * day + 1, RejectReason.WRONG_SECRET),
    ):
        assert judge_paypal(paypal(), (), keys=keys, now=now) == verdict


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (PAYPAL_URL, "messageverificationcerts.paypal.com"),
        ("https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1", "messageverificationcerts.sandbox.paypal.com"),
        ("https://api-m.sandbox.paypal.com/x", "messageverificationcerts.sandbox.paypal.com"),
        ("https://api.paypal.com/api.sandbox.paypal.com/x", "messageverificationcerts.paypal.com"),
    ],
)
def test_paypals_sandbox_signs_under_a_name_of_its_own(url, name):
    """Its certificates would never be trusted for the other name."""
    request = Request(b"POST", b"/", b"", paypal(cert_url=url), b"x")
    verdict = PaypalVerifier(PaypalOptions(webhook_id="WH")).verify(request, (), NOW)
    assert (verdict.fetch.url, verdict.fetch.chain) == (url, name)


def test_paypals_head_is_judged_before_the_body():
    """Missing, unknown, malformed, foreign, old."""
    assert judge_paypal({}) is RejectReason.MISSING_HEADER
    for name in paypal():
        without = {n: value for n, value in paypal().items() if n != name}
        assert judge_paypal(without) is RejectReason.MISSING_HEADER, name
    early = PaypalVerifier(PaypalOptions()).precheck(Request(b"POST", b"/", b"", {}), (), NOW)
    assert early is not None
    assert early.reason is RejectReason.MISSING_HEADER
    assert judge_paypal(paypal(auth_algo="SHA1withRSA")) is RejectReason.UNSUPPORTED_VERSION
    assert judge_paypal(paypal(transmission_sig="!")) is RejectReason.MALFORMED_SIGNATURE
    for url in (
        "http://api.paypal.com/x", "https://paypal.com.evil.com/x", "https://evilpaypal.com/x", "https://api.paypal.com@e/x",
        "https://api.paypal.com/../x", "https://api.paypal.com/x?y", "https://paypal.com/x", "https://api.paypal.com:1/x",
    ):  # fmt: skip
        assert judge_paypal(paypal(cert_url=url)) is RejectReason.FORBIDDEN_KEY_SOURCE, url
    assert PAYPAL_CERTIFICATE.fullmatch("https://api.sandbox.paypal.com/v1/notifications/certs/CERT-1")
    assert judge_paypal(paypal(), now=NOW + 400_000, max_age=300.0) is RejectReason.STALE_TIMESTAMP
    assert judge_paypal(paypal(), max_age=300.0) == "pin"


def test_what_is_no_certificate_is_named():
    """Neither is one with another kind of key, or a short one."""
    verifier = PaypalVerifier(PaypalOptions())
    assert verifier.secret_problem(PEM) == ""
    assert verifier.secret_problem(b"junk") == "is not a certificate (PEM)"
    short = certificate(rsa.generate_private_key(65537, 1024))
    assert "RSA key of 2048" in verifier.secret_problem(short)
    other = certificate(ec.generate_private_key(ec.SECP256R1()))
    assert "RSA key of 2048" in verifier.secret_problem(other)
    der = x509.load_pem_x509_certificate(other).public_bytes(Encoding.DER)
    curve = b"\x2a\x86\x48\xce\x3d\x03\x01"
    unknown = base64.encodebytes(der.replace(curve + b"\x07", curve + b"\x63"))
    pem = b"-----BEGIN CERTIFICATE-----\n" + unknown + b"-----END CERTIFICATE-----\n"
    assert "RSA key of 2048" in verifier.secret_problem(pem), "also one of a kind that nobody here knows"
    assert verifier.sign(Request(b"POST", b"/", b"", {}), PINNED, NOW) == []


@given(st.binary(max_size=300), st.dictionaries(st.sampled_from(sorted(PaypalVerifier.reads)), st.binary(max_size=40)))
def test_arbitrary_bytes_are_refused_and_never_raise(body, headers):
    """Both of them."""
    request = Request(b"POST", b"/", b"", headers, body)
    assert isinstance(SnsVerifier(SnsOptions()).verify(request, (PINNED,), NOW), Rejected)
    assert isinstance(PaypalVerifier(PaypalOptions()).verify(request, (PINNED,), NOW), Rejected)
