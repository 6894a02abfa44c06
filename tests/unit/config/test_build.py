"""The lanes' options say what the file says: seconds, bytes, absolute paths, presets filled in."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from sidecar.config.load import InvalidConfig, load_settings
from sidecar.config.settings import Settings, restart_needed
from sidecar.inbound.verify import HANDSHAKES, PRESETS
from sidecar.model import ACK_DEFAULT, AckTemplate

# A key and a certificate made for this test alone; the words are apart so that no scanner takes them for a leak.
KEY = (
    "-----BEGIN " + "PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgzEg7iCkpBJG/tMzi\n"
    "P81TzgMDjztfIauWFatGMeI8kjyhRANCAAR4Hc1yudyv6hlCjFINghjg5SSsBuIe\n"
    "jH8Hc3lh2CcnhScZHxVOcX99btdJBMBMz+g2P4zF2XnlWIz40qXWPaDw\n"
    "-----END " + "PRIVATE KEY-----\n"
)
LOCKED_KEY = (
    "-----BEGIN ENCRYPTED " + "PRIVATE KEY-----\n"
    "MIHrMFYGCSqGSIb3DQEFDTBJMCgGCSqGSIb3DQEFDDAbBAhLwSL06XbbhAIBATAM\n"
    "BggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBAgQQ29lINpG1aQah2CRWfCQuywSBkGaB\n"
    "2gSaZskesz4RCi8g/GPT0ftFO8tLzepXSFgPJl6MD+gb4D9IN7gC5CtSzTspUfI8\n"
    "mbDoF/3r0UY5LofL/IEQMxogc8sB8pfaCnvtGAkJl3nRiKn5dq/XDwzfbfnfW4ST\n"
    "bcOQenyOTbjiMuMNyPn8GAvxHI1pzr7opejDcdgIYyRpsO2gL5x+5PrOVcA4og==\n"
    "-----END ENCRYPTED " + "PRIVATE KEY-----\n"
)
CERT = """-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUGkPV8A1S2V1ZiHgdCAAFO0+sGp0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNDA0NDU0OFoYDzIxMjYxMDMx
MDQ0NTQ4WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAR4Hc1yudyv6hlCjFINghjg5SSsBuIejH8Hc3lh2CcnhScZHxVOcX99
btdJBMBMz+g2P4zF2XnlWIz40qXWPaDwo1MwUTAdBgNVHQ4EFgQUVFyaO2ZtfrO8
VcDdzokjn/trM7EwHwYDVR0jBBgwFoAUVFyaO2ZtfrO8VcDdzokjn/trM7EwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBbUCUC75zUeJxzg60AbOZF
YNaKax2zUgb6M45Gcb5klgIhAN2Bi95rG2qNTqi8hnI4qFTcKatr/i16eq8+W6pe
NChG
-----END CERTIFICATE-----
"""

FULL = """
[server]
listen = "[::]:1"
max_body = "2MiB"
max_connections = 9
max_buffered = "70MiB"
header_timeout = "1s"
body_timeout = "2s"
keepalive_timeout = "3s"
trusted_proxies = ["10.0.0.0/8"]
public_url = "https://Hooks.example.com/prefix"
tls = { cert = "cert.pem", key = "key.pem" }
[admin]
listen = "127.0.0.1:2"
socket = "/run/a.sock"
token = { env = "TOKEN" }
[drain]
accept_for = "4s"
lease = "5s"
[journal]
path = "j"
max_size = "128MiB"
retention = "6s"
ephemeral = true
[delivery]
max_buffered = "1MiB"
[dead_letters]
path = "d"
max_size = "77MiB"
[log]
level = "error"
format = "json"
[sources.plain]
path = "/plain"
destinations = ["app", "other"]
secrets = [{ env = "A" }, { id = "old", value = "hush", not_before = 2026-01-01T00:00:00Z, not_after = 2026-01-02T00:00:00+01:00 }]
methods = ["PUT"]
max_body = "3MiB"
public_url = "http://other.example:8080"
content_type = "application/json"
allow_empty = false
[sources.plain.verify]
scheme = "hmac"
header = "X-Signature"
[sources.plain.dedup]
key = "json:/id"
ttl = "7s"
missing = "body"
redrive_dead = false
[sources.chat]
path = "/chat"
verify = "slack"
secrets = [{ env = "A" }]
destinations = ["app"]
[destinations.app]
url = "https://app{path}"
timeout = "8s"
concurrency = 2
signature = "original"
host = "shop"
headers = { X-Plain = "a b", X-Secret = { env = "A" } }
ca_file = "cert.pem"
hold_after = 0
[destinations.app.retry]
max_attempts = 1
on = ["429", "5xx"]
base = "9ms"
factor = 1.5
max_delay = "10s"
jitter = 0
max_age = "11s"
[destinations.other]
url = "unix:/run/app.sock:/x"
""".replace('"9ms"', '"90ms"')
ENV = {"A": "hush-a", "TOKEN": "hush-token"}


def load(folder: Path, text: str = FULL, env: dict[str, str] | None = None) -> Settings:
    (folder / "config.toml").write_text(text)
    (folder / "cert.pem").write_text(CERT)
    (folder / "key.pem").write_text(KEY)
    (folder / "locked.pem").write_text(LOCKED_KEY)
    return load_settings(str(folder / "config.toml"), env=ENV if env is None else env)


def problems(folder: Path, text: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        load(folder, text, env)
    return [line.partition(": ")[2].splitlines()[0] for line in caught.value.problems]


def test_the_process_gets_what_the_file_says(tmp_path: Path) -> None:
    settings = load(tmp_path)
    server = settings.server
    assert (server.listen, server.options.max_connections) == ("[::]:1", 9)
    assert server.options.max_buffered_bytes == 70 << 20
    assert server.options.header_timeout_s == 1.0
    assert server.options.body_timeout_s == 2.0
    assert server.options.keepalive_timeout_s == 3.0
    assert server.options.authorities == {b"hooks.example.com", b"other.example:8080"}
    assert server.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"),)
    assert server.tls is not None
    assert (server.tls.cert, server.tls.key) == (str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    assert (settings.admin.listen, settings.admin.socket, settings.admin.token) == (
        "127.0.0.1:2",
        "/run/a.sock",
        b"hush-token",
    )
    assert (settings.drain.accept_for_s, settings.drain.lease_s) == (4.0, 5.0)
    assert settings.journal.path == str(tmp_path / "j")
    assert settings.journal.max_size_bytes == 128 << 20
    assert settings.journal.retention_s == 6.0
    assert settings.journal.ephemeral
    assert settings.max_buffered_bytes == 1 << 20
    assert settings.dead_letters.path == str(tmp_path / "d")
    assert settings.dead_letters.max_size_bytes == 77 << 20
    assert (settings.log.level, settings.log.format) == ("error", "json")
    assert {Path(file.path).name for file in settings.watched} == {"config.toml", "cert.pem", "key.pem"}


def test_a_source_gets_what_the_file_says(tmp_path: Path) -> None:
    plain = load(tmp_path).sources[0]
    assert (plain.name, plain.path, plain.methods) == ("plain", b"/plain", {b"PUT"})
    assert plain.max_body == 3 << 20
    assert plain.destinations == ("app", "other")
    assert [(s.id, s.value) for s in plain.secrets] == [("1", b"hush-a"), ("old", b"hush")]
    assert plain.secrets[1].not_before_ms == 1767225600000
    assert plain.secrets[1].not_after_ms == 1767308400000
    assert plain.public_url == b"http://other.example:8080"
    assert plain.content_type == b"application/json"
    assert not plain.allow_empty
    assert (plain.dedup.key, plain.dedup.ttl_s, plain.dedup.missing) == ("json:/id", 7.0, "body")
    assert plain.dedup.key_signed
    assert not plain.dedup.redrive_dead
    assert plain.ack == ACK_DEFAULT
    assert plain.handshake is None
    assert plain.preset == ""


def test_a_preset_fills_in_what_the_file_leaves_out(tmp_path: Path) -> None:
    chat, preset = load(tmp_path).sources[1], PRESETS["slack"]
    assert chat.preset == "slack"
    assert chat.methods == {method.encode() for method in preset.methods}
    assert chat.max_body == 2 << 20
    assert (chat.dedup.key, chat.dedup.ttl_s, chat.dedup.key_signed) == (preset.dedup_key, preset.dedup_ttl_s, True)
    assert chat.ack == preset.ack
    assert chat.handshake is HANDSHAKES["slack"]
    assert chat.public_url == b"https://Hooks.example.com/prefix"


def test_an_own_dedup_key_is_judged_by_the_presets_signature(tmp_path: Path) -> None:
    text = FULL.replace('path = "/chat"', 'path = "/chat"\ndedup = { key = "header:X-Id" }')
    assert not load(tmp_path, text).sources[1].dedup.key_signed


def test_a_destination_gets_what_the_file_says(tmp_path: Path) -> None:
    app, other = load(tmp_path).destinations
    assert (app.name, app.kind, app.hold_after, app.signature) == ("app", "http", 0, "original")
    assert (app.http.url, app.http.timeout_s, app.http.concurrency, app.http.host) == (
        "https://app{path}",
        8.0,
        2,
        "shop",
    )
    assert app.http.headers == ((b"X-Plain", b"a b"), (b"X-Secret", b"hush-a"))
    assert app.http.ca_file == str(tmp_path / "cert.pem")
    assert app.retry.max_attempts == 1
    assert app.retry.on == {429, *range(500, 600)}
    assert (app.retry.base_s, app.retry.factor, app.retry.max_delay_s) == (0.09, 1.5, 10.0)
    assert (app.retry.jitter, app.retry.max_age_s) == (0.0, 11.0)
    assert (other.http.url, other.http.headers, other.hold_after) == ("unix:/run/app.sock:/x", (), 20)


@pytest.mark.parametrize(
    ("ack", "expected"),
    [
        ("{}", PRESETS["slack"].ack),
        ("{ status = 202 }", AckTemplate(202, "", b"")),
        ("{ status = 204 }", AckTemplate(204, "", b"")),
        ('{ body = "ok" }', AckTemplate(200, "text/plain", b"ok")),
        ('{ body = "<{id}>", content_type = "text/xml" }', AckTemplate(200, "text/xml", b"<{id}>", with_id=True)),
        ('{ content_type = "text/xml" }', AckTemplate(200, "text/xml", b"")),
    ],
)
def test_an_ack_fills_in_what_it_leaves_out(tmp_path: Path, ack: str, expected: AckTemplate) -> None:
    settings = load(tmp_path, FULL.replace('path = "/chat"', f'path = "/chat"\nack = {ack}'))
    assert settings.sources[1].ack == expected


def test_without_a_preset_the_ack_is_the_default(tmp_path: Path) -> None:
    settings = load(tmp_path, FULL.replace('path = "/plain"', 'path = "/plain"\nack = { status = 201 }'))
    assert settings.sources[0].ack == AckTemplate(201, ACK_DEFAULT.content_type, ACK_DEFAULT.body, with_id=True)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('cert = "cert.pem"', 'cert = "none.pem"', "C180 server.tls.cert: {}/none.pem: no such file or directory"),
        ('key = "key.pem"', 'key = "cert.pem"', "C180 server.tls: expected a certificate and its private key"),
        ('key = "key.pem"', 'key = "locked.pem"', "C180 server.tls: expected a certificate and its private key"),
        ('cert = "cert.pem"', 'cert = ""', 'C103 server.tls.cert: got ""; expected a path'),
        ('ca_file = "cert.pem"', 'ca_file = "config.toml"', "C180 destinations.app.ca_file: expected PEM certificates"),
        ('ca_file = "cert.pem"', 'ca_file = "none"', "C180 destinations.app.ca_file: {}/none: no such file"),
        (
            'token = { env = "TOKEN" }',
            'token = { env = "NONE" }',
            "C145 admin.token.env: the environment variable NONE",
        ),
        ('X-Secret = { env = "A" }', 'X-Secret = { env = "NONE" }', "C145 destinations.app.headers.X-Secret.env"),
        ('X-Secret = { env = "A" }', 'X-Secret = { value = "a\\nhush" }', "C127 destinations.app.headers.X-Secret"),
        ('secrets = [{ env = "A" }]', 'secrets = [{ env = "NONE" }]', "C145 sources.chat.secrets[0].env"),
        (
            'verify = "slack"',
            'verify = { scheme = "basic" }',
            'C145 sources.chat.secrets[0]: the secret is not of the form "user:password"',
        ),
    ],
)
def test_what_cannot_be_read_is_a_problem(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert old in FULL
    shown = problems(tmp_path, FULL.replace(old, new))
    assert len(shown) == 1
    assert shown[0].startswith(problem.format(tmp_path)), shown
    assert "hush" not in shown[0]


def test_a_wrong_source_does_not_hide_its_secrets_problems(tmp_path: Path) -> None:
    text = FULL.replace('verify = "slack"', 'verify = "slak"').replace(
        '{ env = "A" }]\ndest', '{ env = "NONE" }]\ndest'
    )
    assert [line.split()[0] for line in problems(tmp_path, text)] == ["C140", "C145"]


def test_readable_secret_files_warn_in_one_line(tmp_path: Path) -> None:
    for name in ("s1", "s2"):
        (tmp_path / name).write_text("hush")
        (tmp_path / name).chmod(0o644)
    text = FULL.replace('token = { env = "TOKEN" }', 'token = { file = "s1" }').replace(
        'X-Secret = { env = "A" }', 'X-Secret = { file = "s2" }'
    )
    (warning,) = [line for line in load(tmp_path, text).warnings if "readable" in line]
    assert warning.startswith(
        f"readable by everybody on this machine: {tmp_path}/s1, {tmp_path}/s2; expected mode 0440"
    )


def test_no_repr_of_settings_shows_a_secret(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert "hush" not in repr(settings)
    assert "hush" not in repr(settings.admin)
    assert "hush" not in repr(settings.sources)
    assert repr(settings.admin).endswith("token=set)")
    assert "hush" not in " ".join(settings.warnings)


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("", "", []),
        ('listen = "[::]:1"', 'listen = "[::]:9"', ["server.listen"]),
        ('listen = "127.0.0.1:2"', 'listen = "127.0.0.1:9"', ["admin.listen"]),
        ('socket = "/run/a.sock"', 'socket = "/run/b.sock"', ["admin.socket"]),
        ('path = "j"', 'path = "k"', ["journal.path"]),
        ('max_size = "128MiB"', 'max_size = "129MiB"', ["journal.max_size"]),
        ('path = "d"', 'path = "e"', ["dead_letters.path"]),
        ('tls = { cert = "cert.pem", key = "key.pem" }', "", ["server.tls"]),
        ('url = "https://app{path}"', 'url = "https://app2{path}"', []),
        ('max_buffered = "1MiB"', 'max_buffered = "2MiB"', []),
        ('path = "/chat"', 'path = "/talk"', []),
    ],
)
def test_only_what_a_reload_cannot_take_over_needs_a_restart(
    tmp_path: Path, old: str, new: str, names: list[str]
) -> None:
    assert restart_needed(load(tmp_path), load(tmp_path, FULL.replace(old, new))) == names
