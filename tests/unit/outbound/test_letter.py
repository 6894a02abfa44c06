"""A dead letter is complete, readable, harmless to look at, and sealed."""

from __future__ import annotations

import contextlib
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.model import Attempt, Delivery, Event, State, format_event_id
from sidecar.outbound.letter import HEAD_BYTES, Malformed, encode, parse, parse_head, restore_event

KEY = b"k" * 32
ID = format_event_id(1_764_000_000_123, 7, 42)
DIED = 1_764_000_007_000
ATTEMPTS = (
    Attempt(1, 1_764_000_000_200, 12, "5xx", 500, "HTTP 500"),
    Attempt(2, 1_764_000_001_200, 10_000, "timeout", None, "no answer in time", 1),
)


def _delivery(body: bytes = b'{"a":1}', **more) -> Delivery:
    event = Event(
        "stripe",
        ("app", "other"),
        1_764_000_000_123,
        b"POST",
        b"/webhooks/stripe",
        b"a=b",
        [(b"Content-Type", b"application/json"), (b"X-Odd", b"caf\xc3\xa9 \xff"), (b"x-odd", b"")],
        body,
        verified=True,
        key="evt_1",
        forwarded_for=b"192.0.2.1",
        forwarded_proto=b"https",
        seq=42,
        id=ID,
    )
    for name, value in more.items():
        setattr(event, name, value)
    return Delivery(event, "app", State.DYING, round=1, attempts=2, reason="rejected", log=ATTEMPTS)


ENCODED = encode(_delivery(), DIED, KEY)


def _content(**changes) -> dict:
    content = json.loads(encode(_delivery(), DIED, KEY))
    for path, value in changes.items():
        *folders, name = path.split("__")
        at = content
        for folder in folders:
            at = at[folder]
        if value is ...:
            del at[name]
        else:
            at[name] = value
    return content


def test_the_file_says_what_the_contract_says():
    content = json.loads(encode(_delivery(), DIED, KEY))
    assert {k: v for k, v in content.items() if k not in ("mac", "request", "attempts")} == {
        "format": 1,
        "event_id": ID,
        "source": "stripe",
        "destination": "app",
        "reason": "rejected",
        "received_at": "2025-11-24T16:00:00.123Z",
        "died_at": "2025-11-24T16:00:07.000Z",
        "verified": True,
        "round": 1,
        "key": "evt_1",
    }
    assert content["request"] == {
        "method": "POST",
        "path": "/webhooks/stripe",
        "query": "a=b",
        "headers": [["Content-Type", "application/json"], ["X-Odd", "caf\u00c3\u00a9 \u00ff"], ["x-odd", ""]],
        "forwarded": {"for": "192.0.2.1", "proto": "https", "host": ""},
        "body": '{"a":1}',
        "body_sha256": "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862",
    }
    assert content["attempts"][0] == {
        "number": 1,
        "started_at": "2025-11-24T16:00:00.200Z",
        "duration_ms": 12,
        "outcome": "5xx",
        "status": 500,
        "error": "HTTP 500",
    }
    assert content["attempts"][1]["round"] == 1
    assert len(content["mac"]) == 64


def test_what_was_not_there_is_left_out():
    delivery = _delivery(key="", forwarded_for=b"", forwarded_proto=b"", verified=False)
    delivery.round, delivery.log = 0, ()
    content = json.loads(encode(delivery, DIED, KEY))
    back = parse(encode(delivery, DIED, KEY), KEY).delivery
    assert back.round == 0
    assert (back.event.key, back.event.replay_of) == ("", "")
    assert (back.event.forwarded_for, back.event.forwarded_proto, back.event.forwarded_host) == (b"", b"", b"")
    assert not {"key", "round", "replay_of"} & set(content)
    assert "forwarded" not in content["request"]
    assert (content["attempts"], content["verified"]) == ([], False)
    assert json.loads(encode(_delivery(replay_of=ID), DIED, KEY))["replay_of"] == ID


def test_it_is_laid_out_for_people():
    lines = encode(_delivery(), DIED, KEY).decode().splitlines()
    assert '    "headers": [' in lines
    assert '      ["Content-Type", "application/json"],' in lines
    assert len([line for line in lines if line.startswith('    {"number"')]) == 2


@pytest.mark.parametrize(
    ("body", "name"), [(b"", "body"), (b"\xff\xfe\x00", "body_base64"), ("ü\u202e\x07\x7f\U0001f600".encode(), "body")]
)
def test_any_body_comes_back_byte_by_byte(body, name):
    data = encode(_delivery(body), DIED, KEY)
    assert name in json.loads(data)["request"]
    assert parse(data, KEY).delivery.event.body == body


def test_what_a_terminal_would_obey_is_escaped_and_comes_back():
    """DEL is ASCII, too."""
    data = encode(_delivery(headers=[(b"X", b"a\x7fb")]), DIED, KEY)
    assert b'["X", "a\\u007fb"]' in data
    assert parse(data, KEY).delivery.event.headers == [(b"X", b"a\x7fb")]


@given(body=st.binary(max_size=200) | st.text(max_size=100).map(str.encode), value=st.binary(max_size=50))
def test_whatever_is_in_it_it_comes_back_and_shows_nothing_but_plain_ascii(body, value):
    data = encode(_delivery(body, headers=[(b"X", value)]), DIED, KEY)
    assert all(c == "\n" or unicodedata.category(c) != "Cc" for c in data.decode("ascii"))
    letter = parse(data, KEY)
    assert letter.sealed
    assert (letter.delivery.event.body, letter.delivery.event.headers) == (body, [(b"X", value)])


def test_everything_comes_back():
    more = {"forwarded_host": b"hooks.example", "replay_of": ID}
    letter = parse(encode(_delivery(**more), DIED, KEY), KEY)
    event = letter.delivery.event
    assert letter.sealed
    assert (letter.head.received_at_ms, letter.head.died_at_ms) == (1_764_000_000_123, DIED)
    expected = _delivery(**more).event
    expected.destinations, expected.seq = ("app",), 0
    assert event == expected
    assert letter.delivery.log == ATTEMPTS
    assert (letter.delivery.round, letter.delivery.reason) == (1, "rejected")


def test_the_head_is_read_from_the_beginning_alone():
    data = encode(_delivery(b"x" * 100_000, key="k" * 256), DIED, KEY)
    head = parse_head(data[:HEAD_BYTES])
    assert head == parse(data, KEY).head


def test_a_head_that_is_not_where_it_should_be_is_not_guessed():
    data = encode(_delivery(), DIED, KEY)
    compact = json.dumps(json.loads(data)).encode()
    for wrong in (
        b"",
        b"{}",
        compact,
        data[:40],
        data.replace(b'"app"', b"nonsense"),
        b"{\n  [1]: 2,\n",
        b'{\n"a": ' + b"[" * 9_000,
    ):
        assert parse_head(wrong) is None


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "expired"},
        {"request__body": "{}"},
        {"request__headers": []},
        {"attempts": []},
        {"verified": False},
        {"unknown": 1},
        {"mac": "0" * 64},
        {"mac": "ü"},
    ],
)
def test_any_change_breaks_the_seal(change):
    letter = parse(json.dumps(_content(**change)).encode(), KEY)
    assert not letter.sealed


def test_a_new_layout_does_not_break_the_seal_and_another_journals_key_does():
    content = _content()
    shuffled = json.dumps(dict(reversed(content.items())), indent=8).encode()
    assert parse(shuffled, KEY).sealed
    assert not parse(shuffled, b"o" * 32).sealed


def test_the_seal_of_a_letter_stays_what_it_is():
    """Files of an earlier version are read with it."""
    assert parse(ENCODED, KEY).mac == "e3914ec7a9a721a674e1ce3189ad712ff805819b520ce37e5353a7579fdee6ff"


def test_only_a_sealed_letter_of_a_verified_event_counts_as_verified():
    data = encode(_delivery(), DIED, KEY)
    assert restore_event(parse(data, KEY)).verified
    assert not restore_event(parse(data, b"other")).verified
    assert not restore_event(parse(encode(_delivery(verified=False), DIED, KEY), KEY)).verified
    forged = json.loads(encode(_delivery(verified=False), DIED, KEY))
    forged["verified"] = True
    assert not restore_event(parse(json.dumps(forged).encode(), KEY)).verified


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"nonsense",
        b"\xff",
        '{"ü": 1}'.encode(),
        b'{"mac": NaN}',
        b'{"mac": 1}',
        b"{}",
        b'{"mac": "", "x": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
    ],
)
def test_what_is_no_letter_is_malformed(data):
    with pytest.raises(Malformed):
        parse(data, KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"mac": 1},
        {"mac": ...},
        {"format": 2},
        {"format": True},
        {"format": ...},
        {"event_id": "../../etc/passwd"},
        {"event_id": 5},
        {"reason": "whim"},
        {"source": None},
        {"received_at": "yesterday"},
        {"received_at": "2025-11-24T16:00:00"},
        {"died_at": "1912-11-24T16:00:00Z"},
        {"request": []},
        {"request__method": ...},
        {"request__method": "☃"},
        {"request__headers": None},
        {"request__headers": [["one"]]},
        {"request__headers": [["a", 1]]},
        {"request__headers": [[1, "a"]]},
        {"request__headers": ["ab"]},
        {"request__headers": [["a", "☃"]]},
        {"request__body": 5},
        {"request__body": "\ud800"},
        {"request__body": ...},
        {"request__forwarded": "x"},
        {"request__forwarded": {"for": 1}},
        {"key": 1},
        {"round": -1},
        {"round": True},
        {"round": 253_402_300_800_000},
        {"attempts": {}},
        {"attempts": [1]},
        {"attempts": [{"number": 1}]},
        {
            "attempts": [
                {
                    "number": 1,
                    "started_at": "2025-11-24T16:00:00Z",
                    "duration_ms": 1,
                    "outcome": "",
                    "status": "200",
                    "error": "",
                }
            ]
        },
    ],
)
def test_a_letter_with_a_wrong_part_is_malformed(change):
    with pytest.raises(Malformed):
        parse(json.dumps(_content(**change)).encode(), KEY)


@pytest.mark.parametrize("ms", [0, 253_402_300_799_999])
def test_times_from_1970_to_the_year_9999_are_read_and_written(ms):
    """And no number in a letter is larger than the last of them."""
    delivery = _delivery()
    delivery.round = ms
    letter = parse(encode(delivery, ms, KEY), KEY)
    assert (letter.head.died_at_ms, letter.delivery.round) == (ms, ms)


def test_what_is_wrong_is_said():
    """In fixed words."""
    with pytest.raises(Malformed, match=r"^body: not a text that can be written in UTF-8$"):
        parse(json.dumps(_content(request__body="\ud800")).encode(), KEY)
    with pytest.raises(Malformed, match=r"^not JSON in ASCII$"):
        parse(ENCODED.replace(b'"stripe"', b"NaN"), KEY)


def test_a_body_that_is_not_base64_is_malformed():
    content = json.loads(encode(_delivery(b"\xff"), DIED, KEY))
    for wrong in ("*", "ü", "A", 7):
        content["request"]["body_base64"] = wrong
        with pytest.raises(Malformed):
            parse(json.dumps(content).encode(), KEY)


def test_a_letter_nested_too_deep_is_malformed():
    deep = "[" * 900 + "]" * 900
    data = json.dumps(_content(extra="DEEP")).replace('"DEEP"', deep).encode()
    with contextlib.suppress(Malformed):
        assert not parse(data, KEY).sealed


def test_sealing_something_too_deep_is_refused(monkeypatch):
    import sidecar.outbound.letter as module

    class Shallow:
        loads = staticmethod(json.loads)

        @staticmethod
        def dumps(*_, **__):
            raise RecursionError

    monkeypatch.setattr(module, "json", Shallow)
    with pytest.raises(Malformed):
        parse(ENCODED, KEY)
