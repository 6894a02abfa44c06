"""What a user installs is pinned to the byte, listed completely, and looked up: and each of these can be seen to fail."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = (ROOT / "requirements" / "constraints.txt").read_text(encoding="utf-8")


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("lock")


@pytest.fixture
def sbom(lock: ModuleType) -> ModuleType:
    return importlib.import_module("sbom")


@pytest.fixture
def audit(lock: ModuleType) -> ModuleType:
    return importlib.import_module("audit")


LOCKED = (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "extra"), [("requirements/lock.txt", ""), ("requirements/lock-crypto.txt", "crypto")])
def test_a_lock_file_has_all_that_is_asked_for_at_the_constraints_versions(
    lock: ModuleType, name: str, extra: str
) -> None:
    assert lock.LOCKS[name] == extra
    text = (ROOT / name).read_text(encoding="utf-8")
    assert lock.problems(text, lock.asked(extra), CONSTRAINTS) == []


def test_the_constraints_agree_with_what_brings_the_packages_in(lock: ModuleType, sbom: ModuleType) -> None:
    """Not only what is asked for by name, also what that needs."""
    for name, extra in lock.LOCKS.items():
        locked = lock.pins((ROOT / name).read_text(encoding="utf-8"))
        assert locked.keys() == sbom.closure(lock.asked(extra)).keys()


def test_what_is_wrong_with_a_lock_file_is_said(lock: ModuleType) -> None:
    """A dependency that it lacks, another version, an entry without a hash, a place to get it from."""
    asked = lock.asked("")
    missing = lock.problems(LOCKED, [*asked, "leftpad>=1"], CONSTRAINTS)
    assert missing == ["leftpad: is not locked"]
    version = lock.pins(LOCKED)["click"]
    other = lock.problems(LOCKED.replace(f"click=={version}", "click==0.1"), asked, CONSTRAINTS)
    assert other == [f"click: 0.1 is locked, the constraints have {version}"]
    unknown = lock.problems(LOCKED.replace("click==", "clack=="), asked, CONSTRAINTS)
    assert unknown == ["click: is not locked", "clack: is not among the constraints"]
    bare = lock.problems(LOCKED + f"\nidna=={lock.pins(LOCKED)['idna']}\n", asked, CONSTRAINTS)
    assert bare == ["idna: has no hash"]
    placed = lock.problems("--index-url https://example.org/simple\n" + LOCKED, asked, CONSTRAINTS)
    assert placed[-1] == "names a place to get something from"
    assert len(placed) == 2


def test_pip_refuses_what_has_another_hash(tmp_path: Path, lock: ModuleType) -> None:
    """The lock file is of a form that pip checks; the file that is offered is not the one that is locked."""
    wheel = tmp_path / "click-8.5.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("click-8.5.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: click\nVersion: 8.5.1\n")
        archive.writestr(
            "click-8.5.1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("click-8.5.1.dist-info/RECORD", "")
    entry = next(e for e in LOCKED.replace(" \\\n    ", " ").splitlines() if e.startswith("click=="))
    (tmp_path / "lock.txt").write_text(entry.replace(entry.split()[0], "click==8.5.1") + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-index", "--find-links", str(tmp_path), "--require-hashes",
         "--no-deps", "--dest", str(tmp_path / "out"), "--requirement", str(tmp_path / "lock.txt")],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_the_bill_of_materials_lists_exactly_what_runs(lock: ModuleType, sbom: ModuleType) -> None:
    """With the version that is locked; what only the extra brings in is optional. The same bytes each time."""
    text = sbom.text()
    assert text == sbom.text()
    document = json.loads(text)
    listed = {c["name"]: c for c in document["components"]}
    everything = sbom.closure(lock.asked("crypto"))
    core = sbom.closure(lock.asked(""))
    assert listed.keys() == everything.keys()
    assert {name for name, c in listed.items() if c["scope"] == "required"} == core.keys()
    versions = lock.pins((ROOT / "requirements" / "lock-crypto.txt").read_text(encoding="utf-8"))
    assert {name: c["version"] for name, c in listed.items()} == versions
    assert [c["name"] for c in listed.values() if not c.get("licenses")] == []
    assert "pytest" not in listed
    assert "pytest" in sbom.closure(lock.asked("dev")), "else this would show nothing"


def test_its_graph_reaches_every_component(sbom: ModuleType) -> None:
    document = json.loads(sbom.text())
    edges = {row["ref"]: row["dependsOn"] for row in document["dependencies"]}
    reached, waiting = set(), [document["metadata"]["component"]["bom-ref"]]
    while waiting:
        ref = waiting.pop()
        reached.add(ref)
        waiting += [r for r in edges[ref] if r not in reached]
    assert reached == edges.keys()
    assert reached - {document["metadata"]["component"]["bom-ref"]} == {c["bom-ref"] for c in document["components"]}


ASKED = {"click": "8.0", "idna": "3.0"}


def answer(*rows: dict[str, object]) -> str:
    return json.dumps({"dependencies": rows, "fixes": []})


def test_an_audit_without_an_answer_is_no_all_clear(audit: ModuleType) -> None:
    """No service, half an answer, another version: 69; a known vulnerability: 1; everything looked up: 0."""
    click, idna = {"name": "click", "version": "8.0", "vulns": []}, {"name": "idna", "version": "3.0", "vulns": []}
    assert audit.judged(answer(click, idna), "", ASKED) == (0, ["2 locked packages, no known vulnerability"])
    assert audit.judged("", "x\nConnectionError: refused\n", ASKED)[0] == 69
    assert "refused" in audit.judged("", "x\nConnectionError: refused\n", ASKED)[1][0]
    assert audit.judged(answer(click), "", ASKED)[0] == 69
    assert audit.judged(answer(click, {**idna, "version": "2.0"}), "", ASKED)[0] == 69
    code, lines = audit.judged(answer(click, {"name": "idna", "skip_reason": "not found"}), "", ASKED)
    assert (code, lines) == (69, ["nothing is known about 1 of 2 locked packages: not found"])
    bad = {**idna, "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.7"]}, {"id": "PYSEC-2"}]}
    code, lines = audit.judged(answer(click, bad), "", ASKED)
    assert (code, lines) == (1, ["idna 3.0: PYSEC-1, fixed in 3.7", "idna 3.0: PYSEC-2, fixed in no version"])
    assert audit.judged(answer(bad), "", ASKED)[0] == 1, "what is known counts also where the rest is not"
