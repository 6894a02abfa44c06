"""The pages are held to the code: what they name exists, what they list is complete."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from sidecar import errors
from sidecar.cli.app import COMMANDS, cli
from sidecar.lifecycle import TABLE, Change
from sidecar.metrics import PREFIX, Metrics
from sidecar.model import State

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OUR_PAGES = [p for p in PAGES if p.name not in {"config.md", "cli.md", "metrics.md"}]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
FOLDERS = ("sidecar", "tests", "scripts", "docs", "requirements", "deploy")


def name(path: Path) -> str:
    """A page's test id."""
    return str(path.relative_to(ROOT))


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make, as the usual viewers make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def tracked() -> list[Path]:
    """Every file that belongs to the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone: nothing says which files belong to the repository")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / part.decode() for part in listing.split(b"\0") if part and (ROOT / part.decode()).is_file()]


# --- names


@pytest.mark.parametrize("page", OUR_PAGES, ids=name)
def test_every_file_that_a_page_names_exists(page):
    """Also folders, and files at the root; dead names in a map are worse than none."""
    named = set(re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`", page.read_text(encoding="utf-8")))
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_map_names_every_module_of_the_lanes_that_is_not_plain_from_its_neighbours():
    """The map stays a map: a whole new folder or a top-level module must appear in it."""
    page = text("docs/architecture.md")
    for path in (ROOT / "sidecar").iterdir():
        if path.name.startswith("__") and path.name != "__main__.py":
            continue
        shown = f"sidecar/{path.name}" + ("/" if path.is_dir() else "")
        assert f"`{shown}`" in page, shown


@pytest.mark.parametrize("page", OUR_PAGES, ids=name)
def test_every_link_leads_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", OUR_PAGES, ids=name)
def test_every_make_target_that_a_page_names_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    # In code only: "make sure" in a sentence is not a target.
    code = re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), re.DOTALL)
    named = {t for part in code for t in re.findall(r"(?:^|[`\s])make ([a-z-]+)", part)}
    assert named <= targets


def test_every_make_target_that_people_type_says_what_it_does():
    """``make help`` lists a target only with its ``##`` comment."""
    for target in ("run", "dev", "test", "check", "fmt", "generate", "crash", "clean", "help"):
        assert re.search(rf"^{target}:.*## \w", text("Makefile"), re.MULTILINE), target


@pytest.mark.parametrize("page", OUR_PAGES, ids=name)
def test_every_command_that_a_page_names_exists(page):
    """Whole lines of shell must parse, with their options; in a sentence the command's name must exist."""
    content = page.read_text(encoding="utf-8")
    for block in re.findall(r"```sh\n(.*?)```", content, re.DOTALL):
        for line in re.findall(r"^webhook-sidecar (.+)$", block, re.MULTILINE):
            parse(shlex.split(line, comments=True))
    for line in re.findall(r"`webhook-sidecar ([a-z]+)", content):
        assert line in COMMANDS, line


def parse(arguments: list[str]) -> None:
    """Take a command line apart as the command would; raises click's UsageError when it does not fit."""
    command: click.Command = cli
    words = [word for word in arguments if word != "&"]
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, arguments
        command, words = found, words[1:]
    command.make_context("webhook-sidecar", words)


# --- decisions


def test_every_decision_is_linked_from_the_index():
    index = text("docs/decisions/README.md")
    assert [d.name for d in DECISIONS if f"({d.name})" not in index] == []


def test_decisions_are_numbered_without_gaps():
    assert [int(d.name[:4]) for d in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("page", DECISIONS, ids=name)
def test_a_decision_says_why_what_it_costs_and_when_to_think_again(page):
    content = page.read_text(encoding="utf-8")
    assert content.startswith(f"# {page.name[:4]}. ")
    assert re.findall(r"^## (.+)$", content, re.MULTILINE) == ["Context", "Decision", "Cost", "Revisit when"]
    assert len(content.splitlines()) <= 45, "half a page, one at most"


# --- completeness


def test_the_command_page_has_every_exit_code():
    """In a table row or a list item that begins with the code."""
    documented = {int(n) for n in re.findall(r"^(?:\| *|- )`?(\d+)`?\b", text("docs/cli.md"), re.MULTILINE)}
    codes = {getattr(errors, e).exit_code for e in errors.__all__} | {0, 130}
    assert codes <= documented
    assert documented <= codes


def test_the_metrics_page_has_every_metric_with_its_labels():
    page = text("docs/metrics.md")
    for family in Metrics().all():
        rows = [line for line in page.splitlines() if f"{PREFIX}{family.name}`" in line or f"`{family.name}`" in line]
        assert rows, family.name
        for label in family.labels:
            assert any(label in row for row in rows), (family.name, label)


def test_the_state_diagram_has_every_state_and_change():
    page = text("docs/architecture.md")
    drawn = page.partition("```mermaid")[2].partition("```")[0]
    for state in State:
        assert state is State.ABSENT or state.word in drawn
    for change in Change:
        assert change.value in drawn
    assert drawn.count("-->") == len({(s, t) for (s, _), t in TABLE.items()})


def test_the_headers_that_apps_are_told_of_are_the_ones_sent():
    """``docs/apps.md`` lists what is added to a delivery; the source of that list is the code that adds it."""
    code = text("sidecar/outbound/deliver/headers.py").lower()
    table = text("docs/apps.md").partition("## What we add")[2].partition("##")[0]
    told = set(re.findall(r"`(Webhook-Sidecar-[A-Za-z-]+|Idempotency-Key)", table))
    sent = set(re.findall(r"(webhook-sidecar-[a-z-]+[a-z])", code))
    assert {t.lower() for t in told} == sent | {"idempotency-key"}


# --- hygiene


def test_no_file_knows_the_machine_it_was_written_on():
    """No home folders, no places of one person's machine, in anything that is committed."""
    places = re.compile(rb"(?<![\w.])/(?:root|home/[a-z]\w*|Users/[a-z]\w*|work)/", re.IGNORECASE)
    found = [name(p) for p in tracked() if p.suffix != ".jsonl" and places.search(p.read_bytes())]
    assert found == []


def test_the_pins_are_exact_and_name_no_place_to_get_them_from():
    for line in text("requirements/constraints.txt").splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r"[\w.-]+==[\w.]+( ; [\w .'<>=]+)?", line), line


def test_everything_that_is_asked_for_is_pinned():
    project = tomllib.loads(text("pyproject.toml"))["project"]
    asked = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    pinned = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in text("requirements/constraints.txt").splitlines()
    }
    missing = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", r)[0]).lower() for r in asked} - pinned
    assert missing == set()


def test_the_changelog_has_the_version_that_the_code_has():
    version = re.search(r'__version__ = "([^"]+)"', text("sidecar/__init__.py"))
    assert version is not None
    assert f"## [{version[1]}]" in text("CHANGELOG.md")
