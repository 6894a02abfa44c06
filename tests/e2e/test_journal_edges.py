"""The journal at its edges: somebody else has it, it is newer, damaged or full; and the daemon after each kind of end."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from sidecar.clock import Clock
from sidecar.journal import Journal, meta
from sidecar.journal.types import JournalOptions
from tests.support.daemon import Daemon, eventually, free_port
from tests.support.senders import Answer, Raw, framed, fresh_id, github
from tests.support.sink import Sink
from tests.support.tracing import needs_strace

SECRET = "journal-test"

CONFIG = """
[sources.github]
path = "/github"
verify = "github"
secrets = [{{ value = "journal-test" }}]
max_body = "1MiB"
destinations = ["app"]

[sources.slow]
path = "/slow"
verify = "github"
secrets = [{{ value = "journal-test" }}]
max_body = "1MiB"
destinations = ["slow"]

[destinations.app]
url = "{url}"
[destinations.slow]
url = "{url}"
[destinations.slow.retry]
base = "2s"
jitter = 0
{more}
"""

FAILING = (
    (False, "openat", "EROFS", "journal/journal.lock", 1),
    (False, "pwrite64", "EIO", "journal/.new/data.mdb", 1),
    (True, "read", "EIO", "journal/data.mdb", 1),
    (True, "openat", "EIO", "journal/lock.mdb", 2),
)
"""Whether there is a journal; which call fails, with what, on which path, and from which of them on. The second open of
``lock.mdb`` is LMDB's own."""


def config(url: str = "http://127.0.0.1:9", more: str = "") -> str:
    return CONFIG.format(url=url, more=more)


def send(daemon: Daemon, body: bytes = b"{}", path: str = "/github") -> Answer:
    with Raw(daemon.port) as raw:
        return raw.send(framed(path, body, github(body, SECRET, fresh_id()))).answer()


def id_of(answer: Answer) -> str:
    assert answer.status == 200, answer
    return answer.headers["webhook-sidecar-event-id"]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused_start(daemon: Daemon, code: int = 74) -> str:
    """It does not start, says why in one line with a hint, and shows no traceback; the line."""
    daemon.log.write_text("")
    daemon.launch()
    assert daemon.wait(20) == code, daemon.tail()
    text = daemon.log.read_text()
    assert "Traceback" not in text
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, text
    assert "  hint: " in text
    return errors[0]


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that ran, has three events in its journal, and was stopped in order."""
    with Daemon(tmp_path, config()) as daemon:
        for _ in range(3):
            assert send(daemon).status == 200
        assert daemon.stop(signal.SIGINT) == 0
        yield daemon


def test_a_second_daemon_on_the_same_journal_is_refused_and_the_first_goes_on(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with Sink() as sink, Daemon(tmp_path / "one", config(sink.url)) as first:
        second = Daemon(tmp_path / "two", config(sink.url, f'[journal]\npath = "{tmp_path}/one/journal"'))
        line = refused_start(second)
        assert f"in use by process {first.pid}" in line
        event_id = id_of(send(first))
        eventually(lambda: sink.ids() == [event_id])
        first.kill()
        second.start()  # what a crash left locks nobody out
        try:
            assert second.api(f"events/{event_id}")["id"] == event_id
        finally:
            second.kill()


def test_a_journal_of_a_newer_version_is_refused_and_not_touched(stopped, tmp_path):
    journal = tmp_path / "journal"
    env = lmdb.open(str(journal), max_dbs=16, map_size=1 << 30)
    with env.begin(write=True) as txn:
        table = env.open_db(b"meta", txn=txn)
        row = meta.unpack(txn.get(b"identity", db=table), list)
        assert row[0] == 1
        txn.put(b"identity", meta.pack([row[0] + 1, *row[1:]]), db=table)
    env.close()
    before = digest(journal / "data.mdb")
    line = refused_start(stopped)
    assert "newer" in line or "format" in line, line
    assert digest(journal / "data.mdb") == before


@pytest.mark.parametrize("clean", [True, False], ids=["after a stop", "after a crash"])
def test_a_truncated_journal_is_refused_and_not_touched(clean, stopped, tmp_path):
    data = tmp_path / "journal" / "data.mdb"
    if not clean:
        stopped.start()
        assert send(stopped).status == 200
        stopped.kill()
    with data.open("r+b") as f:
        f.truncate(data.stat().st_size // 2)
    before = digest(data)
    assert "truncated" in refused_start(stopped)
    assert digest(data) == before


@pytest.mark.parametrize("content", [b"", b"not a journal\n" * 1000, b"\0" * 8192], ids=["empty", "text", "zeros"])
def test_a_file_that_is_no_journal_is_refused_and_not_touched(content, tmp_path):
    daemon = Daemon(tmp_path, config())
    (tmp_path / "journal").mkdir()
    data = tmp_path / "journal" / "data.mdb"
    data.write_bytes(content)
    assert "not an LMDB file" in refused_start(daemon)
    assert data.read_bytes() == content


def test_a_journal_that_became_larger_than_its_limit_is_refused_with_the_way_out(tmp_path):
    with Daemon(tmp_path, config(more='[journal]\npath = "journal"\nmax_size = "64MiB"')) as daemon:
        for _ in range(30):
            assert send(daemon, b"x" * 900_000).status == 200
        daemon.stop(signal.SIGINT)
        daemon.write(config(more='[journal]\npath = "journal"\nmax_size = "16MiB"'))
        assert "journal.max_size" in refused_start(daemon)
        daemon.write(config(more='[journal]\npath = "journal"\nmax_size = "64MiB"'))
        daemon.start()
        assert daemon.pending() == 30


def test_a_journal_directory_that_is_a_file_is_refused(tmp_path):
    daemon = Daemon(tmp_path, config())
    (tmp_path / "journal").write_text("")
    assert "journal" in refused_start(daemon)


@needs_strace
@pytest.mark.parametrize(("there", "call", "error", "path", "first"), FAILING, ids=str)
def test_a_disk_that_fails_while_a_journal_is_opened_is_told_in_one_line(there, call, error, path, first, tmp_path):
    """And the next start, on a sound disk, works."""
    if there:
        Journal.open(JournalOptions(path=str(tmp_path / "journal"), max_size_bytes=1 << 30), Clock()).close()
    code = getattr(errno, error)
    tracer = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", str(tmp_path / path), "-e", f"trace={call}", "-e")
    fault = f"inject={call}:error={error}:when={first}+"
    line = refused_start(Daemon(tmp_path, config(), command=(*tracer, fault, sys.executable, "-m", "sidecar")))
    assert f"{tmp_path}/journal" in line
    assert os.strerror(code) in line
    with Daemon(tmp_path, config()) as sound:
        assert send(sound).status == 200


def test_a_full_journal_refuses_loses_nothing_and_takes_webhooks_again_by_itself(tmp_path):
    port = free_port()
    small = config(f"http://127.0.0.1:{port}", '[journal]\npath = "journal"\nmax_size = "16MiB"')
    with Daemon(tmp_path, small) as daemon:
        accepted: dict[str, str] = {}
        body_of: dict[str, bytes] = {}
        for n in range(400):
            body = b"%06d" % n + fresh_id().encode() * 6000
            answer = send(daemon, body)
            if answer.status != 200:
                break
            accepted[id_of(answer)] = hashlib.sha256(body).hexdigest()
            body_of[id_of(answer)] = body
        assert (answer.status, answer.code) == (503, "storage_full"), (answer, len(accepted))
        assert int(answer.headers["retry-after"]) >= 1
        assert len(accepted) > 50, "there was room for most of 16 MiB"
        assert daemon.admin("GET", "/readyz")[0] == 503
        assert b"storage_full" in daemon.admin("GET", "/readyz?verbose")[1]
        assert daemon.admin("GET", "/livez")[0] == 200, "a restart would not help"
        for _ in range(20):  # a small one does not slip in either, or if it does it is kept
            small_answer = send(daemon)
            if small_answer.status == 200:
                accepted[id_of(small_answer)] = hashlib.sha256(b"{}").hexdigest()
            else:
                assert small_answer.code == "storage_full"
        scrape = daemon.scrape()
        assert scrape.value("received_total", source="github", outcome="storage_full") >= 1
        assert scrape.value("journal_used_bytes") <= scrape.value("journal_capacity_bytes") == 16 << 20
        # A full journal can still settle: the backend comes back and everything arrives.
        with Sink(port=port) as sink:
            eventually(lambda: daemon.pending() == 0, timeout_s=40, what="drained")
            got = {r.event_id: hashlib.sha256(r.body).hexdigest() for r in sink.requests}
            assert got == accepted
            assert Counter(sink.ids()).most_common(1)[0][1] == 1
            eventually(lambda: daemon.admin("GET", "/readyz")[0] == 200, what="ready again")
            for _ in range(15):  # twice its size, pruning as it goes; a backend that lags behind would fill it again
                more = [send(daemon, b"y" * 90_000).status for _ in range(20)]
                assert Counter(more) == {200: 20}
                eventually(lambda: daemon.pending() < 10, timeout_s=30)
            eventually(lambda: daemon.pending() == 0, timeout_s=30)
        assert daemon.audit()["ok"]


def test_a_repeat_is_answered_though_the_journal_is_full(tmp_path):
    small = config(more='[journal]\npath = "journal"\nmax_size = "16MiB"')
    with Daemon(tmp_path, small) as daemon:
        request = framed("/github", b"{}", github(b"{}", SECRET, "known"))
        with Raw(daemon.port) as raw:
            first = raw.send(request).answer()
        for _ in range(400):
            if send(daemon, b"x" * 200_000).status != 200:
                break
        with Raw(daemon.port) as raw:
            again = raw.send(request).answer()
        if again.status == 200:
            assert id_of(again) == id_of(first)
            assert again.headers["idempotent-replayed"] == "true"
        else:
            assert again.code == "storage_full", "refused is fine too: the provider comes again"


def test_a_restart_goes_on_where_it_was(tmp_path):
    """What waits for a retry keeps its attempts, what was delivered is not delivered again, nothing is forgotten."""
    failing_twice = Sink(lambda r: 500 if b"fail" in r.body and r.attempt < 3 else 200)
    with failing_twice as sink, Daemon(tmp_path, config(sink.url)) as daemon:
        done = [id_of(send(daemon)) for _ in range(10)]
        eventually(lambda: daemon.pending() == 0)
        failing = id_of(send(daemon, b"fail", "/slow"))
        eventually(lambda: sink.ids().count(failing) == 1)
        eventually(lambda: daemon.api(f"events/{failing}")["deliveries"][0]["attempts"] == 1)
        for end in (lambda: daemon.stop(signal.SIGINT), daemon.kill):
            end()
            daemon.start()
        eventually(lambda: daemon.pending("slow") == 0, timeout_s=20)
        attempts = [r.attempt for r in sink.requests if r.event_id == failing]
        assert attempts == [1, 2, 3]
        assert Counter(i for i in sink.ids() if i in done) == Counter(done)
        assert daemon.audit()["ok"]
        assert daemon.scrape().total("enqueued_total") == 11, "the books go on, too"


def test_events_that_were_only_accepted_are_delivered_by_the_next_process(tmp_path):
    port = free_port()
    with Daemon(tmp_path, config(f"http://127.0.0.1:{port}")) as daemon:
        ids = [id_of(send(daemon, b"%d" % n)) for n in range(50)]
        daemon.kill()
        daemon.start()
        with Sink(port=port) as sink:
            eventually(lambda: daemon.pending() == 0, timeout_s=20)
            assert Counter(sink.ids()) == Counter(ids)
            assert {r.body for r in sink.requests} == {b"%d" % n for n in range(50)}


def test_a_record_that_rotted_is_set_aside_and_the_rest_goes_on(tmp_path):
    """Bits flip in one event's body on disk: that one is quarantined, counted, and never delivered wrong."""
    port = free_port()
    marker = b"rot-me-" + fresh_id().encode()
    with Daemon(tmp_path, config(f"http://127.0.0.1:{port}")) as daemon:
        good = [id_of(send(daemon, b"good-%d" % n)) for n in range(3)]
        bad = id_of(send(daemon, marker * 300))
        good += [id_of(send(daemon, b"more-%d" % n)) for n in range(3)]
        daemon.stop(signal.SIGINT)
        data = tmp_path / "journal" / "data.mdb"
        content = bytearray(data.read_bytes())
        at, flipped = content.find(marker), 0
        while at >= 0:
            content[at] ^= 0x40
            flipped += 1
            at = content.find(marker)
        assert flipped >= 1
        data.write_bytes(bytes(content))
        daemon.start()
        with Sink(port=port) as sink:
            eventually(lambda: set(good) <= set(sink.ids()), timeout_s=20)
            assert bad not in sink.ids()
            assert not [r for r in sink.requests if marker[:4] in r.body]
            assert daemon.api("status")["journal"]["quarantined"] >= 1
            assert daemon.scrape().value("journal_quarantined_total") >= 1
            assert send(daemon).status == 200
            assert daemon.admin("GET", "/readyz")[0] == 200


def test_a_backup_is_a_journal_of_its_own(tmp_path):
    """Taken while it runs; the copy starts, has everything, and gives ids that the original never gives."""
    with Sink() as sink, Daemon(tmp_path, config(sink.url)) as daemon:
        ids = [id_of(send(daemon)) for _ in range(5)]
        eventually(lambda: daemon.pending() == 0)
        copy = tmp_path / "copy"
        status, answer = daemon.admin("POST", "/api/v1/journal/backup", {"path": str(copy)})
        assert status == 200, answer
        folder = tmp_path / "other"
        folder.mkdir()
        with Daemon(folder, config(sink.url, f'[journal]\npath = "{copy}"')) as other:
            assert [e["id"] for e in other.api("events")["events"]] == list(reversed(ids))
            mine, theirs = id_of(send(daemon)), id_of(send(other))
            assert mine[14:] != theirs[14:], "two journals never give one id"
        assert daemon.admin("POST", "/api/v1/journal/backup", {"path": str(copy)})[0] == 409, "nothing is overwritten"
        assert json.loads(answer)["bytes"] > 0
