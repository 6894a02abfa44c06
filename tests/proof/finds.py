"""[P] What runs of the proof found, and what became of it: the ledger keeps the lines, here stands what they meant."""

from __future__ import annotations

__all__ = ["FINDS"]

FINDS: dict[tuple[str, str], str] = {
    ("2026-11-25T21:58:52Z", "faults"): (
        "A command inside a batch whose commit failed was never answered, so the process took four seconds to end where it promises one: "
        "mended. Some lives ended by SIGTERM, which the harness sent while Python was not listening yet or any more."
    ),
    ("2026-11-25T22:06:33Z", "rot"): (
        "Rot that LMDB notices only when a table or the free list is read reached the operator as a traceback: mended, one line now."
    ),
    ("2026-11-25T22:06:33Z", "simulation"): (
        "Deliveries that a held lane had passed over with its probes waited for a restart or the next failure: mended. None was lost."
    ),
    ("2026-11-25T22:34:56Z", "rot"): (
        "Rot in LMDB's own pages hid deliveries, and nothing said so: mended, what is owed is counted after a start and each hour."
    ),
    ("2026-11-26T00:21:08Z", "http_fuzz"): (
        "The judge was too strict: `100 Continue` is left out where the body has come already (RFC 9110, 10.1.1)."
    ),
    ("2026-11-26T00:21:08Z", "rot"): (
        "A flipped bit in LMDB's own pages ended each start with SIGBUS: mended, the start after that checks the file and says so."
    ),
    ("2026-11-26T00:33:13Z", "rot"): "The same SIGBUS, before it was mended.",
    ("2026-11-26T00:45:21Z", "rot"): "The same SIGBUS, before it was mended.",
    ("2026-11-26T04:26:17Z", "faults"): (
        "A SIGHUP in the last moments of a process that was ending anyway ended it with a traceback or by the signal: mended."
    ),
    ("2026-11-26T04:50:32Z", "churn"): (
        "Freed bodies left holes in the heap, and half of all memory was holes: mended. The keys that it remembered for a day grew too, "
        "as they may; the harness lets them expire now."
    ),
    ("2026-11-26T04:50:43Z", "faults"): (
        "One exit of 738 took longer than three seconds on a busy machine; it was not seen again in eight tries, nor in the next sweep."
    ),
    ("2026-11-26T05:07:22Z", "full"): (
        "The harness had answered three requests in the last moment of its backend and not noted them: mended in the harness."
    ),
    ("2026-11-26T09:11:51Z", "guided"): (
        "The judge was too strict: the search had put a recorded request together again, head and body, and it is honest."
    ),
    ("2026-11-26T09:38:27Z", "churn"): (
        "Not explained: memory grew by 7 % an hour over 42 minutes beside other work, and the line did not keep in which of them; lines "
        "do now. The next soak, an hour ahead of all other work on the machine, found no growth."
    ),
    ("2026-11-26T09:55:10Z", "slow"): (
        "Three sieges, two of them at once on two cores with other work: the next run, with the machine to itself, found nothing."
    ),
    ("2026-11-26T09:55:10Z", "guided"): (
        "An answer with too many header lines was taken for its status or for no HTTP, depending on how it was cut: mended. "
        "Either way it was no success."
    ),
    ("2026-11-26T14:00:30Z", "spoiled"): (
        "The lives found nothing. Missing checksums were noticed by a sign that the control did not know: mended in the control. "
        "With another seed it then saw that a block whose time had rotted was forgotten with its last delivery: mended."
    ),
    ("2026-11-26T14:10:42Z", "spoiled"): (
        "The harness lives many lives in one process, and those before had used up the ten lines that the log takes at once of one "
        "kind: seen again with damaged keys alone, with two lines held back. Each life begins with its limits now."
    ),
}
"""When a run began and its harness -> what its lines meant. ``tests/docs`` holds that none is missing."""
