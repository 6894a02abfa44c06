"""The structs carry the defaults that the lanes' own options have, and every key explains itself."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.config import schema
from sidecar.config.problems import Problems
from sidecar.config.rules import Rule
from sidecar.config.shape import keys_of, members, shape, unwrap
from sidecar.config.units import parse_duration, parse_size
from sidecar.inbound.application import ServerOptions
from sidecar.journal.types import JournalOptions
from sidecar.log import LogOptions
from sidecar.outbound.deadletter import DeadLetterOptions
from sidecar.outbound.deliver import HttpOptions
from sidecar.outbound.retry import RetryPolicy, expand_statuses

STRUCTS = [getattr(schema, name) for name in schema.__all__]


@pytest.mark.parametrize("cls", STRUCTS, ids=lambda cls: cls.__name__)
def test_every_key_has_one_sentence(cls: type[msgspec.Struct]) -> None:
    for key in keys_of(cls).values():
        assert key.description.endswith("."), key.name


@pytest.mark.parametrize("cls", STRUCTS, ids=lambda cls: cls.__name__)
def test_every_default_obeys_its_own_rule(cls: type[msgspec.Struct]) -> None:
    for key in keys_of(cls).values():
        inner, metas = unwrap(key.hint)
        rules = [
            m for m in (*metas, *(m for member in members(inner) for m in unwrap(member)[1])) if isinstance(m, Rule)
        ]
        if isinstance(key.default, str):
            assert all(rule.complaint(key.default) is None for rule in rules), key.name


def test_defaults_are_those_of_the_lanes() -> None:
    config = schema.Config()
    assert config.server.max_connections == ServerOptions().max_connections
    assert parse_size(config.server.max_buffered) == ServerOptions().max_buffered_bytes
    assert parse_duration(config.server.header_timeout) == ServerOptions().header_timeout_s
    assert parse_duration(config.server.body_timeout) == ServerOptions().body_timeout_s
    assert parse_duration(config.server.keepalive_timeout) == ServerOptions().keepalive_timeout_s
    assert config.journal.path == JournalOptions().path
    assert parse_size(config.journal.max_size) == JournalOptions().max_size_bytes
    assert parse_duration(config.journal.retention) == JournalOptions().retention_s
    assert config.journal.ephemeral == JournalOptions().ephemeral
    assert config.dead_letters.path == DeadLetterOptions().path
    assert parse_size(config.dead_letters.max_size) == DeadLetterOptions().max_size_bytes
    assert LogOptions() == LogOptions(level=config.log.level, format=config.log.format)
    destination = shape(schema.Destination, {"url": "http://a"}, (), Problems())
    http = HttpOptions(url="http://a")
    assert parse_duration(destination.timeout) == http.timeout_s
    assert destination.concurrency == http.concurrency
    retry, policy = schema.Retry(), RetryPolicy()
    assert (retry.max_attempts, retry.factor, retry.jitter) == (policy.max_attempts, policy.factor, policy.jitter)
    assert expand_statuses(retry.on) == policy.on
    assert parse_duration(retry.base) == policy.base_s
    assert parse_duration(retry.max_delay) == policy.max_delay_s
    assert parse_duration(retry.max_age) == policy.max_age_s
