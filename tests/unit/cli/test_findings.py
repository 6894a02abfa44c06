"""What the doctor finds."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from sidecar.cli import findings
from sidecar.cli.findings import Finding, examine
from sidecar.config.load import load_settings
from sidecar.config.settings import Settings
from tests.support.backends import Certificates, make_certificates

CONFIG = """
[server]
listen = "127.0.0.1:{port}"
[admin]
listen = "127.0.0.1:0"
[sources.a]
path = "/a"
max_body = "64KiB"
verify = "github"
secrets = [{{ value = "x" }}]
destinations = ["tcp", "unix"]
[destinations.tcp]
url = "http://127.0.0.1:{backend}{{path}}"
[destinations.unix]
url = "unix:{folder}/app.sock:/in"
[journal]
max_size = "16MiB"
[dead_letters]
max_size = "1MiB"
"""


@pytest.fixture
def backend():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


@pytest.fixture
def settings(tmp_path: Path, backend: int) -> Settings:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.format(port=0, backend=backend, folder=tmp_path))
    return load_settings(str(config), env={})


def found(settings: Settings) -> dict[str, Finding]:
    return {f.check: f for f in examine(settings)}


def test_sound_surroundings_are_ok(settings, tmp_path):
    with socket.socket(socket.AF_UNIX) as app:
        app.bind(str(tmp_path / "app.sock"))
        app.listen()
        report = found(settings)
    assert {c for c, f in report.items() if f.verdict == "fail"} == set()
    assert report["destination tcp"].verdict == "ok"
    assert report["destination unix"].verdict == "ok"
    assert report["journal fsync"].verdict in {"ok", "warn"}
    assert report["server.listen"].verdict == "ok"


def test_a_backend_that_is_down_is_a_warning_only(settings):
    finding = found(settings)["destination unix"]
    assert finding.verdict == "warn"
    assert finding.found == "not reachable: no such file or directory"


def test_a_dead_letter_folder_that_goes_away_under_a_daemon_fails(settings, monkeypatch):
    """Before the first start it is merely not made yet."""
    assert found(settings)["dead letters"].verdict in {"ok", "warn"}
    monkeypatch.setattr(findings, "_is_running", lambda _: True)
    finding = found(settings)["dead letters"]
    assert (finding.verdict, "is gone" in finding.found) == ("fail", True)
    os.makedirs(settings.dead_letters.path)
    assert found(settings)["dead letters"].verdict in {"ok", "warn"}


def test_something_else_in_the_place_of_the_dead_letter_folder_fails(settings):
    path = Path(settings.dead_letters.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("not a folder")
    assert found(settings)["dead letters"].found == f"{path} is not a folder"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(
    ("served", "host", "trusted", "verdict", "words"),
    [
        ("good", "localhost", True, "warn", "expires in "),  # it is valid for two days
        ("good", "localhost.", True, "warn", "expires in "),  # as deliveries take it
        ("good", "localhost", False, "warn", "TLS: "),
        ("expired", "localhost", True, "warn", "TLS: "),
        ("elsewhere", "localhost", True, "warn", "TLS: "),
    ],
)
def test_a_backend_is_judged_as_deliveries_judge_it(
    settings, certificates, monkeypatch, served, host, trusted, verdict, words
):
    dial = socket.create_connection  # not every resolver knows "localhost."
    monkeypatch.setattr(socket, "create_connection", lambda to, **more: dial((to[0].rstrip("."), to[1]), **more))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with (
                contextlib.suppress(OSError),
                certificates.context(served).wrap_socket(connection, server_side=True) as s,
            ):
                s.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        http = settings.destinations[0].http
        url = f"https://{host}:{listener.getsockname()[1]}/in"
        http = msgspec.structs.replace(http, url=url, ca_file=certificates.ca if trusted else None)
        destination = msgspec.structs.replace(settings.destinations[0], http=http)
        finding = found(msgspec.structs.replace(settings, destinations=(destination,)))["destination tcp"]
        thread.join()
    assert finding.verdict == verdict
    assert words in finding.found
    assert finding.fix


def test_a_certificate_with_time_left_is_fine():
    class Peer:
        def getpeercert(self) -> dict[str, str]:
            return {"notAfter": "Jan  1 00:00:00 2099 GMT"}

    assert findings._certificate("it", Peer()) == Finding("it", "ok", "reachable over TLS")


def test_a_taken_port_fails(settings, backend):
    taken = msgspec.structs.replace(
        settings, server=msgspec.structs.replace(settings.server, listen=f"127.0.0.1:{backend}")
    )
    assert found(taken)["server.listen"].verdict == "fail"


def test_too_few_file_descriptors_fail(settings, monkeypatch):
    """The hard limit counts: the daemon raises the soft one itself."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    finding = found(settings)["file descriptors"]
    assert finding.verdict == "fail"
    assert "ulimit -Hn" in finding.fix
    for hard in (1 << 20, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, hard=hard: (256, hard))
        assert found(settings)["file descriptors"].verdict == "ok"


@pytest.mark.parametrize(("kind", "verdict"), [("nfs4", "fail"), ("fuse.s3", "fail"), ("tmpfs", "warn"), ("xfs", "ok")])
def test_the_file_system_must_be_local(settings, monkeypatch, kind, verdict):
    monkeypatch.setattr(findings, "file_system_type", lambda _: kind)
    assert found(settings)["journal"].verdict == verdict


class Volume:
    f_frsize = 1
    f_blocks = 17 << 20
    f_bavail = 1 << 20


def test_a_volume_that_is_too_small_or_full_is_named(settings, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda _: Volume())
    report = found(settings)
    assert report["journal size"].verdict == "warn"
    Volume.f_blocks, Volume.f_bavail = 1 << 40, 1
    assert found(settings)["journal size"].verdict == "fail"


def test_journal_and_dead_letters_on_one_volume_count_together(settings, monkeypatch):
    """Each alone would fit into 80 % of it."""

    class Shared(Volume):
        f_blocks = f_bavail = 21 << 20

    monkeypatch.setattr(os, "statvfs", lambda _: Shared())
    report = found(settings)
    assert {report[f"{what} size"].verdict for what in ("journal", "dead letters")} == {"warn"}
    assert "17.0 MiB with what else of ours is there" in report["dead letters size"].found
    devices = iter(range(10))
    real = os.stat

    def elsewhere(path, **more):
        status = real(path, **more)
        fields = list(status)
        fields[2] = next(devices)
        return os.stat_result(fields)

    monkeypatch.setattr(os, "stat", elsewhere)
    report = found(settings)
    assert {report[f"{what} size"].verdict for what in ("journal", "dead letters")} == {"ok"}


def test_a_folder_that_cannot_be_written_fails(settings, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert found(settings)["journal"].verdict == "fail"


def test_a_clock_in_the_past_fails(monkeypatch):
    class Old:
        def wall_ms(self) -> int:
            return 1_000_000_000_000

    monkeypatch.setattr(findings, "Clock", Old)
    assert findings._clock().verdict == "fail"


@pytest.mark.parametrize(("synchronised", "verdict"), [(True, "ok"), (None, "ok"), (False, "warn")])
def test_a_clock_that_nothing_keeps_right_is_a_warning(monkeypatch, synchronised, verdict):
    monkeypatch.setattr(findings, "_is_synchronised", lambda: synchronised)
    assert findings._clock().verdict == verdict


@pytest.mark.parametrize(("state", "synchronised"), [(0, True), (5, False), (-1, None)])
def test_the_kernel_says_whether_the_clock_is_kept_right(monkeypatch, state, synchronised):
    monkeypatch.setattr(findings.ctypes, "CDLL", lambda _: SimpleNamespace(adjtimex=lambda _: state))
    assert findings._is_synchronised() is synchronised
    monkeypatch.setattr(findings.ctypes, "CDLL", lambda _: SimpleNamespace())
    assert findings._is_synchronised() is None


def test_this_kernel_can_be_asked():
    assert hasattr(ctypes.CDLL(None), "adjtimex") == (findings._is_synchronised() is not None)


def test_a_long_stop_is_a_warning(settings):
    slow = msgspec.structs.replace(settings, drain=msgspec.structs.replace(settings.drain, accept_for_s=60.0))
    assert findings._grace(slow).verdict == "warn"
