"""The gate in front of API and console."""

from __future__ import annotations

import pytest

from sidecar.admin.auth import Failures, Gate, host_name, is_address


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:9787", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[::1]:9787", "::1"),
        ("", ""),
        ("user@localhost", ""),
        ("localhost/x", ""),
        ("localhost?x", ""),
        ("localhost#x", ""),
        ("localhost:port", ""),
        ("localhost:99999", ""),
        ("[::1", ""),
        ("local host", "local host"),
    ],
)
def test_a_host_header_is_a_name_and_maybe_a_port_and_nothing_else(host, name):
    assert host_name(host) == name


@pytest.mark.parametrize(
    ("host", "local", "ours"),
    [
        ("localhost:1", "127.0.0.1", True),
        ("10.1.2.3:9787", "10.1.2.3", True),
        ("10.1.2.3:9787", "::ffff:10.1.2.3", True),
        ("[fe80::1]", "fe80::1%eth0", True),
        ("10.1.2.4", "10.1.2.3", False),
        ("evil.example", "10.1.2.3", False),
        ("admin.example", "10.1.2.3", True),
        ("", "", False),
        (None, "127.0.0.1", False),
        ("x", "not an address", False),
    ],
)
def test_our_hosts_are_loopback_names_the_configured_ones_and_the_address_reached(host, local, ours):
    gate = Gate("t", {"admin.example"}, lambda: 0.0)
    assert gate.is_our_host(host, local) is ours


@pytest.mark.parametrize(
    ("host", "yes"),
    [("10.1.2.3:9787", True), ("[fd00::7]", True), ("localhost", False), ("10.1.2.3.evil.example", False), ("", False)],
)
def test_a_host_is_an_address_or_not(host, yes):
    assert is_address(host) is yes


@pytest.mark.parametrize(
    ("headers", "same"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "http://localhost:9787", "Host": "localhost:9787"}, True),
        ({"Origin": "http://localhost:9788", "Host": "localhost:9787"}, False),
        ({"Origin": "null", "Host": "localhost"}, False),
        ({"Origin": "file://localhost", "Host": "localhost"}, False),
    ],
)
def test_a_browser_may_ask_from_our_own_page_only(headers, same):
    assert Gate("t", (), lambda: 0.0).is_same_site(headers) is same


@pytest.mark.parametrize(
    ("authorization", "known"),
    [
        ("Bearer right", True),
        ("bearer right", True),
        ("Bearer  right ", True),
        ("Bearer wrong", False),
        ("Bearer righ", False),
        ("Bearer", False),
        ("Basic right", False),
        ("right", False),
        ("Bearer \udcff", False),
        (None, False),
    ],
)
def test_only_the_token_opens(authorization, known):
    assert Gate("right", (), lambda: 0.0).knows(authorization, "1.2.3.4") is known


def test_a_token_of_bytes_that_are_no_utf_8_opens_too():
    gate = Gate("caf\udce9", (), lambda: 0.0)
    assert gate.knows("Bearer caf\udce9", "1.2.3.4")
    assert not gate.knows("Bearer caf?", "1.2.3.4")


def test_a_fresh_token_is_long_and_new_each_time_and_never_in_a_repr():
    one, two = Gate(None, (), lambda: 0.0), Gate(None, (), lambda: 0.0)
    assert one.token != two.token
    assert len(one.token) >= 43
    assert one.token not in repr(one)


def test_ten_wrong_tokens_then_one_every_three_seconds():
    now = 0.0
    gate = Gate("right", (), lambda: now)
    for _ in range(10):
        assert gate.wait_s("1.2.3.4") == 0.0
        gate.knows("Bearer wrong", "1.2.3.4")
    assert gate.wait_s("1.2.3.4") == pytest.approx(3.0)
    assert gate.wait_s("5.6.7.8") == 0.0
    now = 3.0
    assert gate.wait_s("1.2.3.4") == 0.0
    gate.knows("Bearer wrong", "1.2.3.4")
    assert gate.wait_s("1.2.3.4") == pytest.approx(3.0)


def test_asking_without_a_token_is_no_guess():
    gate = Gate("right", (), lambda: 0.0)
    for _ in range(20):
        gate.knows(None, "1.2.3.4")
    assert gate.wait_s("1.2.3.4") == 0.0


def test_one_ipv6_network_counts_as_one_and_the_table_is_bounded():
    failures = Failures(lambda: 0.0)
    for n in range(10):
        failures.count(f"2001:db8::{n:x}")
    assert failures.wait_s("2001:db8::ffff%eth0") > 0
    assert failures.wait_s("2001:db8:0:1::1") == 0.0
    failures.count("unix")
    for n in range(1100):
        failures.count(f"10.0.{n // 256}.{n % 256}")
    assert len(failures._peers) == 1024
    assert failures.wait_s("2001:db8::1") == 0.0
