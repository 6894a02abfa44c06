"""From a checked configuration to the lanes' options: secrets read, durations in seconds, paths absolute."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping, Sequence
from typing import Literal

from sidecar.config.check import Checked, key_is_signed, max_body_of
from sidecar.config.files import Files
from sidecar.config.positions import Path
from sidecar.config.problems import Problems
from sidecar.config.schema import Ack, Destination, SecretRef, Source
from sidecar.config.secrets import read_secret
from sidecar.config.settings import AdminSettings, DrainSettings, ServerSettings, Settings, TlsFiles
from sidecar.config.units import parse_duration, parse_size
from sidecar.config.verification import Verification
from sidecar.inbound.application import ServerOptions
from sidecar.inbound.dedup import DedupOptions
from sidecar.inbound.source import SourceOptions
from sidecar.inbound.verify import HANDSHAKES, Secret
from sidecar.journal.types import JournalOptions
from sidecar.log import LogOptions
from sidecar.model import ACK_DEFAULT, AckTemplate
from sidecar.outbound.deadletter import DeadLetterOptions
from sidecar.outbound.deliver import HttpOptions
from sidecar.outbound.deliver.headers import check_header
from sidecar.outbound.dispatch import DestinationOptions
from sidecar.outbound.retry import RetryPolicy, expand_statuses

__all__ = ["build"]

_DAY_S = 86400.0


def build(
    checked: Checked,
    path: str,
    env: Mapping[str, str] | None,
    files: Files,
    problems: Problems,
    origins: dict[str, str],
) -> Settings | None:
    """Read what the configuration refers to and make the options.

    Args:
        checked: The configuration; its problems are in ``problems``.
        path: Absolute path of the file.
        env: The environment; None to look at nothing outside the configuration.
        files: Reads and remembers files.
        problems: Gets secrets and files that cannot be read.
        origins: For keys set by the environment, the variable's name.

    Returns:
        None when there is any problem.
    """
    config = checked.config
    token = None
    if config.admin.token is not None and env is not None:
        token = _secret(config.admin.token, ("admin", "token"), env, files, problems)
    if env is not None and config.server.tls is not None and not problems.touches("server", "tls"):
        _read_files(
            ("server", "tls"), [("cert", config.server.tls.cert), ("key", config.server.tls.key)], files, problems
        )
    secrets = {
        name: _source_secrets(name, source, checked.verifications.get(name), env, files, problems)
        for name, source in config.sources.items()
    }
    tokens = {
        name: _secret(source.handshake_token, ("sources", name, "handshake_token"), env, files, problems)
        if source.handshake_token is not None and env is not None
        else None
        for name, source in config.sources.items()
    }
    headers = {
        name: _headers(name, destination, env, files, problems) for name, destination in config.destinations.items()
    }
    for name, destination in config.destinations.items():
        if env is not None and destination.ca_file is not None:
            _read_files(("destinations", name), [("ca_file", destination.ca_file)], files, problems)
    if problems.found:
        return None
    server = config.server
    public_urls = {server.public_url, *(s.public_url for s in config.sources.values())} - {None}
    return Settings(
        path=path,
        server=ServerSettings(
            options=ServerOptions(
                max_connections=server.max_connections,
                max_buffered_bytes=_bytes(server.max_buffered),
                header_timeout_s=_seconds(server.header_timeout),
                body_timeout_s=_seconds(server.body_timeout),
                keepalive_timeout_s=_seconds(server.keepalive_timeout),
                authorities=frozenset(str(url).split("/")[2].lower().encode() for url in public_urls),
            ),
            listen=server.listen,
            tls=None
            if server.tls is None
            else TlsFiles(files.absolute(server.tls.cert), files.absolute(server.tls.key)),
            trusted_proxies=tuple(ipaddress.ip_network(network) for network in server.trusted_proxies),
        ),
        admin=AdminSettings(listen=config.admin.listen, socket=files.absolute(config.admin.socket), token=token),
        drain=DrainSettings(
            accept_for_s=_seconds(config.drain.accept_for),
            lease_s=_seconds(config.drain.lease),
        ),
        journal=JournalOptions(
            path=files.absolute(config.journal.path),
            max_size_bytes=_bytes(config.journal.max_size),
            retention_s=_seconds(config.journal.retention),
            ephemeral=config.journal.ephemeral,
            unsafe_fs=config.journal.unsafe_fs,
        ),
        max_buffered_bytes=_bytes(config.delivery.max_buffered),
        dead_letters=DeadLetterOptions(
            path=files.absolute(config.dead_letters.path), max_size_bytes=_bytes(config.dead_letters.max_size)
        ),
        log=LogOptions(level=config.log.level, format=config.log.format),
        sources=tuple(
            _source(name, source, checked, secrets[name], tokens[name]) for name, source in config.sources.items()
        ),
        destinations=tuple(
            _destination(name, destination, headers[name], files) for name, destination in config.destinations.items()
        ),
        warnings=(*checked.warnings, *_file_warnings(files)),
        watched=tuple(files.watched.values()),
        config=config,
        origins=origins,
    )


def _seconds(text: str) -> float:
    return parse_duration(text) or 0.0


def _bytes(text: str) -> int:
    return parse_size(text) or 0


def _secret(reference: SecretRef, path: Path, env: Mapping[str, str], files: Files, problems: Problems) -> bytes | None:
    return None if problems.touches(*path) else read_secret(reference, path, env, files, problems)


def _source_secrets(
    name: str,
    source: Source,
    verification: Verification | None,
    env: Mapping[str, str] | None,
    files: Files,
    problems: Problems,
) -> tuple[Secret, ...]:
    if env is None:
        return ()
    found = []
    for n, reference in enumerate(source.secrets):
        path: Path = ("sources", name, "secrets", n)
        value = _secret(reference, path, env, files, problems)
        if value is None:
            continue
        wrong = verification.verifier.secret_problem(value) if verification is not None else ""
        if wrong:
            problems.add("C145", path, f"the secret {wrong}")
        before, after = reference.not_before, reference.not_after
        found.append(
            Secret(
                id=reference.id if reference.id is not None else str(n + 1),
                value=value,
                not_before_ms=round(before.timestamp() * 1000) if before is not None else None,
                not_after_ms=round(after.timestamp() * 1000) if after is not None else None,
            )
        )
    return tuple(found)


def _headers(
    name: str, destination: Destination, env: Mapping[str, str] | None, files: Files, problems: Problems
) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    for header, given in destination.headers.items():
        path: Path = ("destinations", name, "headers", header)
        if isinstance(given, str):
            value: bytes | None = given.encode()
        else:
            value = _secret(given, path, env, files, problems) if env is not None else None
        if value is None or problems.touches(*path):
            continue
        try:
            check_header(header.encode(), value)
        except ValueError as error:
            problems.add("C127", path, str(error))
        found.append((header.encode(), value))
    return tuple(found)


def _source(
    name: str, source: Source, checked: Checked, secrets: tuple[Secret, ...], token: bytes | None
) -> SourceOptions:
    verification = checked.verifications[name]
    preset = verification.preset
    key = source.dedup.key if source.dedup.key is not None else preset.dedup_key if preset is not None else "none"
    own_key = source.dedup.key is not None or preset is None
    ttl_s = preset.dedup_ttl_s if preset is not None else _DAY_S
    methods: Sequence[str] = preset.methods if preset is not None else ("POST",)
    shake = source.handshake if source.handshake is not None else preset.handshake if preset is not None else None
    public_url = source.public_url if source.public_url is not None else checked.config.server.public_url
    return SourceOptions(
        name=name,
        path=source.path.encode(),
        methods=frozenset(method.encode() for method in (source.methods or methods)),
        max_body=max_body_of(source, preset, checked.config),
        verifier=verification.verifier,
        secrets=secrets,
        destinations=tuple(source.destinations),
        dedup=DedupOptions(
            key=key,
            ttl_s=_seconds(source.dedup.ttl) if source.dedup.ttl is not None else ttl_s,
            missing=source.dedup.missing,
            redrive_dead=source.dedup.redrive_dead,
            key_signed=key_is_signed(verification.options, key)
            if own_key
            else preset is not None and preset.key_signed,
        ),
        ack=_ack(source.ack, preset.ack if preset is not None else None),
        handshake=HANDSHAKES.get(shake) if shake is not None else None,
        handshake_token=token or b"",
        handshake_allow=frozenset(source.handshake_allow),
        public_url=public_url.encode() if public_url is not None else None,
        content_type=source.content_type.encode() if source.content_type is not None else None,
        allow_empty=source.allow_empty,
        preset=preset.name if preset is not None else "",
    )


def _ack(own: Ack | None, of_preset: AckTemplate | None) -> AckTemplate:
    template = of_preset if of_preset is not None else ACK_DEFAULT
    if own is None:
        return template
    if own.status in (204, 205):  # RFC 9110, 15.3.5 and 15.3.6: no content
        return AckTemplate(own.status, "", b"")
    if own.body is None:
        content_type = own.content_type if own.content_type is not None else template.content_type
        return AckTemplate(own.status, content_type, template.body, template.with_id)
    content_type = own.content_type if own.content_type is not None else "text/plain"
    return AckTemplate(own.status, content_type, own.body.encode("utf-8", "surrogateescape"), "{id}" in own.body)


def _destination(
    name: str, destination: Destination, headers: tuple[tuple[bytes, bytes], ...], files: Files
) -> DestinationOptions:
    retry = destination.retry
    signature: Literal["fresh", "original"] = destination.signature
    return DestinationOptions(
        name=name,
        kind="http",
        http=HttpOptions(
            url=destination.url,
            timeout_s=_seconds(destination.timeout),
            concurrency=destination.concurrency,
            host=destination.host,
            headers=headers,
            ca_file=files.absolute(destination.ca_file) if destination.ca_file is not None else None,
        ),
        retry=RetryPolicy(
            max_attempts=retry.max_attempts,
            on=expand_statuses(retry.on),
            base_s=_seconds(retry.base),
            factor=retry.factor,
            max_delay_s=_seconds(retry.max_delay),
            jitter=retry.jitter,
            max_age_s=_seconds(retry.max_age),
        ),
        hold_after=destination.hold_after,
        signature=signature,
    )


def _read_files(path: Path, named: list[tuple[str, str]], files: Files, problems: Problems) -> None:
    """Read certificates and keys, so that a reload with bad ones changes nothing."""
    for key, name in named:
        try:
            files.read(name)
        except OSError as error:
            why = (error.strerror or "unreadable").lower()
            problems.add("C180", (*path, key), f"{files.absolute(name)}: {why}")
            return
    try:
        if len(named) == 2:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            cert, private_key = (files.absolute(name) for _, name in named)
            context.load_cert_chain(cert, private_key, password=_no_password)
        else:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(files.absolute(named[0][1]))
    except (OSError, ValueError):
        what = (
            "a certificate and its private key, both PEM, without password" if len(named) == 2 else "PEM certificates"
        )
        problems.add("C180", path if len(named) == 2 else (*path, named[0][0]), f"expected {what}")


def _no_password() -> str:
    return ""  # OpenSSL would otherwise ask on the terminal


def _file_warnings(files: Files) -> list[str]:
    if not files.readable_by_all:
        return []
    names = ", ".join(sorted(files.readable_by_all))
    return [f"readable by everybody on this machine: {names}; expected mode 0440 (Kubernetes: defaultMode: 0440)"]
