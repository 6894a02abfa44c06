"""Each part is told of the settings what it needs, and no secret beyond."""

from __future__ import annotations

from pathlib import Path

from sidecar.config.load import load_settings
from sidecar.daemon import extracts

TEXT = """
[admin]
token = { value = "t0ken" }
[sources.github]
path = "/github"
verify = "github"
secrets = [{ value = "github-secret" }]
destinations = ["app", "audit"]
[sources.own]
path = "/own"
verify = { scheme = "token", header = "X-Token" }
secrets = [{ value = "own-secret" }]
destinations = ["audit"]
[sources.paypal]
path = "/paypal"
verify = { preset = "paypal", webhook_id = "WH-1" }
destinations = ["app"]
[destinations.app]
url = "http://app:8080/in"
[destinations.audit]
url = "http://audit:8080/in"
"""


def settings(folder: Path, text: str = TEXT):
    (folder / "config.toml").write_text(text)
    return load_settings(str(folder / "config.toml"), env={})


def test_names_and_routes_are_those_of_the_file(tmp_path):
    """A destination knows all sources that it gets events of."""
    told = settings(tmp_path)
    assert extracts.names(told) == (["github", "own", "paypal"], ["app", "audit"])
    assert extracts.routes(told) == {"app": ["github", "paypal"], "audit": ["github", "own"]}


def test_only_what_is_surely_needed_is_fetched_before_anybody_asks(tmp_path):
    """A document that only a request can name is not known yet."""
    issuer = """[sources.jwt]
path = "/jwt"
verify = { scheme = "jwt", issuers = ["me"], audience = "us", jwks_url = "https://keys.example/jwks" }
destinations = ["app"]
"""
    assert extracts.fetches(settings(tmp_path)) == []
    assert [f.url for f in extracts.fetches(settings(tmp_path, TEXT + issuer))] == ["https://keys.example/jwks"]


def test_people_see_how_a_source_is_verified_but_no_secret(tmp_path):
    """By its preset, or by its scheme where it is spelled out."""
    told = settings(tmp_path)
    sources = extracts.sources(told)
    assert [(s.name, s.path, s.scheme, s.methods) for s in sources] == [
        ("github", "/github", "github", ("POST",)),
        ("own", "/own", "token", ("POST",)),
        ("paypal", "/paypal", "paypal", ("POST",)),
    ]
    assert [(d.name, d.kind, d.url) for d in extracts.destinations(told)] == [
        ("app", "http", "http://app:8080/in"),
        ("audit", "http", "http://audit:8080/in"),
    ]
    assert "secret" not in repr(sources)


def test_a_token_is_compared_byte_for_byte_and_one_that_is_not_set_is_made_elsewhere(tmp_path):
    told = settings(tmp_path)
    assert extracts.admin_options(told).token == extracts.token(told) == "t0ken"
    bare = settings(tmp_path, TEXT.replace('token = { value = "t0ken" }', ""))
    assert extracts.admin_options(bare).token is None
