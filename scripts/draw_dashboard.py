"""Draws the dashboard as an SVG from a real run.

The daemon takes traffic with an outage in it, a real Prometheus watches, and the picture is made of what the very queries
of the panels return. Takes three minutes::

    .venv/bin/python scripts/draw_dashboard.py docs/deploy/dashboard.svg
"""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.daemon import Daemon, free_port  # noqa: E402 - found by the line above
from tests.support.kubelet import Provider  # noqa: E402
from tests.support.promtool import Prometheus  # noqa: E402
from tests.support.sink import Sink  # noqa: E402

SECONDS, STEP_S = 150, 2
COLUMN, ROW_HEIGHT, GAP = 50, 22, 6
COLOURS = ("#3274d9", "#e0752d", "#56a64b", "#8f3bb8", "#e02f44", "#b3950c", "#1f9e9e", "#7a5c3e")
SHADES = {"green": "#37872d", "orange": "#e0752d", "red": "#c4162a"}
SECRET = "picture"
CONFIG = """
[sources.stripe-like]
path = "/github"
verify = "github"
secrets = [{{ value = "{secret}" }}]
destinations = ["app", "mail", "audit-log"]
[destinations.app]
url = "http://127.0.0.1:{app}/in"
[destinations.mail]
url = "{mail}/in"
[destinations.mail.retry]
base = "500ms"
[destinations.audit-log]
url = "{log}/in"
"""

Points = list[tuple[float, float]]
Series = list[tuple[str, Points]]


def run() -> tuple[dict[str, Any], dict[tuple[int, str], Series]]:
    """Make the history and ask for it: (number of the panel, query) -> series."""
    dashboard: dict[str, Any] = json.loads((ROOT / "deploy/grafana/webhook-sidecar.json").read_text())
    calls = itertools.count(1)
    app = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        Sink(lambda _: _moody(next(calls))) as mail,
        Sink(delay_s=0.02) as log,
        Daemon(Path(folder), CONFIG.format(secret=SECRET, app=app, mail=mail.url, log=log.url)) as daemon,
        Prometheus([f"127.0.0.1:{daemon.admin_port}"]) as prometheus,
    ):
        began_s = time.time()
        done = threading.Event()
        backend = threading.Thread(target=_come_and_go, args=(app, done))
        backend.start()
        with Provider(lambda: daemon.port, SECRET, senders=3, pause_s=0.05):
            while time.time() < began_s + SECONDS:
                daemon.post("/github", b"{}")  # a scanner
                time.sleep(1.5)
        series = {
            (p["id"], t["refId"]): _ask(prometheus, t, began_s)
            for p in dashboard["panels"]
            for t in p.get("targets", [])
        }
        done.set()
        backend.join()
        return dashboard, series


def _moody(call: int) -> int:
    """A backend that fails now and then, and sometimes refuses for good."""
    return 400 if call % 1000 == 0 else 500 if call % 9 == 0 else 200


def _come_and_go(port: int, done: threading.Event) -> None:
    """The app: there, gone for 40 seconds, there again."""
    with Sink(port=port):
        done.wait(50)
    done.wait(40)
    with Sink(port=port):
        done.wait()


def _ask(prometheus: Prometheus, target: dict[str, Any], began_s: float) -> Series:
    expr = re.sub(r"\$(namespace|job|pod|source|destination)\b", ".*", target["expr"]).replace(
        "$__rate_interval", "10s"
    )
    data = prometheus.ask(
        "query_range", query=expr, start=str(began_s + 6), end=str(began_s + SECONDS), step=str(STEP_S)
    )
    made: Series = []
    for row in data["result"]:
        legend = target["legendFormat"]
        name = re.sub(r"\{\{(\w+)\}\}", lambda m, r=row: r["metric"].get(m[1], ""), legend).strip()
        points = [(float(t) - began_s, float(v)) for t, v in row["values"]]
        made.append((name, [p for p in points if math.isfinite(p[1])]))
    return made


def shown(value: float, unit: str) -> str:
    """A number as Grafana would write it."""
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    if unit == "bytes":
        for name in ("B", "KiB", "MiB", "GiB"):
            if value < 1024 or name == "GiB":
                return f"{value:.3g} {name}"
            value /= 1024
    return f"{value:.3g} req/s" if unit == "reqps" else f"{value:.3g}"


def draw(dashboard: dict[str, Any], series: dict[tuple[int, str], Series]) -> str:
    """The whole picture."""
    height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in dashboard["panels"]) * ROW_HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * COLUMN} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{24 * COLUMN}" height="{height}" fill="#f4f5f5"/>',
    ]
    for panel in dashboard["panels"]:
        g = panel["gridPos"]
        x, y, w, h = g["x"] * COLUMN, g["y"] * ROW_HEIGHT, g["w"] * COLUMN - GAP, g["h"] * ROW_HEIGHT - GAP
        if panel["type"] == "row":
            parts.append(
                f'<text x="{x + 4}" y="{y + 15}" font-size="13" font-weight="bold">{escape(panel["title"])}</text>'
            )
            continue
        rows = [s for t in panel["targets"] for s in series[panel["id"], t["refId"]]]
        parts += _panel(panel, rows, x, y, w, h)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: dict[str, Any], rows: Series, x: int, y: int, w: int, h: int) -> Iterator[str]:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    title = escape(panel["title"])
    if panel["type"] == "stat":
        value = rows[0][1][-1][1] if rows and rows[0][1] else 0.0
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        colour = next(s["color"] for s in reversed(steps) if s["value"] is None or value >= s["value"])
        yield f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="2" fill="{SHADES[colour]}"/>'
        yield f'<text x="{x + 8}" y="{y + 16}" fill="#fff">{title}</text>'
        yield f'<text x="{x + w / 2:.0f}" y="{y + 58}" fill="#fff" font-size="26" text-anchor="middle">{shown(value, unit)}</text>'
        return
    yield f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="2" fill="#fff" stroke="#ddd"/>'
    yield f'<text x="{x + 8}" y="{y + 16}" font-weight="bold">{title}</text>'
    left, top, right, bottom = x + 58, y + 26, x + w - 8, y + h - 34
    if panel["type"] == "heatmap":
        yield from _heatmap(rows, left, top, right, bottom)
        return
    most = max((v for _, points in rows for _, v in points), default=0.0) or 1.0
    for share in (0.0, 0.5, 1.0):
        at = bottom - share * (bottom - top)
        yield f'<path d="M{left} {at:.0f}H{right}" stroke="#eee"/>'
        yield f'<text x="{left - 4}" y="{at + 4:.0f}" text-anchor="end" fill="#666" font-size="9">{shown(share * most, unit)}</text>'
    legend = []
    for n, (name, points) in enumerate(rows):
        colour = COLOURS[n % len(COLOURS)]
        path = "L".join(f"{_across(t, left, right)} {bottom - v / most * (bottom - top):.1f}" for t, v in points)
        if path:
            yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>'
        legend.append(f'<tspan fill="{colour}">&#9632; </tspan>{escape(name)}  ')
    yield f'<text x="{x + 8}" y="{y + h - 10}" font-size="9" fill="#444">{"".join(legend[: max(2, w // 110)])}</text>'


def _heatmap(rows: Series, left: int, top: int, right: int, bottom: int) -> Iterator[str]:
    """Cumulative buckets, one row each; darker is more."""
    bounds = sorted(((float(name), dict(points)) for name, points in rows), key=lambda r: r[0])
    below: dict[float, float] = {}
    cells = []
    for n, (bound, points) in enumerate(bounds):
        cells += [(n, t, v - below.get(t, 0.0)) for t, v in points.items()]
        below = points
        at = bottom - n * (bottom - top) / len(bounds)
        name = "more" if math.isinf(bound) else shown(bound, "s")
        if n % 3 == 0:
            yield f'<text x="{left - 4}" y="{at:.0f}" text-anchor="end" fill="#666" font-size="9">{name}</text>'
    most = max((v for _, _, v in cells), default=1.0) or 1.0
    height, width = (bottom - top) / len(bounds), (right - left) * STEP_S / SECONDS
    for n, t, v in cells:
        if v > 0.01 * most:
            at = bottom - (n + 1) * height
            shade = min(1.0, 0.15 + v / most)
            yield (
                f'<rect x="{_across(t, left, right)}" y="{at:.1f}" width="{width:.1f}" height="{height:.1f}" '
                f'fill="#8f3bb8" fill-opacity="{shade:.2f}"/>'
            )


def _across(t: float, left: int, right: int) -> str:
    return f"{left + t / SECONDS * (right - left):.0f}"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(*run()), encoding="utf-8")
