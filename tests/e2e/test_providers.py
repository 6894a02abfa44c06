"""Every recorded case over the socket against a real daemon, whose clock stands at the moment of the case."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.describe import toml_value
from sidecar.inbound.verify import PRESETS
from tests.support.daemon import Daemon
from tests.support.senders import Raw, framed
from tests.support.sink import Sink

TESTS = Path(__file__).resolve().parents[1]
CASES = [json.loads(line) for line in (TESTS / "vectors" / "signatures.jsonl").read_text().splitlines()]


def source_of(case: dict[str, Any], number: int) -> tuple[str, str]:
    """One source for one case: its path as the sender calls it, behind a number of its own."""
    preset = PRESETS[case["provider"]]
    params = dict(case.get("params") or {})
    secrets = [{"value": s} for s in [case["secret"], *case.get("extra_secrets", [])]]
    if "key" in params:
        secrets[0]["id"] = params.pop("key")
    if "secondary_key" in params:
        secrets[0]["id"] = "primary"
        secrets.append({"id": "secondary", "value": params.pop("secondary_key")})
    verify: Any = {"preset": case["provider"], **params} if params or preset.required else case["provider"]
    for name in preset.required:
        verify.setdefault(name, "...")
    origin, _, rest = case["url"].partition("://")
    host, _, target = rest.partition("/")
    path = "/" + target.partition("?")[0]
    text = (
        f"\n[sources.case-{number}]\npath = {toml_value(path)}\nverify = {toml_value(verify)}\n"
        f'secrets = {toml_value(secrets)}\ndestinations = ["app"]\npublic_url = "{origin}://{host}"\n'
        f'methods = ["POST", "PUT", "GET"]\nhandshake = "none"\n[sources.case-{number}.dedup]\nkey = "none"\n'
    )
    return text, "/" + target


def grouped() -> list[list[tuple[int, dict[str, Any]]]]:
    """Cases that can share a daemon: no two sources have one path."""
    groups: list[dict[str, list[tuple[int, dict[str, Any]]]]] = []
    for number, case in enumerate(CASES):
        path = case["url"].partition("?")[0].partition("://")[2].partition("/")[2]
        for group in groups:
            if path not in group:
                group[path] = [(number, case)]
                break
        else:
            groups.append({path: [(number, case)]})
    return [[pair for pairs in group.values() for pair in pairs] for group in groups]


CLOCKED = [sys.executable, str(TESTS / "support" / "clocked_daemon.py")]


def test_every_case_turns_out_as_expected_over_the_socket(tmp_path: Path, sink: Sink) -> None:
    """399 cases, all 84 presets: 2xx or 401, through listener, configuration, verification and journal."""
    groups = grouped()
    wrong: list[str] = []
    moment = tmp_path / "moment"
    moment.write_text("1700000000")
    with Daemon(tmp_path, "", command=CLOCKED, env={"TEST_MOMENT_FILE": str(moment)}) as daemon:
        for group in groups:
            made = {number: source_of(case, number) for number, case in group}
            text = "".join(source for source, _ in made.values())
            daemon.write(text + f'\n[destinations.app]\nurl = "{sink.url}{{path}}"\n')
            status, told = daemon.admin("POST", "/-/reload")
            assert status == 200, told
            for number, case in group:
                fresh = tmp_path / "moment.new"
                fresh.write_text(str(case["now"] if case["now"] is not None else 1_700_000_000))
                fresh.rename(moment)
                body = base64.b64decode(case["body_base64"])
                headers = {k: v for k, v in case["headers"].items() if k.lower() not in {"host", "content-length"}}
                with Raw(daemon.port) as raw:
                    answer = raw.send(framed(made[number][1], body, headers, method=case["method"])).answer()
                if (200 <= answer.status < 300) != (case["expect"] == "accept") or answer.status in {
                    404,
                    405,
                    500,
                    503,
                }:
                    wrong.append(f"{case['id']}: {answer.status}")
    assert wrong == []
    assert {case["provider"] for case in CASES} == set(PRESETS)


@pytest.mark.parametrize(("preset", "code"), [("discord", 78), ("netlify", 78), ("stripe", 0)])
def test_without_the_extra_packages_the_check_says_what_to_install(tmp_path: Path, preset: str, code: int) -> None:
    """Only for sources that need them; a plain keyed hash does not."""
    for name in ("cryptography", "jwt"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ModuleNotFoundError('No module', name={name!r})\n")
    config = tmp_path / "config.toml"
    secret = "0" * 64
    config.write_text(
        f'[sources.x]\npath = "/x"\nverify = "{preset}"\nsecrets = [{{ value = "{secret}" }}]\ndestinations = ["app"]\n'
        '[destinations.app]\nurl = "http://127.0.0.1:9/"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "check", "--config", str(config)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{TESTS.parent}"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    if code:
        assert b"pip install 'webhook-sidecar[crypto]'" in done.stderr
        assert b"Traceback" not in done.stderr
