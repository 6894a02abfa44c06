"""[P] The configuration in the shape of its TOML file: every key with its default, its range and one sentence.

This is the one list of settings: ``shape`` reads it to turn tables into these structs, ``describe`` to write
the JSON Schema, the example file and the reference. Texts with a unit stay texts here; ``settings`` parses
them when it builds the lanes' options.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from sidecar.config.rules import Between, DestinationUrl, Duration, Listen, Network, PublicUrl, Size, Text
from sidecar.outbound.retry import RETRY_ON

__all__ = [
    "Ack",
    "Admin",
    "Config",
    "DeadLetters",
    "Dedup",
    "Delivery",
    "Destination",
    "Drain",
    "Journal",
    "Log",
    "Retry",
    "SecretRef",
    "Server",
    "Source",
    "Tls",
]

NAME = Text(
    "C110",
    "a name of a-z, 0-9, _ and -, starting with a letter or digit, at most 63 characters, and not unknown",
    r"^(?!unknown$)[a-z0-9][a-z0-9_-]{0,62}$",
)
FILE = Text("C103", "a path", r"^[^\u0000]+$")
HEADER_NAME = Text("C127", 'a header name, e.g. "X-Signature"', r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")
HEADER_VALUE = Text("C127", "visible ASCII characters and blanks", r"^[!-~]([ -~]{0,4094}[!-~])?$")
HOST = Text("C127", 'a host, e.g. "shop.example.com"', r"^[A-Za-z0-9._\[\]:-]{1,255}$")
SOURCE_PATH = Text(
    "C128",
    'a raw path that starts with /, without query, braces or blanks, e.g. "/webhooks/orders"',
    r"^/[!$%&'()*+,\-./0-9:;=@A-Z_a-z~]{0,2047}$",
)
METHOD = Text("C129", "POST, PUT, PATCH, GET or DELETE in capitals", r"^(POST|PUT|PATCH|GET|DELETE)$")
_KEY_PART = r"(header:[A-Za-z0-9!#$%&'*+.^`|~-]{1,128}|json:(/([^~/ ]|~[01])*)+)"
DEDUP_KEY = Text(
    "C150",
    '"header:NAME", "json:/pointer", several of these with blanks between, "body" or "none"',
    rf"^({_KEY_PART}( {_KEY_PART}){{0,3}}|json:(/([^~/]|~[01])*)+|body|none)$",
)
RETRY_STATUS = Text("C170", 'a status like "429" or a class like "5xx", from 300 up', r"^([345]xx|[345][0-9][0-9])$")
SECRET_ID = Text("C144", "letters, digits, . _ and -, at most 64 characters", r"^[A-Za-z0-9._-]{1,64}$")
ENV_NAME = Text("C144", "the name of an environment variable", r"^[A-Za-z_][A-Za-z0-9_]*$")
CREDENTIAL = Text("C144", "the name of a systemd credential, without /", r"^(?!\.{1,2}$)[^/\u0000]{1,255}$")


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS on the webhook listener itself. Changed files are taken over without a restart."""

    cert: Annotated[str, FILE, Meta(description="PEM file with the certificate and its chain.")]
    key: Annotated[str, FILE, Meta(description="PEM file with the private key.")]


class SecretRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one secret comes from: exactly one of env, file, credential and value."""

    env: Annotated[str | None, ENV_NAME, Meta(description="Environment variable.")] = None
    file: Annotated[str | None, FILE, Meta(description="File; one trailing newline is stripped.")] = None
    credential: Annotated[
        str | None, CREDENTIAL, Meta(description="systemd credential (a file in $CREDENTIALS_DIRECTORY).")
    ] = None
    value: Annotated[str | None, Meta(description="The secret itself; for development only, it warns.")] = None
    id: Annotated[
        str | None, SECRET_ID, Meta(description="Name in logs and metrics; otherwise its position: 1, 2, ...")
    ] = None
    not_before: Annotated[
        dt.datetime | None, Meta(description="Not accepted before this time (with offset, e.g. 2026-12-31T00:00:00Z).")
    ] = None
    not_after: Annotated[dt.datetime | None, Meta(description="Not accepted after this time (with offset).")] = None


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The listener that receives webhooks."""

    listen: Annotated[
        str, Listen(), Meta(description="Where to listen: host:port, [::]:port (IPv4 and IPv6) or unix:/path.")
    ] = "0.0.0.0:8787"
    max_body: Annotated[
        str,
        Size("1KiB", "256MiB"),
        Meta(description="Largest body taken; a source may set its own, presets bring their provider's maximum."),
    ] = "1MiB"
    max_connections: Annotated[
        int,
        Between(1, 1_000_000),
        Meta(
            description="Open connections, TLS handshakes included. At the cap the connection longest without a complete "
            "request is closed first."
        ),
    ] = 1024
    max_buffered: Annotated[
        str,
        Size("2KiB", "64GiB"),
        Meta(
            description="Body bytes received or waiting for their commit, all connections together; "
            "beyond it the answer is 503 overloaded. At least twice the largest max_body."
        ),
    ] = "64MiB"
    header_timeout: Annotated[
        str,
        Duration("100ms", "5m"),
        Meta(description="Time for a TLS handshake, and for a whole request head; then 408."),
    ] = "10s"
    body_timeout: Annotated[str, Duration("100ms", "1h"), Meta(description="Time for a whole body; then 408.")] = "30s"
    keepalive_timeout: Annotated[
        str, Duration("1s", "1h"), Meta(description="How long an idle connection stays open.")
    ] = "75s"
    trusted_proxies: Annotated[
        list[Annotated[str, Network()]],
        Meta(description="Networks whose X-Forwarded-For, -Proto and -Host are believed."),
    ] = msgspec.field(default_factory=lambda: ["127.0.0.0/8", "::1/128"])
    public_url: Annotated[
        str | None,
        PublicUrl(),
        Meta(
            description="What senders see in front of a source's path: some providers sign it, and X-Forwarded-Proto "
            "and -Host say it. A source may set its own."
        ),
    ] = None
    tls: Annotated[Tls | None, Meta(description="Certificate and key, to serve TLS here. Left out: plain HTTP.")] = None


class Admin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metrics, probes and drain; with the token also the API."""

    listen: Annotated[str, Listen(), Meta(description="Where to listen: host:port, [::]:port or unix:/path.")] = (
        "127.0.0.1:9787"
    )
    socket: Annotated[str, FILE, Meta(description="Unix socket for the command line, mode 0600, no token needed.")] = (
        "data/admin.sock"
    )
    token: Annotated[
        SecretRef | None,
        Meta(
            description="Token for API and reload over TCP. Left out: a fresh one at each start, shown once on a "
            "terminal as a link."
        ),
    ] = None


class Drain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens between the wish to stop and the stop."""

    accept_for: Annotated[
        str,
        Duration("0s", "10m"),
        Meta(description="How long webhooks are still taken while endpoints propagate; then 503 shutting_down."),
    ] = "10s"
    lease: Annotated[
        str, Duration("1s", "1h"), Meta(description="A drain that no SIGTERM follows ends by itself after this.")
    ] = "90s"


class Journal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where acknowledged events are kept until they are delivered."""

    path: Annotated[str, FILE, Meta(description="Folder of the journal, on a local disk.")] = "data/journal"
    max_size: Annotated[
        str,
        Size("16MiB", "16TiB"),
        Meta(description="Most it may hold; before it is full the answer is 503 storage_full. Stay below the volume."),
    ] = "1GiB"
    retention: Annotated[
        str,
        Duration("0s", "3650d"),
        Meta(description="Upper bound for delivered events; from 70 % full the oldest delivered go earlier."),
    ] = "72h"
    ephemeral: Annotated[
        bool,
        Meta(
            description="The volume dies with the pod: a drain stops accepting at once, and what is left is named in "
            "the log."
        ),
    ] = False
    unsafe_fs: Annotated[
        bool, Meta(description="Open it on a network file system all the same; LMDB does not promise safety there.")
    ] = False


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Deliveries of all destinations together."""

    max_buffered: Annotated[
        str,
        Size("64KiB", "64GiB"),
        Meta(description="Bodies in memory on their way out; each destination may always hold one."),
    ] = "32MiB"


class DeadLetters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where deliveries end that were given up, one file each."""

    path: Annotated[str, FILE, Meta(description="Folder of the dead-letter files.")] = "data/dead-letters"
    max_size: Annotated[
        str,
        Size("1MiB", "16TiB"),
        Meta(description="When full, deliveries that died wait for room (alerted); nothing is dropped."),
    ] = "1GiB"


class Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The log, on stderr."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="Least level that is written.")] = (
        "info"
    )
    format: Annotated[Literal["json", "text", "auto"], Meta(description="auto: text on a terminal, else JSON.")] = (
        "auto"
    )


class Dedup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What makes two requests of a source the same event."""

    key: Annotated[
        str | None,
        DEDUP_KEY,
        Meta(
            description="header:NAME, json:/pointer, several of these with blanks between, body (its bytes; of a form "
            "what the signature covers) or none. Left out: the preset's, without a preset none."
        ),
    ] = None
    ttl: Annotated[
        str | None,
        Duration("1s", "3650d"),
        Meta(description="How long a key is remembered. Left out: the preset's, without a preset 24h."),
    ] = None
    missing: Annotated[
        Literal["accept", "body"],
        Meta(description="A request without the key: accept (not deduplicated, counted) or body (its bytes count)."),
    ] = "accept"
    redrive_dead: Annotated[
        bool, Meta(description="A repeat makes this event's dead deliveries pending again, at most once in 10 minutes.")
    ] = True


class Ack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an accepted webhook is answered."""

    status: Annotated[int, Between(200, 299, "C151"), Meta(description="Status of the answer.")] = 200
    body: Annotated[
        str | None,
        Meta(
            description="Body of the answer; {id} in it becomes the event's id. Left out: the preset's, else the JSON."
        ),
    ] = None
    content_type: Annotated[
        str | None,
        HEADER_VALUE,
        Meta(description="Left out: text/plain where body is set, else what goes with the body."),
    ] = None


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A path that webhooks arrive at, and how they are verified."""

    path: Annotated[str, SOURCE_PATH, Meta(description="Exact raw path; { and } are reserved.")]
    verify: Annotated[
        str | dict[str, Any],
        Meta(
            description="Name of a preset; a table with preset and options of its scheme that differ; or a table that "
            "spells a scheme out."
        ),
    ]
    destinations: Annotated[
        list[Annotated[str, NAME]], Meta(description="Names of the destinations that each get every event.")
    ]
    secrets: Annotated[
        list[SecretRef], Meta(description="References to secrets; any that is active now is accepted.")
    ] = []
    allow_unverified: Annotated[
        bool, Meta(description='Needed for scheme = "none": anybody who can reach the path can send.')
    ] = False
    methods: Annotated[
        list[Annotated[str, METHOD]] | None,
        Meta(description="Methods taken, besides those of a preset's handshake. Left out: the preset's, else POST."),
    ] = None
    max_body: Annotated[
        str | None,
        Size("1KiB", "256MiB"),
        Meta(description="Largest body taken. Left out: the preset's, else server.max_body."),
    ] = None
    public_url: Annotated[
        str | None, PublicUrl(), Meta(description="What senders of this source see. Left out: server.public_url.")
    ] = None
    content_type: Annotated[
        str | None, HEADER_VALUE, Meta(description="The only media type taken; else 415. Left out: any.")
    ] = None
    handshake: Annotated[
        str | None,
        Meta(
            description='How the provider tries the URL: a name in docs/providers.md, or "none". Left out: the preset\'s.'
        ),
    ] = None
    handshake_token: Annotated[
        SecretRef | None, Meta(description="What a handshake must bring to be answered (Meta's verify token).")
    ] = None
    handshake_allow: Annotated[
        list[str],
        Meta(description="What a handshake may be about: topics (WebSub), origins (CloudEvents)."),
    ] = []
    allow_empty: Annotated[bool, Meta(description="Take empty bodies; false answers 400 empty_body.")] = True
    dedup: Annotated[Dedup, Meta(description="What makes two requests the same event.")] = msgspec.field(
        default_factory=Dedup
    )
    ack: Annotated[
        Ack | None, Meta(description="The answer. Left out: the preset's, else 200 with the event's id.")
    ] = None


class Retry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a failed delivery is tried again: after base * factor^(n-1), n counting the failures."""

    max_attempts: Annotated[int, Between(1, 1000), Meta(description="The first try and its retries together.")] = 4
    on: Annotated[
        list[Annotated[str, RETRY_STATUS]],
        Meta(description="Statuses and classes worth another try; any other is a refusal for good."),
    ] = msgspec.field(default_factory=lambda: list(RETRY_ON))
    base: Annotated[str, Duration("10ms", "1h"), Meta(description="Wait after the first failure.")] = "1s"
    factor: Annotated[float, Between(1, 100), Meta(description="Growth of the wait with each further failure.")] = 2.0
    max_delay: Annotated[
        str, Duration("10ms", "168h"), Meta(description="No wait is longer, whatever the backend asks for.")
    ] = "1h"
    jitter: Annotated[float, Between(0, 1), Meta(description="Share of the wait, drawn evenly.")] = 0.1
    max_age: Annotated[
        str,
        Duration("1s", "3650d"),
        Meta(description="From acceptance or the last replay; given up after this, whatever the count."),
    ] = "72h"


class Destination(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A backend that gets deliveries."""

    url: Annotated[
        str,
        DestinationUrl(),
        Meta(description="http, https or unix:/socket:/path; {path} becomes the source's path."),
    ]
    timeout: Annotated[str, Duration("100ms", "300s"), Meta(description="Time for one attempt as a whole.")] = "10s"
    concurrency: Annotated[int, Between(1, 4096), Meta(description="Attempts at the same time.")] = 16
    signature: Annotated[
        Literal["fresh", "original"],
        Meta(description="fresh: a late delivery is signed anew so that the app's own check passes; original: never."),
    ] = "fresh"
    host: Annotated[str | None, HOST, Meta(description="Host header. Left out: the URL's.")] = None
    headers: Annotated[
        dict[Annotated[str, HEADER_NAME], Annotated[str | SecretRef, HEADER_VALUE]],
        Meta(description="Added to every delivery; a value is a text or a reference to a secret."),
    ] = {}
    ca_file: Annotated[
        str | None, FILE, Meta(description="PEM file of the authorities to trust. Left out: the system's.")
    ] = None
    hold_after: Annotated[
        int,
        Between(0, 1_000_000),
        Meta(
            description="So many failures in a row that speak about the backend, of different events: hold and probe. "
            "0: never."
        ),
    ] = 20
    retry: Annotated[Retry, Meta(description="When a failed delivery is tried again.")] = msgspec.field(
        default_factory=Retry
    )


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    server: Annotated[Server, Meta(description="The listener that receives webhooks.")] = msgspec.field(
        default_factory=Server
    )
    admin: Annotated[Admin, Meta(description="Metrics, probes, drain and API.")] = msgspec.field(default_factory=Admin)
    drain: Annotated[Drain, Meta(description="Between the wish to stop and the stop.")] = msgspec.field(
        default_factory=Drain
    )
    journal: Annotated[Journal, Meta(description="Where acknowledged events are kept.")] = msgspec.field(
        default_factory=Journal
    )
    delivery: Annotated[Delivery, Meta(description="Deliveries of all destinations together.")] = msgspec.field(
        default_factory=Delivery
    )
    dead_letters: Annotated[DeadLetters, Meta(description="Where deliveries end that were given up.")] = msgspec.field(
        default_factory=DeadLetters
    )
    log: Annotated[Log, Meta(description="The log.")] = msgspec.field(default_factory=Log)
    sources: Annotated[
        dict[Annotated[str, NAME], Source], Meta(description="Paths that webhooks arrive at, by name.")
    ] = {}
    destinations: Annotated[
        dict[Annotated[str, NAME], Destination], Meta(description="Backends that get deliveries, by name.")
    ] = {}
