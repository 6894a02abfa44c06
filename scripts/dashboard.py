"""Makes the Grafana dashboard: the questions of an operator from top to bottom, as panels.

Grafana's JSON is mostly repetition; what is particular to us is the tables below. ``scripts/generate.py`` writes it.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

__all__ = ["dashboard", "dashboard_json"]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
SEL = 'namespace=~"$namespace",job=~"$job",pod=~"$pod"'
SRC = SEL + ',source=~"$source"'
DST = SEL + ',destination=~"$destination"'
W = "webhook_sidecar_"
RATE = "[$__rate_interval]"


class Query(NamedTuple):
    """One line of a panel."""

    expr: str
    legend: str = ""


class Panel(NamedTuple):
    """One panel. ``kind``: stat, timeseries, heatmap; ``width`` of 24."""

    kind: str
    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 12
    options: dict[str, Any] = {}  # noqa: RUF012 - a tuple's default is never changed


def stat(title: str, description: str, unit: str, expr: str, *steps: tuple[float, str]) -> Panel:
    """One big number; ``steps``: from this value on that colour."""
    thresholds = [{"color": "green", "value": None}, *({"color": c, "value": v} for v, c in steps)]
    return Panel("stat", title, description, unit, (Query(expr),), 4, {"thresholds": thresholds})


def quantile(q: str, metric: str, labels: str, selector: str) -> str:
    """A quantile of a histogram, for each value of the labels."""
    by = ", ".join(x for x in (labels, "le") if x)
    return f"histogram_quantile({q}, sum by ({by}) (rate({W}{metric}_bucket{{{selector}}}{RATE})))"


ROWS: dict[str, list[Panel]] = {
    "Are we accepting, delivering, and how far behind?": [
        stat("Accepted", "Webhooks acknowledged: they are on disk.", "reqps",
             f'sum(rate({W}received_total{{{SRC},outcome="accepted"}}{RATE}))'),
        stat("Refused by us", "Answers 503: full, failing, overloaded or stopping. Should be nothing.", "reqps",
             f'sum(rate({W}received_total{{{SEL},outcome=~"storage_full|storage_error|overloaded|shutting_down"}}{RATE}))',
             (0.001, "red")),
        stat("Delivered", "Deliveries that a backend has taken.", "reqps",
             f'sum(rate({W}settled_total{{{DST},outcome="delivered"}}{RATE}))'),
        stat("Oldest owed", "Age of the oldest delivery that any destination is owed.", "s",
             f"max({W}oldest_pending_age_seconds{{{DST}}})", (300, "orange"), (900, "red")),
        stat("Dead letters", "Files that wait for a person.", "short",
             f"sum({W}dead_letters{{{DST}}})", (1, "orange"), (100, "red")),
        stat("Held", "Destinations that are down and probed.", "short",
             f"sum({W}destination_held{{{DST}}})", (1, "red")),
    ],
    "Receiving": [
        Panel("timeseries", "Webhooks by outcome", "What became of every request. 'accepted' and 'duplicate' are good; "
              "'unauthorized' without a signature is the internet's noise.", "reqps",
              (Query(f"sum by (outcome) (rate({W}received_total{{{SRC}}}{RATE})) > 0", "{{outcome}}"),)),
        Panel("timeseries", "Accepted by source", "Where the traffic comes from.", "reqps",
              (Query(f'sum by (source) (rate({W}received_total{{{SRC},outcome="accepted"}}{RATE}))', "{{source}}"),)),
        Panel("timeseries", "Time to answer", "From the complete request to the answer; the flush to disk is in it.", "s",
              (Query(quantile("0.5", "request_duration_seconds", "", SRC), "median"),
               Query(quantile("0.99", "request_duration_seconds", "", SRC), "99 %")), 8),
        Panel("timeseries", "Why signatures fail", "The true reason, which the sender is never told.", "reqps",
              (Query(f"sum by (source, reason) (rate({W}verification_failures_total{{{SRC}}}{RATE})) > 0",
                     "{{source}} {{reason}}"),), 8),
        Panel("timeseries", "Connections", "Open ones, and those closed at the cap.", "short",
              (Query(f"sum({W}connections{{{SEL}}})", "open"),
               Query(f"sum(increase({W}connections_shed_total{{{SEL}}}{RATE}))", "closed at the cap")), 8),
    ],
    "How far behind?": [
        Panel("timeseries", "Owed and kept", "Enqueued against delivered. Where the lines part, something waits or dies.",
              "reqps",
              (Query(f"sum by (destination) (rate({W}enqueued_total{{{DST}}}{RATE}))", "{{destination}} enqueued"),
               Query(f'sum by (destination) (rate({W}settled_total{{{DST},outcome="delivered"}}{RATE}))',
                     "{{destination}} delivered"))),
        Panel("timeseries", "Pending", "Deliveries owed, by what they wait for.", "short",
              (Query(f"sum by (destination, state) ({W}pending_events{{{DST}}})", "{{destination}} {{state}}"),)),
        Panel("timeseries", "Oldest owed", "Age of the oldest delivery owed.", "s",
              (Query(f"max by (destination) ({W}oldest_pending_age_seconds{{{DST}}})", "{{destination}}"),)),
        Panel("heatmap", "Accepted to delivered", "How long deliveries took from acknowledgement to the backend's 2xx.",
              "s", (Query(f"sum by (le) (increase({W}delivery_latency_seconds_bucket{{{DST}}}{RATE}))", "{{le}}"),)),
    ],
    "Delivering": [
        Panel("timeseries", "Tries by outcome", "What the backends said.", "reqps",
              (Query(f"sum by (destination, outcome) (rate({W}delivery_attempts_total{{{DST}}}{RATE})) > 0",
                     "{{destination}} {{outcome}}"),), 8),
        Panel("timeseries", "Time of one try", "99 of 100 are quicker.", "s",
              (Query(quantile("0.99", "delivery_attempt_duration_seconds", "destination", DST), "{{destination}}"),), 8),
        Panel("timeseries", "Held", "1 while a destination is down and probed.", "short",
              (Query(f"max by (destination) ({W}destination_held{{{DST}}})", "{{destination}}"),), 8),
        Panel("timeseries", "Error budget burn",
              "Share of what was owed and not delivered, against the 0.1 % that the objective allows: 1 burns it exactly.",
              "short",
              (Query('destination:webhook_sidecar_delivery_errors:ratio1h{namespace=~"$namespace",job=~"$job",'
                     'destination=~"$destination"} / 0.001', "{{destination}} 1h"),
               Query('destination:webhook_sidecar_delivery_errors:ratio6h{namespace=~"$namespace",job=~"$job",'
                     'destination=~"$destination"} / 0.001', "{{destination}} 6h"))),
        Panel("timeseries", "Signed afresh", "Late deliveries that got a new timestamp and signature.", "reqps",
              (Query(f"sum by (source) (rate({W}resigned_total{{{SRC}}}{RATE}))", "{{source}}"),)),
    ],
    "What is failing?": [
        Panel("timeseries", "Given up", "Deliveries that became dead letters, by reason.", "short",
              (Query(f"sum by (destination, reason) (increase({W}dead_lettered_total{{{DST}}}{RATE}))",
                     "{{destination}} {{reason}}"),), 8),
        Panel("timeseries", "Dead letters", "Files that wait for a person, and those that found no room.", "short",
              (Query(f"sum by (destination) ({W}dead_letters{{{DST}}})", "{{destination}}"),
               Query(f"sum by (destination) ({W}dead_letters_waiting{{{DST}}})", "{{destination}} without room")), 8),
        Panel("timeseries", "Oldest dead letter", "How long the oldest has waited.", "s",
              (Query(f"max by (destination) ({W}oldest_dead_letter_age_seconds{{{DST}}})", "{{destination}}"),), 8),
    ],
    "When does the disk fill?": [
        Panel("timeseries", "Journal", "Used, the limit where webhooks are refused, and where it will be in four hours.",
              "bytes",
              (Query(f"{W}journal_used_bytes{{{SEL}}}", "{{pod}} used"),
               Query(f"0.9 * {W}journal_capacity_bytes{{{SEL}}}", "{{pod}} limit"),
               Query(f"clamp_min(predict_linear({W}journal_used_bytes{{{SEL}}}[1h], 4 * 3600), 0)", "{{pod}} in 4 h"))),
        Panel("timeseries", "Disk free", "On the journal's volume.", "bytes",
              (Query(f"{W}journal_disk_free_bytes{{{SEL}}}", "{{pod}} free"),
               Query(f"sum by (pod) ({W}dead_letters_bytes{{{SEL}}})", "{{pod}} dead letters"))),
        Panel("timeseries", "Time of a commit", "One commit, flush included: every ack waits for one.", "s",
              (Query(quantile("0.5", "journal_commit_duration_seconds", "", SEL), "median"),
               Query(quantile("0.99", "journal_commit_duration_seconds", "", SEL), "99 %")), 8),
        Panel("timeseries", "Events a commit", "How many share one flush.", "short",
              (Query(f"sum(rate({W}journal_batch_events_sum{{{SEL}}}{RATE})) / "
                     f"sum(rate({W}journal_batch_events_count{{{SEL}}}{RATE}))", "on average"),), 8),
        Panel("timeseries", "Faults", "Commits that failed, records that failed their checksum, keys forgotten early.",
              "short",
              (Query(f"sum by (kind) (increase({W}journal_errors_total{{{SEL}}}{RATE}))", "{{kind}}"),
               Query(f"sum(increase({W}journal_quarantined_total{{{SEL}}}{RATE}))", "damaged records"),
               Query(f"sum(increase({W}dedup_evicted_early_total{{{SRC}}}{RATE}))", "dedup keys forgotten early")), 8),
    ],
    "The process": [
        Panel("timeseries", "CPU", "Cores in use.", "short",
              (Query(f"rate(process_cpu_seconds_total{{{SEL}}}{RATE})", "{{pod}}"),), 6),
        Panel("timeseries", "Memory", "Resident; the journal's pages count while they are hot.", "bytes",
              (Query(f"process_resident_memory_bytes{{{SEL}}}", "{{pod}}"),), 6),
        Panel("timeseries", "Event loop lag", "How late the last heartbeat was.", "s",
              (Query(f"{W}event_loop_lag_seconds{{{SEL}}}", "{{pod}}"),), 6),
        Panel("timeseries", "Configuration", "1: the last load worked. 0: the old one is in force.", "short",
              (Query(f"{W}config_last_reload_successful{{{SEL}}}", "{{pod}}"),), 6),
    ],
}  # fmt: skip

VARIABLES = (
    ("namespace", "build_info", ""),
    ("job", "build_info", 'namespace=~"$namespace"'),
    ("pod", "build_info", 'namespace=~"$namespace",job=~"$job"'),
    ("source", "received_total", SEL),
    ("destination", "pending_events", SEL),
)
"""Name, the metric whose label it is, selector."""


def dashboard() -> dict[str, Any]:
    """Make the dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row, members in ROWS.items():
        panels.append(_row(len(panels) + 1, row, y))
        x, y, height = 0, y + 1, 4 if members[0].kind == "stat" else 8
        for panel in members:
            if x + panel.width > 24:
                x, y = 0, y + height
            panels.append(_panel(len(panels) + 1, panel, {"x": x, "y": y, "w": panel.width, "h": height}))
            x += panel.width
        y += height
    return {
        "annotations": {"list": [_restarts(), _reloads()]},
        "editable": True,
        "graphTooltip": 1,
        "id": None,
        "links": [],
        "panels": panels,
        "refresh": "30s",
        "schemaVersion": 39,
        "tags": ["webhook-sidecar", "webhooks"],
        "templating": {"list": [_datasource(), *(_variable(*v) for v in VARIABLES)]},
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "title": "webhook-sidecar",
        "uid": "webhook-sidecar",
        "version": 1,
    }


def dashboard_json() -> str:
    """The text of the file."""
    return json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"


def _row(number: int, title: str, y: int) -> dict[str, Any]:
    place = {"x": 0, "y": y, "w": 24, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    targets = [
        {
            "datasource": DATASOURCE,
            "refId": chr(ord("A") + n),
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            **({"format": "heatmap"} if panel.kind == "heatmap" else {}),
        }
        for n, query in enumerate(panel.queries)
    ]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if "thresholds" in panel.options:
        defaults["thresholds"] = {"mode": "absolute", "steps": panel.options["thresholds"]}
    made = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
    }
    if panel.kind == "heatmap":
        made["options"] = {"calculate": False, "yAxis": {"unit": panel.unit}, "tooltip": {"mode": "single"}}
    elif panel.kind == "timeseries":
        made["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    else:
        made["options"] = {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return made


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}


def _variable(name: str, metric: str, selector: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": f"label_values({W}{metric}{{{selector}}}, {name})", "refId": name},
        "refresh": 2,
        "sort": 1,
        "includeAll": True,
        "allValue": ".*",  # also what has no such label, outside Kubernetes
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _restarts() -> dict[str, Any]:
    expr = f"changes(process_start_time_seconds{{{SEL}}}[1m]) > 0"
    return _annotation("Starts", "red", expr, "{{pod}} started")


def _reloads() -> dict[str, Any]:
    expr = f"changes({W}config_last_reload_success_timestamp_seconds{{{SEL}}}[1m]) > 0"
    return _annotation("Reloads", "blue", expr, "{{pod}} took over a configuration")


def _annotation(name: str, colour: str, expr: str, title: str) -> dict[str, Any]:
    made = {"name": name, "datasource": DATASOURCE, "enable": True, "iconColor": colour}
    return made | {"expr": expr, "titleFormat": title, "step": "60s"}
