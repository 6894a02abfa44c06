"""A reload that fails at its last step shows nothing of the new configuration; one cut short by a kill loses nothing."""

from __future__ import annotations

import contextlib
import http.client
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_reload import POLLED_S, config, reload, replace, send, served
from tests.support.backends import make_certificates
from tests.support.daemon import REPOSITORY, Daemon, eventually
from tests.support.senders import Raw, framed, fresh_id, github
from tests.support.sink import Sink

COMMAND = (sys.executable, str(REPOSITORY / "tests" / "support" / "piecemeal.py"))


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


def shown(daemon: Daemon) -> dict[str, object]:
    """What senders and operators can see of the configuration in force."""
    return {
        "old path": send(daemon).status,
        "new path": send(daemon, path="/new").status,
        "new secret": send(daemon, "two").status,
        "sources": daemon.api("config")["sources"],
        "destinations": daemon.api("config")["destinations"],
    }


def changed_by_a_failed_reload(folder: Path, sink: Sink, bug: str) -> set[str]:
    """Change everything, with one backend that cannot be made; what shows of it."""
    with Daemon(folder, config({"app": sink.url}), command=COMMAND, env={"RELOAD_BUG": bug}) as daemon:
        before = shown(daemon)
        new = {"app": f"{sink.url}/elsewhere", "also": f"{sink.url}/cannot-be-made"}
        daemon.write(config(new, path="/new", secret='{ id = "two", value = "two" }'))
        status, answer = reload(daemon)
        assert (status, answer["ok"], len(answer["problems"])) == (422, False, 1)
        after = shown(daemon)
        assert daemon.metric("config_last_reload_successful") == 0
        # The same daemon takes a configuration that it can make.
        daemon.write(config({"app": sink.url}, path="/new"))
        assert reload(daemon)[0] == 200
        assert send(daemon, path="/new").status == 200
    return {what for what in before if before[what] != after[what]}


def test_a_reload_that_fails_at_its_last_step_changes_nothing(sink, tmp_path):
    assert changed_by_a_failed_reload(tmp_path, sink, "") == set()


def test_a_reload_piece_by_piece_is_caught(sink, tmp_path):
    assert {"old path", "new path"} <= changed_by_a_failed_reload(tmp_path, sink, "pieces")


class Renewed:
    """A daemon whose certificate is renewed in the middle of a reload: one half just then, the other one later."""

    def __init__(self, folder: Path, sink: Sink, first: str, moment: str, bug: str = "") -> None:
        made = folder / "made"
        made.mkdir()
        self.ca = make_certificates(made).ca
        self.files = {name: folder / f"tls.{name}" for name in ("crt", "key")}
        self.next = {"crt": (made / "elsewhere.pem").read_bytes(), "key": (made / "elsewhere.key").read_bytes()}
        replace(self.files["crt"], (made / "good.pem").read_bytes())
        replace(self.files["key"], (made / "good.key").read_bytes())
        server = f'tls = {{ cert = "{self.files["crt"]}", key = "{self.files["key"]}" }}'
        with Daemon(
            folder, config({"app": sink.url}), server=server, command=COMMAND, env={"RELOAD_BUG": bug}
        ) as daemon:
            replace(folder / f"tls.{first}.{moment}", self.next.pop(first))
            daemon.write(config({"app": sink.url, "also": sink.url}), server=server)
            self.answer = reload(daemon)[0]
            self.old_goes_on = served(daemon, self.ca, "localhost")
            self.shown = [d["name"] for d in daemon.api("config")["destinations"]]
            ((second, content),) = self.next.items()
            replace(self.files[second], content)
            eventually(lambda: served(daemon, self.ca, "example.com"), POLLED_S, "the next look takes the new pair")
            self.old_ended = not served(daemon, self.ca, "localhost")
            self.shown_then = [d["name"] for d in daemon.api("config")["destinations"]]


@pytest.mark.parametrize(
    ("first", "moment", "ends"),
    [
        ("crt", "before", (422, True, ["app"])),
        ("key", "before", (422, True, ["app"])),
        ("crt", "after", (200, True, ["app", "also"])),
    ],
)
def test_a_certificate_that_is_renewed_in_the_middle_of_a_reload_is_taken_over_whole(
    first, moment, ends, sink, tmp_path
):
    """Half a new pair refuses everything, or is too late; the next look, when both are there, takes everything."""
    world = Renewed(tmp_path, sink, first, moment)
    assert (world.answer, world.old_goes_on, world.shown) == ends
    assert (world.old_ended, world.shown_then) == (True, ["app", "also"])


def test_half_a_pair_in_the_context_that_listens_is_caught(sink, tmp_path):
    assert not Renewed(tmp_path, sink, "crt", "after", "half").old_goes_on


def test_a_bug_in_a_reload_does_not_end_the_watch_of_the_files(sink, tmp_path):
    with Daemon(tmp_path, config({"app": sink.url}), command=COMMAND) as daemon:
        daemon.write(config({"app": f"{sink.url}/meets-a-bug"}, path="/new"))
        eventually(lambda: daemon.logged("a background task failed"), POLLED_S, "the changed file was noticed")
        assert (send(daemon).status, send(daemon, path="/new").status) == (200, 404)
        daemon.write(config({"app": sink.url}, path="/new"))
        eventually(lambda: send(daemon, path="/new").status == 200, POLLED_S, "the next change is noticed, too")


def test_kills_in_the_middle_of_reloads_lose_nothing(sink, tmp_path):
    """The next start has the new file in force as a whole, and every acknowledged event."""
    forms = [config({"app": sink.url}), config({"app": sink.url, "also": sink.url}, secret='{ value = "one" }')]
    accepted: list[str] = []
    stop = threading.Event()
    daemon = Daemon(tmp_path, forms[0])

    def post() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, EOFError, AssertionError), Raw(daemon.port) as raw:
                while not stop.is_set():
                    answer = raw.send(framed("/github", b"{}", github(b"{}", "one", fresh_id()))).answer()
                    if answer.status == 200:
                        accepted.append(answer.headers["webhook-sidecar-event-id"])
            stop.wait(0.02)

    def ask() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            reload(daemon)

    with daemon:
        sender = threading.Thread(target=post)
        sender.start()
        try:
            for turn in range(1, 5):
                had = len(accepted)
                eventually(lambda had=had: len(accepted) > had, what="events come in")
                daemon.write(forms[turn % 2])
                asking = threading.Thread(target=ask)
                asking.start()
                time.sleep(random.uniform(0, 0.03))
                daemon.kill()
                asking.join()
                daemon.start()
                names = [d["name"] for d in daemon.api("config")["destinations"]]
                assert names == (["app", "also"] if turn % 2 else ["app"])
        finally:
            stop.set()
            sender.join()
        daemon.write(forms[1])  # both are there, so that everything can be delivered
        assert reload(daemon)[0] == 200
        eventually(lambda: daemon.pending("app") == daemon.pending("also") == 0, 30, "everything delivered")
        assert set(accepted) <= set(sink.ids())
        assert daemon.audit()["ok"]
