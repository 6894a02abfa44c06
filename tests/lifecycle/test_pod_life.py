"""Pods come and go while webhooks arrive: nothing that was acknowledged is lost, and every stop is within its grace."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.daemon import REPOSITORY, Daemon, eventually, free_port
from tests.support.kubelet import Provider, drain, end_pod
from tests.support.senders import at_once, fresh_id, github
from tests.support.sink import Sink

SECRET = "lifecycle-test"
CONFIG = """
[drain]
accept_for = "{accept_for}"
lease = "{lease}"
[journal]
path = "journal"
ephemeral = {ephemeral}
[sources.github]
path = "/github"
verify = "github"
secrets = [{secrets}]
destinations = ["app"]
[destinations.app]
url = "{url}/in"
timeout = "5s"
[destinations.app.retry]
base = "200ms"
max_attempts = 20
"""


def config(
    url: str, *, accept_for: str = "300ms", lease: str = "30s", ephemeral: bool = False, secrets: str = ""
) -> str:
    secrets = secrets or f'{{ value = "{SECRET}" }}'
    return CONFIG.format(url=url, accept_for=accept_for, lease=lease, ephemeral=str(ephemeral).lower(), secrets=secrets)


def send(daemon: Daemon, delivery: str = "") -> str:
    status, headers, body = daemon.post("/github", b"{}", github(b"{}", SECRET, delivery or fresh_id()))
    assert status == 200, body
    return headers["webhook-sidecar-event-id"]


def missing(provider: Provider, *sinks: Sink) -> set[str]:
    """Acknowledged events that have arrived nowhere."""
    return set(provider.acknowledged.values()) - {event_id for sink in sinks for event_id in sink.ids()}


def nothing_is_missing(provider: Provider, *sinks: Sink) -> None:
    assert len(provider.acknowledged) > 50, "there was no load"
    eventually(lambda: not missing(provider, *sinks), 60, "every acknowledged event at the app")


# --- gateway mode: a volume, one Pod after the other


def test_a_gateway_is_rolled_under_load(tmp_path: Path) -> None:
    """Three times: stopped in order, the next one on the same volume. A provider sees 200, 503 or nobody, and repeats."""
    with Sink() as sink, Daemon(tmp_path, config(sink.url)) as daemon:
        with Provider(lambda: daemon.port, SECRET) as provider:
            for _ in range(3):
                before = len(provider.acknowledged)
                eventually(lambda: len(provider.acknowledged) > before + 30, 60)  # noqa: B023 - called at once
                end_pod(daemon)
                daemon.start(60)
        nothing_is_missing(provider, sink)
        assert set(provider.answers) <= {200, 503, 0}
        assert daemon.audit()["ok"]


def test_a_gateway_is_stopped_in_the_middle_of_a_backlog(tmp_path: Path) -> None:
    """What can be delivered in time is, the rest waits on the volume for the next one."""
    port = free_port()
    with Daemon(tmp_path, config(f"http://127.0.0.1:{port}")) as daemon:
        ids = {send(daemon) for _ in range(120)}
        with Sink(port=port, delay_s=0.2) as slow:
            eventually(lambda: len(slow.ids()) > 5, 60, "deliveries have begun")
            took_s = end_pod(daemon)
            done = set(slow.ids())
            print(f"stopped after {took_s:.1f} s with {len(ids - done)} of {len(ids)} left")
        with Sink(port=port) as sink:
            daemon.start(60)
            eventually(lambda: ids <= done | set(sink.ids()), 60, "the rest")
            eventually(lambda: daemon.pending() == 0, 30)
            assert daemon.audit()["ok"]


def test_a_backend_that_is_gone_first_holds_up_no_stop(tmp_path: Path) -> None:
    """There is nobody to deliver to, so nothing is waited for, and nothing dies of it."""
    port = free_port()
    with Daemon(tmp_path, config(f"http://127.0.0.1:{port}")) as daemon:
        with Sink(port=port):
            send(daemon)
            eventually(lambda: daemon.pending() == 0, 30)
        ids = {send(daemon) for _ in range(40)}
        eventually(lambda: daemon.lane()["held"], 30, "held")
        assert end_pod(daemon) < 15
        with Sink(port=port) as sink:
            daemon.start(60)
            eventually(lambda: ids <= set(sink.ids()), 60, "delivered by the next one")
            assert daemon.api("dead-letters")["dead_letters"] == []


def test_a_volume_is_attached_somewhere_else(tmp_path: Path) -> None:
    """The node is gone without a word; another Pod with other addresses opens the same volume, and knows what was there."""
    port = free_port()
    first = Daemon(tmp_path, config(f"http://127.0.0.1:{port}"))
    with first:
        ids = {send(first) for _ in range(30)}
        repeat = fresh_id()
        known = send(first, repeat)
        first.kill()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "journal").rename(elsewhere / "journal")
    with Sink(port=port) as sink, Daemon(elsewhere, config(f"http://127.0.0.1:{port}")) as second:
        assert second.port != first.port
        assert send(second, repeat) == known, "still known as a repeat"
        eventually(lambda: ids | {known} <= set(sink.ids()), 60, "delivered elsewhere")
        assert sink.ids().count(known) == 1
        assert second.audit()["ok"]


# --- sidecar mode: the app in the same Pod


def test_pods_with_ephemeral_journals_are_rolled_under_load(tmp_path: Path) -> None:
    """A new Pod comes up, the old one drains into its own app and takes nothing more; its journal is thrown away."""
    pods: list[tuple[Daemon, Sink]] = []

    def start(number: int) -> None:
        sink = Sink()
        daemon = Daemon(_folder(tmp_path / f"pod-{number}"), config(sink.url, ephemeral=True))
        daemon.start(60)
        pods.append((daemon, sink))

    start(0)
    try:
        with Provider(lambda: pods[-1][0].port, SECRET) as provider:
            for number in (1, 2):
                before = len(provider.acknowledged)
                eventually(lambda: len(provider.acknowledged) > before + 30, 60)  # noqa: B023 - called at once
                old_daemon, old_sink = pods[-1]
                start(number)
                end_pod(old_daemon, end_app=old_sink.close)
                shutil.rmtree(old_daemon.folder / "journal")
        nothing_is_missing(provider, *(sink for _, sink in pods))
        assert set(provider.answers) <= {200, 503, 0}
    finally:
        for daemon, _ in pods:
            daemon.kill()
        pods[-1][1].close()


def test_a_pod_that_is_lost_with_its_journal_is_noticed(tmp_path: Path) -> None:
    """The negative control: without a drain an ephemeral journal does lose events, and the check above says so."""
    with Sink(delay_s=0.5) as sink, Daemon(tmp_path, config(sink.url, ephemeral=True)) as daemon:
        with Provider(lambda: daemon.port, SECRET) as provider:
            eventually(lambda: len(provider.acknowledged) > 100, 60)
        daemon.kill()
        shutil.rmtree(tmp_path / "journal")
        daemon.start(60)
        assert daemon.pending() == 0
        assert missing(provider, sink)


def test_only_the_app_is_restarted(tmp_path: Path) -> None:
    """Its liveness probe failed: its preStop drains us, no SIGTERM follows, and the lease ends the drain."""
    port = free_port()
    with Daemon(tmp_path, config(f"http://127.0.0.1:{port}", lease="2s")) as daemon:
        app = Sink(port=port)
        sinks = [app]
        with Provider(lambda: daemon.port, SECRET) as provider:
            eventually(lambda: len(provider.acknowledged) > 30, 60)
            assert drain(daemon, "2s") == 200
            assert daemon.admin("GET", "/readyz")[0] == 503
            app.close()
            eventually(lambda: provider.answers[503] > 0, 30, "senders are told to come again")
            app = Sink(port=port)
            sinks.append(app)
            assert daemon.admin("GET", "/livez")[0] == 200, "we are not restarted with it"
            eventually(lambda: daemon.admin("GET", "/readyz")[0] == 200, 30, "the lease is over")
            before = len(provider.acknowledged)
            eventually(lambda: len(provider.acknowledged) > before + 30, 60, "webhooks are taken again")
        nothing_is_missing(provider, *sinks)
        app.close()


def test_two_hooks_at_once_are_both_told_when_all_is_delivered(tmp_path: Path) -> None:
    """A Pod with two app containers: neither waits longer than the deliveries do."""
    with Sink(delay_s=1.0) as sink, Daemon(tmp_path, config(sink.url)) as daemon:
        send(daemon)
        eventually(sink.ids, 30)
        began_s = time.monotonic()
        assert at_once([lambda: drain(daemon, "40s"), lambda: drain(daemon, "40s")]) == [200, 200]
        assert time.monotonic() - began_s < 20
        assert daemon.pending() == 0


def test_a_hook_without_its_header_stops_nothing(tmp_path: Path) -> None:
    """A page or a forged request that reaches the admin port must not be able to."""
    with Daemon(tmp_path, config("http://127.0.0.1:1")) as daemon:
        assert daemon.admin("GET", "/-/drain")[0] == 403
        assert daemon.admin("GET", "/readyz")[0] == 200
        send(daemon)


# --- versions


def another_version(folder: Path, version: str, **constants: int) -> Sequence[str]:
    """A copy of the program with another version number, and where asked another format of the journal."""
    shutil.copytree(REPOSITORY / "sidecar", folder / "sidecar", ignore=shutil.ignore_patterns("__pycache__"))
    init = folder / "sidecar" / "__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', init.read_text()))
    records = folder / "sidecar" / "journal" / "records.py"
    for name, value in constants.items():
        records.write_text(re.sub(rf"^{name} = .*$", f"{name} = {value}", records.read_text(), flags=re.MULTILINE))
    start = f"import sys; sys.path.insert(0, {str(folder)!r}); from sidecar.__main__ import main; main()"
    return (sys.executable, "-c", start)


def test_an_upgrade_takes_over_what_the_old_version_left(tmp_path: Path) -> None:
    port = free_port()
    old = another_version(_folder(tmp_path / "old"), "0.0.1")
    daemon = Daemon(_folder(tmp_path / "pod"), config(f"http://127.0.0.1:{port}"), command=old)
    with daemon:
        assert daemon.api("status")["version"] == "0.0.1"
        ids = {send(daemon) for _ in range(30)}
        end_pod(daemon)
    with Sink(port=port) as sink, Daemon(daemon.folder, config(f"http://127.0.0.1:{port}")) as new:
        assert new.api("status")["version"] != "0.0.1"
        eventually(lambda: ids <= set(sink.ids()), 60)
        assert new.audit()["ok"]


def test_a_downgrade_is_refused_and_the_newer_version_goes_on(tmp_path: Path) -> None:
    """The old version cannot read the newer journal: it ends with 74 and changes nothing."""
    port = free_port()
    newer = another_version(_folder(tmp_path / "newer"), "9.0.0", FORMAT=2)
    folder = _folder(tmp_path / "pod")
    with Daemon(folder, config(f"http://127.0.0.1:{port}"), command=newer) as daemon:
        ids = {send(daemon) for _ in range(10)}
        end_pod(daemon)
    data = folder / "journal" / "data.mdb"
    before = data.read_bytes()
    old = Daemon(folder, config(f"http://127.0.0.1:{port}"))
    old.launch()
    assert old.wait(30) == 74
    assert "format 2" in old.tail()
    assert data.read_bytes() == before
    with Sink(port=port) as sink, Daemon(folder, config(f"http://127.0.0.1:{port}"), command=newer):
        eventually(lambda: ids <= set(sink.ids()), 60)


# --- configuration and secrets, mounted as Kubernetes does


class Mount:
    """A ConfigMap's or Secret's volume: files are links to ``..data``, which is a link that the kubelet swaps."""

    def __init__(self, folder: Path, **files: str) -> None:
        self.folder = folder
        folder.mkdir()
        self._number = 0
        self.swap(**files)
        for name in files:
            (folder / name).symlink_to(f"..data/{name}")

    def swap(self, **files: str) -> None:
        """Bring new content, all files at once."""
        self._number += 1
        version = self.folder / f"..{self._number}"
        version.mkdir()
        for name, text in files.items():
            (version / name).write_text(text)
            (version / name).chmod(0o440)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.folder / "..data")


def test_a_secret_is_rotated_and_the_configuration_changed_while_webhooks_arrive(tmp_path: Path) -> None:
    """Noticed by nothing but the kubelet's swap of a link, or at once when asked; a broken configuration changes nothing."""
    with Sink() as sink:
        secrets = Mount(tmp_path / "secrets", old="old-secret", new="-")
        reference = '{{ id = "{0}", file = "{1}/{0}" }}'
        both = ", ".join(reference.format(name, secrets.folder) for name in ("new", "old"))
        only = reference.format("new", secrets.folder)
        daemon = Daemon(_folder(tmp_path / "pod"), config(sink.url, secrets=both))
        mount = Mount(tmp_path / "config", config=daemon.config.read_text())
        daemon.config.unlink()
        daemon.config.symlink_to(mount.folder / "config")
        with daemon, Provider(lambda: daemon.port, "old-secret") as provider:
            eventually(lambda: len(provider.acknowledged) > 30, 60)

            secrets.swap(old="old-secret", new="new-secret")
            eventually(lambda: daemon.logged("reloaded"), 30, "the new secret is there")
            provider.secret = "new-secret"
            before = len(provider.acknowledged)
            eventually(lambda: len(provider.acknowledged) > before + 30, 60, "signed with the new one")
            assert daemon.metric("signature_key_matched_total", source="github", key_id="new") > 0

            good = mount_text(daemon, config(sink.url, secrets=only))
            mount.swap(config=good.replace("[sources.github]", "[sources.github]\nverfy = 1"))
            assert daemon.admin("POST", "/-/reload")[0] == 422, "asked, so as not to wait for the next look"
            assert daemon.metric("config_last_reload_successful") == 0
            before = len(provider.acknowledged)
            eventually(lambda: len(provider.acknowledged) > before + 30, 60, "as if nothing had happened")

            mount.swap(config=good)
            assert daemon.admin("POST", "/-/reload")[0] == 200
            assert daemon.post("/github", b"{}", github(b"{}", "old-secret", fresh_id()))[0] == 401
            before = len(provider.acknowledged)
            eventually(lambda: len(provider.acknowledged) > before + 30, 60)
            provider.stop()
            assert set(provider.answers) == {200}, "not one webhook was refused"
            nothing_is_missing(provider, sink)
            os.kill(daemon.pid, signal.SIGTERM)
            assert daemon.wait() == 0


def mount_text(daemon: Daemon, text: str) -> str:
    """The whole configuration of a daemon with another text of sources and destinations."""
    whole = daemon.config.read_text()
    return whole[: whole.index("[drain]")] + text


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
