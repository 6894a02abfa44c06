"""``verify``: why a source refuses a recorded request, and signature cases against the presets."""

from __future__ import annotations

import datetime as dt
import os
from typing import Any

import click

from sidecar.cli.options import config_option, json_option
from sidecar.cli.output import emit, say
from sidecar.errors import NotFoundError, SidecarError, UsageError

__all__ = ["verify"]


@click.command("verify")
@click.option(
    "--vectors", "path", metavar="FILE.jsonl", type=click.Path(exists=True, dir_okay=False),
    help="Signature cases, one a line.",
)  # fmt: skip
@click.option("--source", metavar="SOURCE", help="Name of a configured source.")
@click.option(
    "--request", "recorded", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="A raw HTTP request, or an entry of a HAR file; - reads stdin.",
)  # fmt: skip
@click.option("--at", metavar="TIME", help="When it was received, e.g. 2026-11-20T08:00:00Z. [default: now]")
@json_option
@config_option
def verify(
    config_path: str | None,
    *,
    path: str | None,
    source: str | None,
    recorded: str | None,
    at: str | None,
    as_json: bool,
) -> None:
    """Explain why a source refuses a request (--source, --request), or run signature cases (--vectors).

    Exit 1 when the request is refused, or when a case does not turn out as expected.
    """
    if path is not None and source is None and recorded is None:
        _run_cases(path, as_json=as_json)
    elif source is not None and recorded is not None and path is None:
        _explain(config_path, source, recorded, _moment_ms(at), as_json=as_json)
    else:
        raise click.UsageError("expected --vectors FILE, or --source SOURCE with --request FILE.")


def _run_cases(path: str, *, as_json: bool) -> None:
    from sidecar.inbound.verify.vectors import parse_case, run_case  # noqa: PLC0415 - not needed by --help

    total, good = 0, 0
    with open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            if not line.strip():
                continue
            try:
                case = parse_case(line)
            except ValueError as e:
                raise UsageError(f"{path}:{number}: {e}") from None
            total += 1
            outcome = run_case(case)
            if outcome is True:
                good += 1
            elif as_json:
                emit({"line": number, "id": case.id, "provider": case.provider, "outcome": outcome})
            else:
                say(f"{path}:{number}: {case.id}: {outcome}")
    if as_json:
        emit({"cases": total, "as_expected": good})
    else:
        say(f"{total:,} cases, {good:,} as expected")
    if good != total:
        raise SidecarError(f"{total - good:,} cases did not turn out as expected")


def _moment_ms(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise click.UsageError(f'--at: got "{text}"; expected a time with offset, e.g. 2026-11-20T08:00:00Z')
    return round(when.timestamp() * 1000)


def _explain(config_path: str | None, name: str, recorded: str, at_ms: int | None, *, as_json: bool) -> None:
    from sidecar.cli.recorded import read_recorded  # noqa: PLC0415 - not needed by --help
    from sidecar.clock import Clock  # noqa: PLC0415
    from sidecar.config.load import load_settings  # noqa: PLC0415
    from sidecar.inbound.forwarded import Forwarded  # noqa: PLC0415
    from sidecar.inbound.handshake_book import HandshakeBook  # noqa: PLC0415
    from sidecar.inbound.source import Source  # noqa: PLC0415
    from sidecar.inbound.verify import Accepted, Request  # noqa: PLC0415
    from sidecar.inbound.verify.explain import ADVICE, outline, suspect  # noqa: PLC0415
    from sidecar.model import RejectReason  # noqa: PLC0415

    settings = load_settings(config_path, env=os.environ)
    found = {s.name: s for s in settings.sources}
    if name not in found:
        raise NotFoundError(f'no source "{name}"', f"there are: {', '.join(sorted(found))}")
    with click.open_file(recorded, "rb") as f:
        seen = read_recorded(f.read())
    source, verifier = Source(found[name]), found[name].verifier
    source.secrets += HandshakeBook(settings.journal.path, Clock()).secrets(name)
    host = seen.headers.get(b"host", b"localhost")
    url = source.url(Forwarded(b"", b"https", host), seen.path, seen.query)
    request = Request(seen.method, seen.path, seen.query, seen.headers, seen.body, url)
    now_ms = Clock().wall_ms() if at_ms is None else at_ms
    verdict = verifier.verify(request, source.secrets, now_ms)
    lines = outline(verifier, request, source.secrets, now_ms)
    result: dict[str, Any] = {"source": name, "accepted": isinstance(verdict, Accepted), "outline": lines}
    if isinstance(verdict, Accepted):
        result |= {"secret": verdict.key_id, "reason": None, "detail": None, "advice": None}
    else:
        if verdict.reason is RejectReason.WRONG_SECRET:
            verdict = suspect(verifier, request, source.secrets, now_ms) or verdict
        advice = ADVICE[verdict.reason]
        result |= {"secret": None, "reason": str(verdict.reason), "detail": verdict.detail, "advice": advice}
    if as_json:
        emit(result)
    else:
        _show(result, url)
    if not result["accepted"]:
        raise SidecarError(f"source {name} refuses this request: {result['reason']}")


def _show(result: dict[str, Any], url: bytes | None) -> None:
    if result["accepted"]:
        say(f"accepted by secret {result['secret'] or '(none: nothing is verified)'}")
    else:
        say(f"refused: {result['reason']}" + (f" ({result['detail']})" if result["detail"] else ""))
        say(f"what to do: {result['advice']}")
    if url is not None:
        say(f"url: {url.decode('latin-1')}")
    for line in result["outline"]:
        say(line)
