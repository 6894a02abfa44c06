"""Makes ``docs/proof/mutants.md`` from the ledger of ``make mutants`` and the explanations of what survived."""

from __future__ import annotations

from tests.mutants.explained import EXPLAINED
from tests.mutants.run import ledger

_HEAD = """\
# Mutants

A test that runs a line does not have to notice when the line is wrong. `make mutants` changes the modules that decide, one small
change at a time (a comparison, a constant, an operator, a statement left out, another member of an enumeration), and runs the
module's own tests: a change that none of them notices is a survivor. `MUTANTS=outbound.retry,lifecycle` names a part. Each run
replaces the module's line in [the ledger](mutants.jsonl), which this page is made from.

Text for people is not changed. A survivor is a hole in the tests, or it is explained below; `make test` holds that, and that nine
of ten are noticed in every module that is listed. `tests/mutants/catalog.py` names more: those that are not listed were not run
to the end yet, or have survivors that nobody has looked into.
"""


def page() -> str:
    """The whole page."""
    rows = list(ledger().values())
    total, killed = sum(r["mutants"] for r in rows), sum(r["killed"] for r in rows)
    lines = [
        f"{killed:,} of {total:,} mutants of {len(rows)} modules were noticed ({_share(killed, total)}).",
        "",
        "| Module | Mutants | Noticed | |",
        "|---|---|---|---|",
        *(f"| `{r['module']}` | {r['mutants']} | {r['killed']} | {_share(r['killed'], r['mutants'])} |" for r in rows),
        "",
        "## What survived, and why it may",
        "",
    ]
    for row in rows:
        reasons = EXPLAINED.get(row["module"], {})
        if row["survived"]:
            lines.append(f"`{row['module']}`")
            lines.append("")
            lines += [f"- `` {what} ``: {reasons.get(what, 'not explained')}" for what in row["survived"]]
            lines.append("")
    return _HEAD + "\n" + "\n".join(lines)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
