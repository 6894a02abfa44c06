"""The command itself: quick, honest about its help, exact about its exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sidecar import __main__ as entry
from sidecar.cli.app import COMMANDS, cli
from sidecar.cli.reference import cli_reference, metrics_reference
from sidecar.errors import ConfigError, SidecarError

ROOT = Path(__file__).resolve().parents[3]
CONTRACT = {
    "run", "check", "verify", "send", "dlq", "events", "status", "tail", "audit", "journal", "config", "doctor", "handshake",
    "healthcheck", "version",
}  # fmt: skip
GROUPS = {
    "dlq": {"ls", "show", "replay", "rm"},
    "events": {"ls", "show", "replay", "discard"},
    "journal": {"stats", "verify", "backup", "compact", "empty"},
    "config": {"init", "show", "schema"},
}


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def test_the_commands_are_those_of_the_contract():
    assert set(COMMANDS) == CONTRACT
    for name, subcommands in GROUPS.items():
        group = command(name)
        assert isinstance(group, click.Group)
        assert set(group.commands) == subcommands
    assert cli.get_command(click.Context(cli), "nothing") is None


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_says_what_it_does(name):
    assert command(name).help
    assert command(name).name == name


def test_help_imports_no_command_and_nothing_heavy():
    code = (
        "import sys; from sidecar.__main__ import main; main(['--help']);"
        "heavy = [m for m in ('aiohttp', 'lmdb', 'prometheus_client', 'msgspec', 'sidecar.journal') if m in sys.modules];"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)


@pytest.mark.parametrize("module", ["status", "events", "dlq", "audit", "journal"])
def test_client_commands_need_no_server_library(module):
    code = f"import sys, sidecar.cli.{module}; assert 'aiohttp' not in sys.modules and 'lmdb' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SidecarError("it broke", "mend it"), 1),
        (ConfigError("1 problem", "", ("a.toml:1:1: C101 x",)), 78),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (click.exceptions.Exit(5), 5),
        (click.UsageError("no"), 2),
    ],
)
def test_every_end_has_its_exit_code(monkeypatch, capsys, error, code):
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(entry.cli, "main", fail)
    assert entry.main([]) == code
    err = capsys.readouterr().err
    for text in getattr(error, "problems", ()):
        assert text in err
    if isinstance(error, SidecarError):
        assert f"error: {error.message}" in err


OFFLINE = """
[admin]
socket = "admin.sock"
[sources.s]
path = "/s"
verify = "github"
secrets = [{ value = "x" }]
destinations = ["app"]
[destinations.app]
url = "http://127.0.0.1:9"
"""


def test_a_reader_that_had_enough_is_no_failure():
    code = "from sidecar.__main__ import main; import sys; sys.exit(main(['config', 'init', '--full']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as p:
        assert p.stdout is not None
        assert p.stderr is not None
        p.stdout.close()
        assert p.stderr.read() == b""
        assert p.wait() == 0


@pytest.mark.parametrize("arguments", [["version"], ["--help"], ["config", "init", "--full"]], ids=" ".join)
def test_a_full_disk_behind_stdout_is_one_clear_line(arguments):
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sidecar", *arguments], stdout=full, stderr=subprocess.PIPE, check=False, cwd=ROOT
        )
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: stdout cannot be written: No space left on device\n  hint: ")
    assert done.stderr.count(b"\n") == 2, "and nothing more at the exit"


@pytest.mark.parametrize("arguments", [["version"], ["--help"]], ids=" ".join)
def test_a_pipe_that_nobody_reads_and_a_closed_stdout_are_quiet(arguments):
    command = [sys.executable, "-m", "sidecar", *arguments]
    read, write = os.pipe()
    os.close(read)
    piped = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, cwd=ROOT)
    os.close(write)
    assert (piped.returncode, piped.stderr) == (0, b"")
    closed = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command], stderr=subprocess.PIPE, check=False, cwd=ROOT
    )
    assert (closed.returncode, closed.stderr) == (0, b"")


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["check"], 0), (["status"], 69), (["dlq", "rm", "--all"], 69), (["check", "-c", "nothing"], 78)],
    ids=lambda a: " ".join(a) if isinstance(a, list) else str(a),
)
def test_closed_streams_change_no_exit_code(arguments, code, streams, tmp_path):
    (tmp_path / "config.toml").write_text(OFFLINE)
    command = ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "sidecar", *arguments]
    done = subprocess.run(
        command, capture_output=True, check=False, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("behind", ["/dev/full", "a pipe"])
def test_what_cannot_be_said_on_stderr_changes_no_exit_code(behind):
    command = [sys.executable, "-m", "sidecar", "check", "-c", "nothing"]
    read, stderr = os.pipe()
    os.close(read)
    if behind == "/dev/full":
        os.close(stderr)
        stderr = os.open(behind, os.O_WRONLY)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, check=False, cwd=ROOT)
    os.close(stderr)
    assert done.returncode == 78


def test_no_file_of_ours_takes_the_place_of_a_closed_stream():
    """LMDB and the interpreter itself write to number 2 when they fail."""
    code = (
        "from sidecar.cli.stdout import fill_closed; import os; fill_closed()\n"
        "fd = os.open('/dev/null', os.O_RDONLY)\n"
        "raise SystemExit(0 if fd > 2 and all(os.path.samestat(os.fstat(n), os.fstat(fd)) for n in range(3)) else 1)"
    )
    command = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(command, check=False, cwd=ROOT).returncode == 0


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8"])
def test_what_the_locale_cannot_write_is_escaped(encoding):
    code = (
        "from sidecar.cli.stdout import name_stdout; name_stdout()\n"
        "from sidecar.cli.output import say; say('\\u00e9 \\u6f22')"
    )
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, cwd=ROOT, env=env)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == "é 漢\n".encode(encoding, "backslashreplace")


def test_the_reference_pages_are_current():
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == cli_reference()
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == metrics_reference()
