"""[P] What is promised, what that does not cover, and what shows it: the content of ``docs/proof.md``."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PROMISES", "Promise"]


class Promise(NamedTuple):
    """One promise.

    Attributes:
        number: Its name: P1, P2, ... Never reused.
        says: The promise in one sentence.
        not_covered: Where it ends.
        tests: Files that show it, besides the shards that name it.
        control: Deliberate bugs that these tests catch, besides the controls of the shards.
    """

    number: str
    says: str
    not_covered: str
    tests: tuple[str, ...] = ()
    control: str = ""


PROMISES = (
    Promise(
        "P1",
        "An acknowledged event survives `kill -9` or an out-of-memory kill at any instant.",
        "Deliveries of the last moment are repeated: at most `concurrency` + 256 a destination.",
        ("tests/crash/test_kill.py",),
        "an ack before the commit",
    ),
    Promise(
        "P2",
        "It survives a power cut too.",
        "A disk or hypervisor that reports a flush it has not done; sectors torn inside 512 bytes.",
    ),
    Promise(
        "P3",
        "An answer other than 2xx, or a cut connection, leaves nothing that blocks the sender's retry.",
        "A sender that never retries.",
        ("tests/fuzz/test_journal_model.py", "tests/contract/test_edge_listener.py"),
    ),
    Promise(
        "P4",
        "After a failed commit nothing more is acknowledged by that process, it exits within a second, and a restart loses nothing.",
        "A full disk or map, which is P5.",
    ),
    Promise(
        "P5",
        "A full disk or map never gets an ack for what is not stored; delivering goes on, and accepting resumes by itself.",
        "Another program that takes every block: what is delivered then is settled, or delivered again, when there is room. Dead letters wait.",
        ("tests/e2e/test_journal_edges.py",),
    ),
    Promise(
        "P6",
        "Enqueued = delivered + dead + discarded + redirected + pending for every destination, at any time.",
        "A dead letter's file that a person moved is reported as gone.",
        ("tests/fuzz/test_journal_model.py", "tests/crash/test_kill.py"),
    ),
    Promise(
        "P7",
        "Inside its TTL one identity is enqueued once, across crashes, restarts, reloads and steps of the clock.",
        "Requests without a key; an event that is owed and whose record is damaged is taken again; several replicas do not compare notes; after a reboot the time that passed is what the wall clock says.",
        ("tests/e2e/test_dedup.py", "tests/fuzz/test_journal_model.py"),
    ),
    Promise(
        "P8",
        "The bytes of a body, and the end-to-end headers in their order, leave as they came.",
        "Hop-by-hop headers, names with characters other than letters, digits and `-`, headers that pose as a proxy's word, values that are not UTF-8.",
        ("tests/e2e/test_bytes_through.py", "tests/e2e/test_receive.py", "tests/contract/test_http_destination.py"),
        "JSON read and written again; a body unpacked on receipt; headers in another order",
    ),
    Promise(
        "P9",
        "A damaged record is never forwarded; a truncated or foreign file ends in one clear line, not in a signal.",
        "The damaged event itself is lost unless its provider repeats it; damage that keeps a 32-bit checksum right. A damaged page of LMDB's own tree can hide deliveries: they are counted five seconds after a start and each hour and then reported, with more than 30,000 rows pending only by `webhook-sidecar audit --offline` and `journal verify`. Such a page can end the process with a signal once; the next start checks the file and says so, up to 24 MB of it.",
        ("tests/e2e/test_journal_edges.py",),
    ),
    Promise("P10", "A power cut during the first start or a compaction leaves a journal that opens.", "As P2."),
    Promise(
        "P11",
        "Memory stays inside the configured bound under any input.",
        "The page cache that the map uses; what the event loop keeps of each connection of a TLS listener, while it is open: 26 KiB, "
        "58 KiB in its handshake, up to 0.6 MiB when it has sent much at once.",
        (
            "tests/contract/test_listener_rules.py",
            "tests/contract/test_listener_tls.py",
            "tests/contract/test_http_destination.py",
        ),
    ),
    Promise(
        "P12",
        "Slow clients are closed and cost honest ones nothing.",
        "Bandwidth itself; rate limits by address belong to the ingress; latencies less than 40 ms apart count as the same, and by "
        "how much the senders themselves were late is taken off.",
        ("tests/contract/test_listener_rules.py",),
    ),
    Promise(
        "P13",
        "The journal's file stays bounded through any churn, and no read transaction lasts a second.",
        "A journal that is mostly pending; `journal backup`, which reads one state for as long as it copies; memory that grows too little to show in a soak of that length: a third an hour in 40 minutes.",
        ("tests/unit/journal/test_upkeep.py",),
    ),
    Promise(
        "P14",
        "No order is promised.",
        "Everything: deliveries run side by side.",
        ("tests/unit/outbound/test_lane.py",),
        "not needed: nothing is promised",
    ),
    Promise(
        "P15",
        "Every attempt starts when its schedule says, across restarts and steps of the clock.",
        "Lanes that are held or have no free place.",
        ("tests/e2e/test_deliver.py", "tests/unit/outbound/test_lane.py", "tests/unit/outbound/test_lane_waits.py"),
    ),
    Promise(
        "P16",
        "A dead backend costs bounded attempts and no other destination anything.",
        "`max_age` ends even an outage; a second answer that comes when the next request is out already counts as its answer.",
        ("tests/unit/outbound/test_lane_hold.py", "tests/e2e/test_deliver.py", "tests/e2e/test_hostile_backends.py"),
    ),
    Promise(
        "P17",
        "SIGTERM: unready at once, what is in flight is answered, exit 0 in time; a SIGKILL meanwhile is still P1 and P6.",
        "Backends slower than the drain: their deliveries stay pending; a signal before the program listens to any just ends it.",
        ("tests/e2e/test_receive.py", "tests/lifecycle/test_pod_life.py"),
    ),
    Promise(
        "P18",
        "It is ready in a second, however much is pending.",
        "After an unclean stop a small journal is checked first.",
        ("tests/e2e/test_start.py",),
        "a start that reads everything",
    ),
    Promise(
        "P19",
        "No configured secret appears in a log, a metric or an answer, however the process ends.",
        "The journal and the dead letters keep requests as they came; a core that the machine pipes to a program of its own.",
        (
            "tests/unit/config/test_secrets.py",
            "tests/contract/test_admin_api.py",
            "tests/e2e/test_secrets_canary.py",
            "tests/e2e/test_crash_canary.py",
        ),
        "a line that leaks; an end with a traceback",
    ),
    Promise(
        "P20",
        "Without the token an admin request changes nothing.",
        "The Unix socket, which its file mode protects; a drain that a program, not a page, asks for by our address, as kubelets do.",
        ("tests/contract/test_admin_api.py", "tests/e2e/test_admin_strangers.py"),
        "a gate without the Host check; a gate without the token",
    ),
    Promise(
        "P21",
        "No request is accepted that nginx or HAProxy frames differently.",
        "Other proxies.",
        (
            "tests/contract/test_edge_listener.py",
            "tests/contract/test_edge_corpus.py",
            "tests/contract/test_edge_proxies.py",
        ),
        "a request that comes past the proxy; a listener without its gate",
    ),
    Promise(
        "P22",
        "A reload is all or nothing.",
        "Settings that need a restart are named and wait for it.",
        ("tests/e2e/test_reload_whole.py", "tests/e2e/test_reload.py"),
        "a reload that takes over piece by piece",
    ),
    Promise(
        "P23",
        "A newer journal is refused untouched.",
        "Journals of a released version are pinned from the first release on.",
        (
            "tests/unit/journal/test_environment.py",
            "tests/unit/journal/test_records.py",
            "tests/e2e/test_journal_edges.py",
        ),
        "an opener that reads any format",
    ),
    Promise(
        "P24",
        "Rejected traffic costs at most a short line each, rate-limited, and no new metric series.",
        "The traffic itself.",
        ("tests/unit/test_log.py", "tests/e2e/test_hostile_display.py"),
        "a command that cleans nothing",
    ),
    Promise(
        "P25",
        "Every promise is stated with what it does not cover.",
        "Whether that is all it does not cover.",
        ("tests/docs/test_proof_page.py",),
        "a promise without its end, its tests or its control",
    ),
)
