"""[P] Lays out the configuration for people: the example file and the reference page.

Both come from the structs of ``schema`` and from the presets; what cannot be derived (an example for a key without
a default, the order of things) stands here as data.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import msgspec

from sidecar.config import schema
from sidecar.config.describe import attribute_docs, kind_of, range_of, toml_value
from sidecar.config.problems import CODES
from sidecar.config.shape import Key, keys_of, members, unwrap
from sidecar.config.units import format_duration
from sidecar.config.verification import SCHEME_OPTIONS
from sidecar.inbound.verify import PRESETS

__all__ = ["EXAMPLES", "example", "reference"]

EXAMPLES: dict[str, str] = {
    "server.public_url": '"https://hooks.example.com"',
    "server.tls": '{ cert = "tls/tls.crt", key = "tls/tls.key" }',
    "admin.token": '{ env = "WEBHOOK_SIDECAR_ADMIN_TOKEN" }',
    "source.path": '"/webhooks/order-events"',
    "source.destinations": '["shop"]',
    "source.secrets": (
        '[\n#  { id = "2026-11", env = "ORDERS_SECRET", not_before = 2026-11-01T00:00:00Z },\n'
        '#  { id = "2026-10", file = "secrets/orders-old", not_after = 2026-12-31T00:00:00Z },\n#]'
    ),
    "source.methods": '["POST"]',
    "source.max_body": '"256KiB"',
    "source.public_url": '"https://orders.example.com"',
    "source.handshake": '"cloudevents"',
    "source.handshake_token": '{ env = "ORDERS_HANDSHAKE_TOKEN" }',
    "source.content_type": '"application/json"',
    "dedup.key": '"header:X-Idempotency-Key"',
    "dedup.ttl": '"24h"',
    "ack.body": '"Accepted"',
    "ack.content_type": '"text/plain"',
    "hmac.header": '"X-Signature"',
    "hmac.signed": '"{timestamp}.{body}"',
    "hmac.timestamp": '{ header = "X-Timestamp", unit = "s", tolerance = "300s" }',
    "destination.url": '"http://127.0.0.1:3000{path}"',
    "destination.host": '"shop.example.com"',
    "destination.headers": '{ X-Internal = { env = "INTERNAL_TOKEN" } }',
    "destination.ca_file": '"tls/ca.crt"',
}
"""What to show where there is no default, or where the default does not go with the rest, by struct and key.

The example file loads with all of them taken in.
"""

_PLAIN_HMAC = ("header", "algorithm", "prefix", "encoding", "signed", "timestamp", "secret_encoding")
"""Options of a scheme that the example shows; the reference has all of them."""

_TOP = """\
#:schema ./config.schema.json
#
# webhook-sidecar: every setting with its default. This file is generated.
#
# It runs as it is: one source for GitHub and the echo backend of `webhook-sidecar run --with-echo`.
# A line that begins with "#" and a key shows the default, or an example where there is none; take the "#" away to
# change it. Durations are a number and ms, s, m, h or d; sizes a whole number and B, KiB, MiB, GiB or TiB.
# In every text but secrets: ${VAR}, ${VAR:-default}, ${VAR:?message}, and $$ for a dollar sign.
# Any key can be set from outside: WEBHOOK_SIDECAR__SERVER__LISTEN=127.0.0.1:8787

[sources.github]
path = "/webhooks/github"
verify = "github"
destinations = ["echo"]
# A literal secret is for development. In production: { env = "..." }, { file = "..." } or { credential = "..." }.
secrets = [{ value = "development-secret-change-me" }]

[destinations.echo]
url = "http://127.0.0.1:8788{path}"
"""


def example() -> str:
    """Write ``config.example.toml``."""
    out = [_TOP]
    for section in keys_of(schema.Config).values():
        if section.name not in ("sources", "destinations"):
            cls = type(section.default)
            out.append(f"\n# {_first_line(cls)}\n[{section.name}]\n{_lines(cls, section.name)}")
    presets = textwrap.fill(f"Presets: {', '.join(sorted(PRESETS))}.", 118, initial_indent="# ", subsequent_indent="# ")
    out.append(
        f"\n{presets}\n# A source with a scheme spelled out, for a sender without a preset.\n#[sources.orders]\n"
        + _lines(schema.Source, "source", skip=("verify", "dedup", "ack"))
        + "\n# scheme: hmac, token, basic, none (needs allow_unverified = true), ...; docs/config.md has every one with its options.\n"
        + '#[sources.orders.verify]\n#scheme = "hmac"\n'
        + _lines(SCHEME_OPTIONS["hmac"], "hmac", only=_PLAIN_HMAC, durations=True)
        + f"\n# {_first_line(schema.Dedup)}\n#[sources.orders.dedup]\n{_lines(schema.Dedup, 'dedup')}"
        + f"\n# {_first_line(schema.Ack)}\n#[sources.orders.ack]\n{_lines(schema.Ack, 'ack')}"
        + f"\n# {_first_line(schema.Destination)}\n#[destinations.shop]\n"
        + _lines(schema.Destination, "destination", skip=("retry",))
        + f"\n# {_first_line(schema.Retry)}\n#[destinations.shop.retry]\n{_lines(schema.Retry, 'retry')}"
    )
    return "".join(out)


def _first_line(cls: type[msgspec.Struct]) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0].replace("``", "`")


def _lines(
    cls: type[msgspec.Struct],
    prefix: str,
    *,
    skip: Iterable[str] = (),
    only: Iterable[str] = (),
    durations: bool = False,
) -> str:
    docs = attribute_docs(cls)
    out = []
    for key in keys_of(cls).values():
        if key.name in skip or (only and key.name not in only):
            continue
        text = (key.description or docs[key.name]).rstrip(".")
        limits = range_of(key.hint)
        comment = f"{text}. {limits}." if limits else f"{text}."
        if f"{prefix}.{key.name}" in EXAMPLES and key.default and isinstance(key.default, str):
            comment += f" Default: {_default(key, durations=durations)}."
        out += textwrap.wrap(comment, 118, initial_indent="# ", subsequent_indent="# ")
        out.append(f"#{key.name} = {EXAMPLES.get(f'{prefix}.{key.name}') or _default(key, durations=durations)}")
    return "\n".join(out) + "\n"


def _default(key: Key, *, durations: bool) -> str:
    if durations and isinstance(key.default, float):
        return toml_value(format_duration(key.default))
    return toml_value(key.default)


_INTRODUCTION = """\
# Configuration

<!-- Generated by scripts/generate.py from sidecar/config/. Do not edit. -->

One TOML file. It is looked for at `--config`, `$WEBHOOK_SIDECAR_CONFIG`, `./config.toml` and
`/etc/webhook-sidecar/config.toml`, in this order. Relative paths in it start from its own folder.

`webhook-sidecar check` reads all of it and prints every problem at once, with file, line, column and a stable code;
with `--offline` it looks at no environment and at no other file. `webhook-sidecar config show` prints the effective
configuration, and `config.schema.json` tells your editor about it.

## Values

- **Durations** are a number and a unit: `250ms`, `10s`, `5m`, `72h`, `7d`.
- **Sizes** are a whole number and a unit: `512B`, `64KiB`, `1MiB`, `4GiB` (also `kB`, `MB`, `GB`, `TB`).
- **Variables** are filled in after parsing, in every string except secret references: `${VAR}` (must be set),
  `${VAR:-default}` (when unset or empty), `${VAR:?message}` (an error with your words), `$$` for a dollar sign.
- **Overrides**: `WEBHOOK_SIDECAR__SERVER__LISTEN=127.0.0.1:8787` sets `server.listen`. Two underscores stand between
  the parts; names of sources and destinations are written in capitals with `_` for `-`. Arrays, tables and numbers
  are written as TOML.
- **Names** of sources and destinations: `a-z`, `0-9`, `_` and `-`, at most 63, not `unknown`.

## Secrets

A secret is a reference, so that the file itself may be shown to anybody: `{ env = "STRIPE_SECRET" }`,
`{ file = "/run/secrets/stripe" }` or `{ credential = "stripe" }` (systemd's `LoadCredential=`). One trailing line end
is stripped; an empty secret is an error. A file that everybody may write is an error, one that everybody may read
warns. `{ value = "..." }` works and warns: it is for development.

To rotate, list both secrets, give the old one a `not_after`, and let the file or the reload do the rest. Requests
signed with either are accepted; late deliveries are signed with the newest active one.

## Reload

SIGHUP, `POST /-/reload`, and a change of the file, of a secret file or of a TLS file (looked at every 5 s, by
content; the links of a Kubernetes mount work, a `subPath` mount never changes) load everything anew: all or nothing,
and with any error the old configuration stays. Listen addresses, paths and sizes of the journal, and the limits of
the listener need a restart; the answer of a reload names them.
"""


def reference() -> str:
    """Write ``docs/config.md``."""
    out = [_INTRODUCTION]
    out += [
        _section(f"[{section.name}]", type(section.default))
        for section in keys_of(schema.Config).values()
        if section.name not in ("sources", "destinations")
    ]
    out.append(_section("[sources.NAME]", schema.Source))
    out.append(_section("Secret references", schema.SecretRef, level=3))
    for name, options in SCHEME_OPTIONS.items():
        out.append(_section(f'[sources.NAME.verify] with scheme = "{name}"', options, level=3, durations=True))
    for title, name in (("timestamp", "TimestampOptions"), ("entries", "EntryOptions")):
        out.append(_section(f"[sources.NAME.verify.{title}]", _PARTS[name], level=3, durations=True))
    out.append(_section("[sources.NAME.dedup]", schema.Dedup, level=3))
    out.append(_section("[sources.NAME.ack]", schema.Ack, level=3))
    out.append(_section("[destinations.NAME]", schema.Destination))
    out.append(_section("[destinations.NAME.retry]", schema.Retry, level=3))
    out.append(_section("[server.tls]", schema.Tls))
    out.append(_presets())
    out.append(
        "\n## Problem codes\n\nEvery problem is printed as `file:line:column: CODE key: what was got; what was "
        "expected`, with the line below it.\nAny problem ends a start with exit code 78.\n\n| Code | Means |\n|---|---|\n"
        + "".join(f"| {code} | {text} |\n" for code, text in CODES.items())
    )
    return "".join(out)


def _section(title: str, cls: type[msgspec.Struct], *, level: int = 2, durations: bool = False) -> str:
    docs = attribute_docs(cls)
    shown = f"`{title}`" if title.startswith("[") else title
    rows = []
    for key in keys_of(cls).values():
        kind, limits = kind_of(key.hint, durations=durations), range_of(key.hint)
        if key.default is msgspec.UNSET:
            default = "required"
        elif key.default is None or isinstance(key.default, msgspec.Struct):
            default = ""
        else:
            default = f"`{_default(key, durations=durations)}`"
        meaning = key.description or docs.get(key.name, "")
        cells = (f"`{key.name}`", f"{kind}, {limits}" if limits else kind, default, meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    table = "| Key | Type | Default | Meaning |\n|---|---|---|---|\n" + "".join(rows) if rows else ""
    return f"\n{'#' * level} {shown}\n\n{_first_line(cls)}\n" + (f"\n{table}" if table else "")


def _presets() -> str:
    return (
        '\n## Presets\n\nWhat `verify = "NAME"` brings with it is in [providers.md](providers.md). '
        "Your own settings of a source come first.\n"
    )


def _parts() -> dict[str, type[msgspec.Struct]]:
    """The tables inside the options of schemes, by the name of their struct."""
    found: dict[str, type[msgspec.Struct]] = {}
    for cls in SCHEME_OPTIONS.values():
        for key in keys_of(cls).values():
            for member in _struct_members(key):
                found[member.__name__] = member
    return found


def _struct_members(key: Key) -> list[type[msgspec.Struct]]:
    return [m for m in members(unwrap(key.hint)[0]) if isinstance(m, type) and issubclass(m, msgspec.Struct)]


_PARTS = _parts()
