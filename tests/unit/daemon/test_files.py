"""How many descriptors a configuration needs, and that they are asked for before anything begins."""

from __future__ import annotations

import resource
from types import SimpleNamespace

import pytest

from sidecar.daemon import files
from sidecar.errors import ConfigError


def settings(max_connections: int, *concurrency: int) -> SimpleNamespace:
    return SimpleNamespace(
        server=SimpleNamespace(options=SimpleNamespace(max_connections=max_connections)),
        destinations=[SimpleNamespace(http=SimpleNamespace(concurrency=c)) for c in concurrency],
    )


def test_connections_and_deliveries_and_a_reserve_are_counted():
    assert files.needed(settings(500)) == 500 + 128
    assert files.needed(settings(500, 64, 10)) == 500 + 74 + 128


def test_the_limit_is_raised_as_far_as_needed_and_allowed(monkeypatch):
    limits, asked = [(64, 1024)], []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[0])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: asked.append(pair))
    with pytest.raises(ConfigError, match=r"RLIMIT_NOFILE is 1024, .* need 1025"):
        files.demand(settings(800, 97))
    assert asked == []
    files.demand(settings(800, 96))
    assert asked == [(1024, 1024)]
    for enough in ((1024, 1024), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)):
        limits[0] = enough
        files.demand(settings(800, 96))
    assert len(asked) == 1
    limits[0] = (64, resource.RLIM_INFINITY)
    files.demand(settings(800, 97))
    assert asked[1:] == [(1025, resource.RLIM_INFINITY)]
