"""Each rule takes what it should, refuses the rest, and says what it wanted."""

from __future__ import annotations

import re

import pytest

from sidecar.config import schema
from sidecar.config.rules import Between, DestinationUrl, Duration, Listen, Network, PublicUrl, Rule, Size

RIGHT: list[tuple[Rule, str]] = [
    (Duration("100ms", "300s"), "100ms"),
    (Duration("100ms", "300s"), "300s"),
    (Duration("0s", "5m"), "5m"),
    (Size("1KiB", "1MiB"), "1KiB"),
    (Size("1KiB", "1MiB"), "1024KiB"),
    (Network(), "10.0.0.0/8"),
    (Network(), "::1"),
    (Listen(), "0.0.0.0:8787"),
    (Listen(), "[::]:8787"),
    (Listen(), "localhost:0"),
    (Listen(), "localhost:65535"),
    (Listen(), "unix:/run/x.sock"),
    (Listen(), "unix:/" + "x" * 99),
    (PublicUrl(), "https://hooks.example.com"),
    (PublicUrl(), "http://[::1]:8080/prefix/"),
    (DestinationUrl(), "http://127.0.0.1:3000{path}"),
    (DestinationUrl(), "unix:/run/app.sock:/hooks"),
    (schema.NAME, "a"),
    (schema.NAME, "orders_2-x"),
    (schema.NAME, "a" * 63),
    (schema.NAME, "unknown-one"),
    (schema.SOURCE_PATH, "/"),
    (schema.SOURCE_PATH, "/webhooks/%7Bx"),
    (schema.DEDUP_KEY, "header:X-Id"),
    (schema.DEDUP_KEY, "json:/a/b~1c"),
    (schema.DEDUP_KEY, "body"),
    (schema.RETRY_STATUS, "5xx"),
    (schema.RETRY_STATUS, "429"),
    (schema.METHOD, "POST"),
    (schema.HEADER_VALUE, "text/plain; charset=utf-8"),
    (schema.CREDENTIAL, "stripe"),
]

WRONG: list[tuple[Rule, str]] = [
    (Duration("100ms", "300s"), "99ms"),
    (Duration("100ms", "300s"), "301s"),
    (Duration("100ms", "300s"), "10"),
    (Size("1KiB", "1MiB"), "1023B"),
    (Size("1KiB", "1MiB"), "2MiB"),
    (Size("1KiB", "1MiB"), "18014398509481984KiB"),
    (Network(), "10.0.0.1/8"),
    (Network(), "10.0.0.0/33"),
    (Network(), "host"),
    (Listen(), "8787"),
    (Listen(), "0.0.0.0:65536"),
    (Listen(), "[1.2.3.4]:80"),
    (Listen(), "::1:80"),
    (Listen(), "unix:relative"),
    (Listen(), "unix:/" + "x" * 100),
    (Listen(), "unix:/" + "ü" * 50),
    (Listen(), "unix:/a\0b"),
    (PublicUrl(), "hooks.example.com"),
    (PublicUrl(), "https://user@host"),
    (PublicUrl(), "https://host/?q"),
    (DestinationUrl(), "app:3000"),
    (DestinationUrl(), "http://user:pw@host/"),
    (DestinationUrl(), "http://169.254.169.254/"),
    (DestinationUrl(), "http://h/{path}{path}"),
    (DestinationUrl(), "http://h/{body}"),
    (DestinationUrl(), "ftp://h/"),
    (schema.NAME, "unknown"),
    (schema.NAME, "A"),
    (schema.NAME, ""),
    (schema.NAME, "-a"),
    (schema.NAME, "a" * 64),
    (schema.NAME, "a\n"),
    (schema.SOURCE_PATH, "webhooks"),
    (schema.SOURCE_PATH, "/a b"),
    (schema.SOURCE_PATH, "/a?b"),
    (schema.SOURCE_PATH, "/{id}"),
    (schema.SOURCE_PATH, "/ä"),
    (schema.DEDUP_KEY, "header:"),
    (schema.DEDUP_KEY, "json:id"),
    (schema.DEDUP_KEY, "json:/a~2"),
    (schema.DEDUP_KEY, "id"),
    (schema.RETRY_STATUS, "200"),
    (schema.RETRY_STATUS, "2xx"),
    (schema.RETRY_STATUS, "600"),
    (schema.METHOD, "post"),
    (schema.HEADER_VALUE, "a\nb"),
    (schema.HEADER_VALUE, " a"),
    (schema.CREDENTIAL, "../x"),
    (schema.CREDENTIAL, ".."),
    (schema.FILE, ""),
    (schema.FILE, "a\0"),
]


@pytest.mark.parametrize(("rule", "value"), RIGHT)
def test_what_is_right_is_taken(rule: Rule, value: str) -> None:
    """By the rule, and by the pattern that an editor goes by."""
    assert rule.complaint(value) is None
    assert re.search(rule.pattern, value)


def test_each_rule_has_the_code_that_its_problem_is_documented_under() -> None:
    assert (DestinationUrl().code, Listen().code, Network().code, PublicUrl().code) == ("C120", "C124", "C125", "C126")
    assert (Duration("1s", "2s").code, Size("1B", "2B").code, Between(1, 2).code) == ("C121", "C122", "C123")


def test_a_destination_s_url_is_refused_in_the_words_of_who_reads_it() -> None:
    assert DestinationUrl().complaint("http://h/#x") == "no fragment (#...): it is never sent"


@pytest.mark.parametrize(("rule", "value"), WRONG)
def test_what_is_wrong_is_refused_with_what_was_expected(rule: Rule, value: str) -> None:
    complaint = rule.complaint(value)
    assert complaint
    assert rule.expected
    assert "pw" not in complaint


def test_a_path_from_the_environment_that_is_no_utf_8_is_judged_all_the_same() -> None:
    assert Listen().complaint("unix:/" + "\udcff" * 99) is None
    assert Listen().complaint("unix:/" + "\udcff" * 100)


def test_the_range_is_named_where_the_form_was_right() -> None:
    assert Duration("100ms", "300s").complaint("0s") == '"100ms" to "300s"'
    assert Size("1KiB", "1MiB").complaint("0B") == '"1KiB" to "1MiB"'


def test_the_first_address_of_a_network_is_suggested() -> None:
    assert Network().complaint("10.1.2.3/8") == 'the first address of a network, "10.0.0.0/8"'


def test_numbers_have_ranges() -> None:
    assert Between(1, 10).fits(1)
    assert Between(1, 10).fits(10)
    assert not Between(1, 10).fits(0)
    assert Between(1, 1_000_000).expected == "1 to 1000000"
