"""Every alert fires when it should and stays quiet when it should: Prometheus' own rule tests over our rule files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.daemon import REPOSITORY
from tests.support.promtool import FOLDER, MISSING, RULE_FILES, check_rules, rule_test

needs_promtool = pytest.mark.skipif(bool(MISSING), reason=MISSING)

ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]
]
NAMES = sorted({rule["alert"] for rule in ALERTS})

MIB = 1 << 20
APP = 'job="webhook-sidecar",destination="app"'
POD = 'job="webhook-sidecar",namespace="shop",pod="gateway-0"'
W = "webhook_sidecar_"

Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """One story.

    Attributes:
        alert: Without the prefix.
        story: What happens.
        fires: How many alerts of this name.
        series: Name and labels -> values, one every 30 s.
        at: When we look.
    """

    alert: str
    story: str
    fires: int
    series: Series
    at: str = "40m"


def pending(ready: str = "0x200", scheduled: str = "0x200", in_flight: str = "0x200", dying: str = "0x200") -> Series:
    states = {"ready": ready, "scheduled": scheduled, "in_flight": in_flight, "dying": dying}
    return {f'{W}pending_events{{{APP},state="{s}"}}': v for s, v in states.items()}


def attempts(**outcomes: str) -> Series:
    return {f'{W}delivery_attempts_total{{{APP},outcome="{o.lstrip("_")}"}}': v for o, v in outcomes.items()}


def books(enqueued: str, delivered: str, discarded: str = "0x800", dead: str = "0x800") -> Series:
    settled = {"delivered": delivered, "dead": dead, "discarded": discarded, "redirected": "0x800"}
    rows = {f'{W}settled_total{{{APP},outcome="{o}"}}': v for o, v in settled.items()}
    return {f'{W}enqueued_total{{{APP},source="stripe"}}': enqueued, **rows}


def received(**outcomes: str) -> Series:
    return {f'{W}received_total{{{POD},source="stripe",outcome="{o}"}}': v for o, v in outcomes.items()}


def failures(**reasons: str) -> Series:
    return {f'{W}verification_failures_total{{{POD},source="stripe",reason="{r}"}}': v for r, v in reasons.items()}


def one(name: str, values: str, labels: str = POD) -> Series:
    return {f"{name}{{{labels}}}": values}


def journal(used: str, capacity: int = 1024 * MIB, free: str = f"{8192 * MIB}x800") -> Series:
    return (
        one(f"{W}journal_used_bytes", used)
        | one(f"{W}journal_capacity_bytes", f"{capacity}x800")
        | one(f"{W}journal_disk_free_bytes", free)
    )


CASES = [
    # --- delivery
    Case("DeliveryStalled", "a backend is down: ready deliveries wait", 1, pending("50x200") | attempts(_2xx="7x200")),
    Case(
        "DeliveryStalled", "every try fails, and what failed waits for its next try", 1,
        pending(scheduled="50x200") | attempts(_2xx="7x200", _5xx="0+5x200"),
    ),
    Case(
        "DeliveryStalled", "the destination is held, and the only delivery waits for its probe", 1,
        pending(scheduled="1x200") | attempts(connect="2x200") | one(f"{W}destination_held", "1x200", APP),
    ),
    Case(
        "DeliveryStalled", "one event was told to wait an hour, and nothing else comes", 0,
        pending(scheduled="1x200") | attempts(_2xx="7x200", _5xx="1x200"),
    ),
    Case(
        "DeliveryStalled", "deliveries flow, with some always in flight", 0,
        pending(in_flight="3x200") | attempts(_2xx="0+20x200"),
    ),
    Case(
        "DeliveryStalled", "nothing is owed", 0, pending() | attempts(_2xx="7x200"),
    ),
    Case(
        "DeliveryStalled", "we restart: counters begin at zero, and it goes on", 0,
        pending(in_flight="2x200") | attempts(_2xx="0+20x40 0+20x100"),
    ),
    Case(
        "OldestPendingTooOld", "a backlog that does not get smaller", 1,
        pending("500x200") | one(f"{W}oldest_pending_age_seconds", "0+30x200", APP)
        | one(f"{W}destination_held", "0x200", APP),
    ),
    Case(
        "OldestPendingTooOld", "the destination is held", 1,
        pending(scheduled="1x200") | one(f"{W}oldest_pending_age_seconds", "0+30x200", APP)
        | one(f"{W}destination_held", "1x200", APP),
    ),
    Case(
        "OldestPendingTooOld", "one event was told to wait an hour while others flow", 0,
        pending("0 4 0 0 1 0 0 0 2 0 0 0 0 3 0 0 0 0 0 0 1 0 0 2 0 0 0 0 4 0x200", "1x200", "3x200")
        | one(f"{W}oldest_pending_age_seconds", "0+30x200", APP) | one(f"{W}destination_held", "0x200", APP),
    ),
    Case(
        "EventsDeadLettered", "three in ten minutes", 1,
        one(f"{W}dead_lettered_total", "0x60 1x10 3x20", APP + ',reason="rejected"'),
    ),
    Case(
        "EventsDeadLettered", "none for hours, and the counter starts again at zero", 0,
        one(f"{W}dead_lettered_total", "3x40 0x100", APP + ',reason="rejected"'),
    ),
    Case("DeadLettersWaiting", "the folder is full", 1, one(f"{W}dead_letters_waiting", "2x200", APP)),
    Case("DeadLettersWaiting", "a file was late once", 0, one(f"{W}dead_letters_waiting", "0x40 1x3 0x200", APP)),
    Case("DeliverySLOBurn", "a total outage: much is enqueued, nothing is delivered", 2, books("0+60x800", "0x800"), "1h"),
    Case("DeliverySLOBurn", "one delivery in twenty dies", 2, books("0+100x800", "0+95x800", dead="0+5x800"), "1h"),
    Case("DeliverySLOBurn", "one in ten thousand dies", 0, books("0+10000x800", "0+9999x800", dead="0+1x800"), "1h"),
    Case("DeliverySLOBurn", "all is delivered", 0, books("0+100x800", "0+100x800"), "1h"),
    Case("DeliverySLOBurn", "one event of a quiet source was told to wait an hour", 0, books("0x20 1x800", "0x800"), "35m"),
    Case("DeliverySLOBurn", "a restart: scrapes are missing, the journal's counters go on", 0,
         books("0+100x60 _x4 6500+100x300", "0+100x60 _x4 6500+100x300"), "45m"),
    Case("DeliverySLOBurn", "an outage is over and its backlog is delivered", 0,
         books("0+100x800", "0+100x20 2000x20 2000+300x20 8000+100x700"), "3h"),
    Case("DeliverySLOBurn", "a person discards half of it", 0, books("0+100x800", "0+50x800", discarded="0+50x800"), "1h"),
    # --- receiving
    Case("SignatureFailuresHigh", "the secret was rotated on one side only", 1,
         received(accepted="0+10x200") | failures(wrong_secret="0+10x200")),
    Case("SignatureFailuresHigh", "the sender's clock is wrong", 1,
         received(accepted="0x200") | failures(stale_timestamp="0+10x200")),
    Case("SignatureFailuresHigh", "scanners without a signature", 0,
         received(accepted="0+10x200", unauthorized="0+500x200")
         | failures(wrong_secret="0x200", missing_header="0+400x200", malformed_signature="0+100x200")),
    Case("SignatureFailuresHigh", "a few among many", 0,
         received(accepted="0+1000x200") | failures(wrong_secret="0+2x200")),
    Case("SignatureFailuresHigh", "three tries of somebody setting it up", 0,
         received(accepted="0x200") | failures(wrong_secret="0x40 3x200")),
    Case("Overloaded", "too much arrives for minutes", 1, received(overloaded="0+3x200")),
    Case("Overloaded", "none is refused", 0, received(overloaded="5x200", accepted="0+100x200")),
    Case("NoWebhooks", "a watched source is silent for an hour", 1,
         one(f"{W}last_accepted_timestamp_seconds", "60x200", 'job="webhook-sidecar",source="stripe"')
         | {'webhook_sidecar:no_webhooks_after:seconds{source="stripe"}': "3600x200"}, "80m"),
    Case("NoWebhooks", "nobody asked for that source to be watched", 0,
         one(f"{W}last_accepted_timestamp_seconds", "60x200", 'job="webhook-sidecar",source="stripe"')
         | {'webhook_sidecar:no_webhooks_after:seconds{source="github"}': "3600x200"}, "80m"),
    Case("NoWebhooks", "a restart forgets when the last one came", 0,
         one(f"{W}last_accepted_timestamp_seconds", "0 2400x80 0x200", 'job="webhook-sidecar",source="stripe"')
         | {'webhook_sidecar:no_webhooks_after:seconds{source="stripe"}': "3600x200"}, "60m"),
    Case("DedupEvictedEarly", "keys are dropped", 1, one(f"{W}dedup_evicted_early_total", "0x20 90x200", POD)),
    Case("DedupEvictedEarly", "none today", 0, one(f"{W}dedup_evicted_early_total", "90x200", POD)),
    # --- journal
    Case("JournalRejecting", "it is full", 1, received(storage_full="0x74 4x200")),
    Case("JournalRejecting", "the disk fails", 1, received(storage_error="0x74 1x200")),
    Case("JournalRejecting", "it was full yesterday", 0, received(storage_full="9x200", accepted="0+9x200")),
    Case("JournalFullSoon", "owed deliveries fill it", 1, journal(f"{700 * MIB}+{2 * MIB}x200"), "70m"),
    Case("JournalFullSoon", "it is at 88 % and stays there", 1, journal(f"{901 * MIB}x200"), "70m"),
    Case("JournalFullSoon", "it grows to 70 % and keeps history there", 0,
         journal(f"{300 * MIB}+{6 * MIB}x69 {717 * MIB}x200"), "40m"),
    Case("DiskLow", "something else fills the volume", 1,
         journal(f"{100 * MIB}x200", free=f"{1800 * MIB}-{10 * MIB}x170"), "70m"),
    Case("DiskLow", "next to nothing is left", 1, journal(f"{100 * MIB}x200", free=f"{90 * MIB}x200")),
    Case("DiskLow", "the journal grows on a large disk", 0,
         journal(f"{1 * MIB}+{10 * MIB}x60", free=f"{90000 * MIB}-{100 * MIB}x200"), "70m"),
    Case("JournalDamaged", "a checksum is wrong", 1, one(f"{W}journal_quarantined_total", "0x50 1x200")),
    Case("JournalDamaged", "it was sound all the time", 0, one(f"{W}journal_quarantined_total", "0x200")
         | one(f"{W}journal_errors_total", "3x200", POD + ',kind="map_full"')),
    # --- process
    Case("Down", "it does not answer", 1, one("up", "1x20 0x200", POD)),
    Case("Down", "its Pod waits for a volume and is not scraped at all", 1, one("up", "1x20 stale", POD)),
    Case("Down", "it restarts", 0, one("up", "1x60 0x3 1x200", POD)),
    Case("RestartLoop", "a sidecar, which is an init container, fails again and again", 1,
         one("kube_pod_init_container_status_restarts_total", "0+1x200", 'namespace="shop",pod="app-1",container="webhook-sidecar"')),
    Case("RestartLoop", "a gateway fails again and again", 1,
         one("kube_pod_container_status_restarts_total", "0+1x200", 'namespace="shop",pod="gateway-0",container="webhook-sidecar"')),
    Case("RestartLoop", "the same without Kubernetes", 1,
         one("process_start_time_seconds", "1+100x200", 'job="webhook-sidecar",instance="a:9787"')),
    Case("RestartLoop", "one restart", 0, one("process_start_time_seconds", "1x40 1000x200", POD)
         | one("kube_pod_container_status_restarts_total", "4x40 5x200", 'namespace="shop",pod="gateway-0",container="webhook-sidecar"')),
    Case("RestartLoop", "another container of the Pod", 0,
         one("kube_pod_container_status_restarts_total", "0+1x200", 'namespace="shop",pod="app-1",container="app"')),
    Case("ConfigReloadFailed", "a bad file was mounted", 1, one(f"{W}config_last_reload_successful", "1x20 0x200")),
    Case("ConfigReloadFailed", "it was put right at once", 0,
         one(f"{W}config_last_reload_successful", "1x70 0x4 1x200")),
    Case("EventLoopLag", "no CPU is left", 1, one(f"{W}event_loop_lag_seconds", "0.9x200")),
    Case("EventLoopLag", "one slow moment", 0, one(f"{W}event_loop_lag_seconds", "0.001x76 3 0.001x200")),
]  # fmt: skip


def firing(alert: str) -> str:
    """An expression: how many alerts of this name fire; it always has a value."""
    return f'count(ALERTS{{alertname="WebhookSidecar{alert}",alertstate="firing"}}) or vector(0)'


@needs_promtool
@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.alert}: {c.story}")
def test_an_alert_tells_what_it_should_and_nothing_else(case: Case, tmp_path: Path) -> None:
    # Down would fire in every story that says nothing of `up`.
    alive = {} if case.alert == "Down" else one("up", "1x2000")
    # Only the objective is made of recorded series.
    rules = RULE_FILES if case.alert == "DeliverySLOBurn" else (FOLDER / "alerts.yaml",)
    outcome = rule_test(tmp_path, case.series | alive, {firing(case.alert): case.fires}, at=case.at, rules=rules)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@needs_promtool
def test_a_wrong_expectation_is_noticed(tmp_path: Path) -> None:
    """The negative control of the test above."""
    case = CASES[0]
    outcome = rule_test(tmp_path, case.series, {firing(case.alert): 0}, at=case.at)
    assert outcome.returncode != 0
    assert "FAILED" in outcome.stdout + outcome.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_has_a_story_where_it_fires_and_one_where_it_is_quiet(name: str) -> None:
    told = {bool(c.fires) for c in CASES if f"WebhookSidecar{c.alert}" == name}
    assert told == {True, False}


@needs_promtool
def test_promtool_takes_the_rule_files() -> None:
    outcome = check_rules(*RULE_FILES)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_every_alert_says_how_bad_it_is_what_happens_and_what_to_do() -> None:
    for rule in ALERTS:
        name = rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert {"summary", "description", "runbook_url"} <= rule["annotations"].keys(), name
        assert rule["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{name}.md"), name


@pytest.mark.parametrize("name", NAMES)
def test_every_alert_has_a_page_that_a_tired_person_can_follow(name: str) -> None:
    """What it means, how urgent it is, what to look at, what to do, and how one sees that it is over."""
    page = (REPOSITORY / "docs" / "runbooks" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    headings = ["What it means", "How urgent", "Look", "Do", "Over when"]
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == headings
    assert "```sh" in page
    assert len(page.splitlines()) <= 70
    severities = {r["labels"]["severity"] for r in ALERTS if r["alert"] == name}
    for severity in severities:
        assert f"**{severity}**" in page


def test_no_page_is_left_over_from_an_alert_that_is_gone() -> None:
    pages = {p.stem for p in (REPOSITORY / "docs" / "runbooks").glob("*.md")} - {"README"}
    assert pages == set(NAMES)


def test_the_index_of_runbooks_has_every_alert() -> None:
    index = (REPOSITORY / "docs" / "runbooks" / "README.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"({name}.md)" not in index] == []
