"""The page is made from results: every table has its place, and a size follows from what was measured."""

from __future__ import annotations

import re

import pytest

from tests.bench.report import PAGE, TABLES, rewrite
from tests.bench.sizing_table import FORMULAS, between, sizing

MARK = re.compile(r"<!-- bench: (\w+) -->\n")
MACHINE = {"cpu": "c", "cores": 2, "kernel": "k", "python": "p", "commit": "x"}


def measured(cpu_us: float, kept: float = 2000.0) -> dict[str, float]:
    return {"cpu_us": cpu_us, "anon_mib": 34.0, "kept_bytes_per_event": kept, "written_bytes_per_event": 40_960.0}


def test_the_page_has_a_place_for_every_table_and_no_other():
    assert sorted(MARK.findall(PAGE.read_text())) == sorted([*TABLES, "machine"])


def test_every_table_of_the_page_is_filled():
    page = PAGE.read_text()
    empty = [m[1] for m in MARK.finditer(page) if page[m.end() :].startswith("<!-- /bench -->")]
    assert empty == []


def test_a_table_is_replaced_and_the_words_around_it_stay(monkeypatch):
    monkeypatch.setattr("tests.bench.report.TABLES", {"sizing": lambda r: r["made"]})
    page = "a\n<!-- bench: machine -->\n<!-- /bench -->\nb\n<!-- bench: sizing -->\nold\n<!-- /bench -->\nc\n"
    made = rewrite(page, {"made": r"new \1"}, MACHINE)
    assert "b\n<!-- bench: sizing -->\nnew \\1\n<!-- /bench -->\nc\n" in made
    assert "old" not in made
    assert rewrite(made, {"made": r"new \1"}, MACHINE) == made
    with pytest.raises(ValueError, match="sizing"):
        rewrite("<!-- bench: machine -->\n<!-- /bench -->\n", {"made": ""}, MACHINE)


def test_a_pod_is_sized_by_the_formulas_that_the_page_states():
    (line,) = sizing({"1000": measured(100)})
    # 0.1 core x 1.5; (34 + 96) MiB x 1.25 in steps of 16; 1,000 x 2,000 B x a day / 0.7; ten pages an event
    assert line == ("1,000", "1", "100 µs", "150m", "176 MiB", "230 GiB", "10,000")
    for words in ("0.7 of a core", "x 1.5", "96 MiB", "1.25", "24 h / 0.7", "4 KiB page"):
        assert words in FORMULAS.replace("\n  ", " ")


def test_what_one_event_loop_cannot_do_takes_more_processes():
    """Each of them has a smaller rate, at which an event costs more: that is reckoned with."""
    found = {"1000": measured(400), "10000": measured(100, 20_000)}
    line = sizing(found)[1]
    processes, cpu_us = int(line[1]), float(line[2].removesuffix(" µs"))
    assert processes > 10_000 * 100e-6 / 0.7
    assert cpu_us == pytest.approx(between(found, 10_000 / processes, "cpu_us"), abs=0.5)
    assert 10_000 / processes * cpu_us * 1e-6 <= 0.7
    assert line[5].endswith("TiB")


def test_a_figure_between_two_rates_lies_between_them():
    found = {"10": measured(1000), "1000": measured(10)}
    assert between(found, 100, "cpu_us") == pytest.approx(100)
    assert [between(found, rate, "cpu_us") for rate in (1, 10, 1000, 9999)] == [1000, 1000, 10, 10]
