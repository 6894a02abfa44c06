"""Prometheus' own tools, as far as they are here: rule tests, and a real server that scrapes what it is told to."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.daemon import REPOSITORY, free_port

__all__ = ["FOLDER", "MISSING", "RULE_FILES", "Prometheus", "check_metrics", "check_rules", "rule_test"]

FOLDER = REPOSITORY / "deploy" / "prometheus"
RULE_FILES = (FOLDER / "rules.yaml", FOLDER / "alerts.yaml")
MISSING = "" if shutil.which("promtool") and shutil.which("prometheus") else "needs Debian's package prometheus"

Outcome = subprocess.CompletedProcess[str]


def _run(*arguments: str, text: str = "") -> Outcome:
    return subprocess.run(
        ["promtool", *arguments], input=text, capture_output=True, text=True, timeout=120, check=False
    )


def check_rules(*files: Path) -> Outcome:
    """``promtool check rules``."""
    return _run("check", "rules", *map(str, files))


def check_metrics(text: str) -> Outcome:
    """``promtool check metrics``: naming, help texts, types."""
    return _run("check", "metrics", text=text)


def rule_test(
    folder: Path,
    series: Mapping[str, str],
    expectations: Mapping[str, float | None],
    *,
    at: str,
    rules: Sequence[Path] = RULE_FILES,
) -> Outcome:
    """``promtool test rules`` with one set of series, a value every 30 s.

    Args:
        folder: Where the test's file is written.
        series: Series -> values in promtool's notation.
        expectations: Expression -> its only value (labels dropped by the caller); None where it has none.
        at: When the expressions are evaluated, as ``30m``.
        rules: The rule files.
    """
    case = {
        "rule_files": [str(f) for f in rules],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "30s",
                "input_series": [{"series": s, "values": v} for s, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": at,
                        "exp_samples": [] if value is None else [{"labels": "{}", "value": value}],
                    }
                    for expression, value in expectations.items()
                ],
            }
        ],
    }
    file = folder / "case.yaml"
    file.write_text(yaml.safe_dump(case))
    return _run("test", "rules", str(file))


class Prometheus:
    """A real server on a loopback port, with the rules of this repository evaluated every second.

    Args:
        targets: Addresses to scrape, ``host:port``.
        rules: The rule files; their intervals are made short.
        config: Instead of a configuration of our own: its text, the port of the target filled in already.
    """

    def __init__(self, targets: Sequence[str], rules: Sequence[Path] = RULE_FILES, config: str = "") -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="prometheus-"))
        names = []
        for file in rules:
            fast = self._folder / file.name
            fast.write_text(file.read_text().replace("interval: 30s", "interval: 1s"))
            names.append(str(fast))
        ours = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": names,
            "scrape_configs": [{"job_name": "webhook-sidecar", "static_configs": [{"targets": list(targets)}]}],
        }
        (self._folder / "prometheus.yml").write_text(config or yaml.safe_dump(ours))
        self._log = (self._folder / "log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self._folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + 60
        while not self._is_ready():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder)

    def log(self) -> str:
        """What it has written."""
        return (self._folder / "log").read_text(errors="replace")[-4000:]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """One call of its API; the data of the answer."""
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{path}{query}", timeout=30) as answer:
            body = json.load(answer)
        assert body["status"] == "success", body
        return body["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression has now."""
        result: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return result
