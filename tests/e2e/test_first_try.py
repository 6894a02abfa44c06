"""The first five minutes: the example configuration runs as it is, and the line it prints is a webhook that arrives once."""

from __future__ import annotations

import http.client
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.daemon import Daemon, eventually, free_port
from tests.support.senders import github

EXAMPLE = Path(__file__).resolve().parents[2] / "config.example.toml"


def read_until(process: subprocess.Popen[str], wanted: str) -> list[str]:
    """Everything the process says, up to the line that has this in it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            return lines
    raise AssertionError("it ended before it said " + wanted + ":\n" + "".join(lines))


def paste(line: str) -> http.client.HTTPResponse:
    """Do what curl would do with the line."""
    words = shlex.split(line)
    url = urlsplit(next(w for w in words if w.startswith("http://")))
    headers = dict(w.split(": ", 1) for i, w in enumerate(words) if words[i - 1] == "-H")
    connection = http.client.HTTPConnection(url.netloc, timeout=10)
    connection.request("POST", url.path, words[words.index("--data-binary") + 1].encode(), headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_the_line_to_paste_is_acknowledged_and_arrives_once(tmp_path):
    shutil.copy(EXAMPLE, tmp_path)
    echo = f"127.0.0.1:{free_port()}"
    env = {
        **os.environ,
        "PYTHONPATH": str(EXAMPLE.parent),
        # Other ports than the example's own, which somebody may be trying out on this machine.
        "WEBHOOK_SIDECAR__SERVER__LISTEN": f"127.0.0.1:{free_port()}",
        "WEBHOOK_SIDECAR__ADMIN__LISTEN": f"127.0.0.1:{free_port()}",
        "WEBHOOK_SIDECAR__DESTINATIONS__ECHO__URL": f"http://{echo}{{path}}",
    }
    command = [sys.executable, "-m", "sidecar", "run", "--config", "config.example.toml", "--with-echo", echo]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said = read_until(process, '"msg":"ready"')
        line = next(x for x in said if x.startswith("curl "))
        first = paste(line)
        event_id = first.getheader("Webhook-Sidecar-Event-Id")
        assert first.status == 200
        assert event_id is not None
        said = read_until(process, f"event-id {event_id}")
        again = paste(line)
        assert (again.status, again.getheader("Webhook-Sidecar-Event-Id")) == (200, event_id)
        assert again.getheader("Idempotent-Replayed") == "true"
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        rest = process.stdout.read()  # to its end, so the process has ended its life
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.communicate()
    assert "--> POST" not in rest, "the second paste must not arrive"
    assert '"left_pending":0' in rest


def test_the_echo_shows_no_secret_of_the_configuration(tmp_path):
    """Neither what a source takes for proof nor what a destination is given along."""
    port = free_port()
    config = f"""
[sources.s]
path = "/s"
verify = {{ scheme = "token", header = "X-Gate" }}
secrets = [{{ value = "canary-gate" }}]
destinations = ["echo"]
[destinations.echo]
url = "http://127.0.0.1:{port}"
headers = {{ X-Internal = {{ env = "INTERNAL" }}, X-Tenant = "blue" }}
"""
    run = f'exec "$@" --with-echo 127.0.0.1:{port}'
    command = ("bash", "-c", run, "bash", sys.executable, "-m", "sidecar")
    with Daemon(tmp_path, config, command=command, env={"INTERNAL": "canary-internal"}) as daemon:
        assert daemon.post("/s", b"{}", {"X-Gate": "canary-gate"})[0] == 200
        eventually(lambda: daemon.metric("settled_total", destination="echo", outcome="delivered") == 1)
        printed = daemon.log.read_text()
    for line in ("X-Gate: ****", "X-Internal: ****", "X-Tenant: blue"):
        assert f"    {line}\n" in printed
    assert "canary" not in printed


@pytest.mark.parametrize("redirected", ["> >(true)", ">/dev/full"])
def test_nobody_has_to_read_what_the_echo_prints(redirected, tmp_path):
    """``run --with-echo | head -1``, or onto a full disk: webhooks are taken and delivered all the same."""
    port = free_port()
    config = f"""
[sources.s]
path = "/s"
verify = "github"
secrets = [{{ value = "first" }}]
destinations = ["echo"]
[destinations.echo]
url = "http://127.0.0.1:{port}"
"""
    run = f'exec "$@" --with-echo 127.0.0.1:{port} {redirected}'
    with Daemon(tmp_path, config, command=("bash", "-c", run, "bash", sys.executable, "-m", "sidecar")) as daemon:
        assert daemon.post("/s", b"{}", github(b"{}", "first"))[0] == 200
        eventually(lambda: daemon.metric("settled_total", destination="echo", outcome="delivered") == 1)
