"""CPU per event of the real daemon, beside nginx answering ``return 202``, in the same run.

    python tests/bench/bench_path.py [--seconds 6] [--connections 64 256]

Needs ``wrk`` and ``nginx`` (Debian packages). The server under test is pinned to one core, the load to the
other; user + sys come from /proc, which is stable where wall-clock rates on a shared machine are not. Every
request carries its own delivery id, so that each is verified, journaled and remembered as a new event.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import hmac
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.daemon import Daemon, free_port

BODY = json.dumps({"action": "opened", "pad": "x" * 990}).encode()
SECRET = b"bench"
TICK_S = 1 / os.sysconf("SC_CLK_TCK")

LUA = """
local n, thread = 0, 0
local base = math.floor(os.time()) % 100000
request = function()
  n = n + 1
  wrk.headers["X-GitHub-Delivery"] = base .. "-" .. tostring({}):sub(8) .. "-" .. n
  return wrk.format("POST", "/webhooks/github")
end
wrk.body = [[BODY]]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["X-GitHub-Event"] = "issues"
wrk.headers["User-Agent"] = "GitHub-Hookshot/044aadd"
wrk.headers["X-Hub-Signature-256"] = "sha256=SIGNATURE"
"""

SINK = """
import asyncio, sys, uvloop, httptools
class P(asyncio.Protocol):
    def connection_made(self, t): self.t = t; self.p = httptools.HttpRequestParser(self)
    def data_received(self, d): self.p.feed_data(d)
    def on_message_complete(self): self.t.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
async def main():
    s = await asyncio.get_running_loop().create_server(P, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await s.serve_forever()
uvloop.run(main())
"""


def cpu_s(pid: int) -> tuple[float, float]:
    """User and system CPU seconds of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) * TICK_S, int(fields[12]) * TICK_S


def anonymous_kib(pid: int) -> int:
    """RssAnon in KiB."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]


def wrk(url: str, connections: int, seconds: int, script: str) -> tuple[int, int]:
    """Run wrk on core 1; requests done, and how many of them were not 2xx."""
    out = subprocess.run(
        ["taskset", "-c", "1", "wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "-s", script, url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    done = int(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return done, int(bad[1]) if bad else 0


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[tuple[str, int]]:
    """An nginx with one worker on core 0 that reads the body's bytes and answers 202."""
    port = free_port()
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log /dev/null; worker_processes 1; worker_cpu_affinity 01;\n"
        f"events {{ worker_connections 1024; }}\nhttp {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder};\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ return 202; }} }} }}\n"
    )
    process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)])
    try:
        time.sleep(0.5)
        worker = int(subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True).split()[0])
        yield f"http://127.0.0.1:{port}/", worker
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """A fast backend on core 1."""
    port = free_port()
    process = subprocess.Popen(["taskset", "-c", "1", sys.executable, "-c", SINK, str(port)])
    try:
        time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def config(destinations: list[str]) -> str:
    """One GitHub source to so many destinations; with none reachable it is the ack alone."""
    names = [f"d{i}" for i in range(len(destinations))]
    text = (
        '[journal]\npath = "journal"\nmax_size = "8GiB"\n[log]\nlevel = "error"\n'
        f'[sources.code]\npath = "/webhooks/github"\nverify = "github"\nsecrets = [{{ value = "bench" }}]\n'
        f"destinations = {json.dumps(names)}\n"
    )
    for name, url in zip(names, destinations, strict=True):
        text += f'[destinations.{name}]\nurl = "{url}/in"\nconcurrency = 32\n'
    return text.replace('[log]\nlevel = "error"\n', "")


def measure(
    label: str, destinations: list[str], connections: int, seconds: int, script: str, *, settle: bool
) -> dict[str, float]:
    """Run the daemon on core 0 under load."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    daemon = Daemon(folder, config(destinations), command=("taskset", "-c", "0", sys.executable, "-m", "sidecar"))
    try:
        started = time.monotonic()
        daemon.start()
        ready_s = time.monotonic() - started
        idle_kib = anonymous_kib(daemon.pid)
        wrk(f"http://127.0.0.1:{daemon.port}/", connections, 1, script)
        before = cpu_s(daemon.pid)
        count0 = daemon.metric("received_total", outcome="accepted")
        _, bad = wrk(f"http://127.0.0.1:{daemon.port}/", connections, seconds, script)
        if settle:  # everything accepted in the window, delivered
            deadline = time.monotonic() + 120
            while daemon.api("status")["destinations"][0]["pending"] and time.monotonic() < deadline:
                time.sleep(0.05)
        after = cpu_s(daemon.pid)
        accepted = daemon.metric("received_total", outcome="accepted") - count0
        stats = daemon.api("status")["journal"]
        return {
            "user_us": (after[0] - before[0]) / accepted * 1e6,
            "sys_us": (after[1] - before[1]) / accepted * 1e6,
            "per_s": accepted / seconds,
            "not_2xx": bad,
            "largest_batch": stats["largest_batch"],
            "ready_s": ready_s,
            "idle_anon_mib": idle_kib / 1024,
            "anon_mib": anonymous_kib(daemon.pid) / 1024,
        }
    finally:
        daemon.kill()
        shutil.rmtree(folder)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 256])
    arguments = parser.parse_args()
    signature = hmac.new(SECRET, BODY, hashlib.sha256).hexdigest()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    script = folder / "load.lua"
    script.write_text(LUA.replace("BODY", BODY.decode(), 1).replace("SIGNATURE", signature))
    print(f"{'what':34} {'user':>6} {'sys':>6} {'sum us':>7} {'/s':>7} {'x nginx':>8} {'batch':>6} {'anon MiB':>9}")
    for connections in arguments.connections:
        with nginx(folder) as (url, worker):
            wrk(url, connections, 1, str(script))
            before = cpu_s(worker)
            done, _ = wrk(url, connections, arguments.seconds, str(script))
            after = cpu_s(worker)
        user, system = ((after[i] - before[i]) / done * 1e6 for i in (0, 1))
        base = user + system
        print(
            f"{f'nginx return 202, {connections}':34} {user:6.1f} {system:6.1f} {base:7.1f} {done / arguments.seconds:7.0f}"
        )
        with sink() as backend:
            dead = f"http://127.0.0.1:{free_port()}"
            for label, destinations, settle in (
                ("ack only (backend down)", [dead], False),
                ("accept, deliver to 1", [backend], True),
                ("accept, deliver to 3", [backend] * 3, True),
            ):
                r = measure(label, destinations, connections, arguments.seconds, str(script), settle=settle)
                total = r["user_us"] + r["sys_us"]
                print(
                    f"{f'{label}, {connections}':34} {r['user_us']:6.1f} {r['sys_us']:6.1f} {total:7.1f} {r['per_s']:7.0f} "
                    f"{total / base:8.1f} {r['largest_batch']:6.0f} {r['anon_mib']:9.1f}"
                    + (f"  ({r['not_2xx']:.0f} not 2xx)" if r["not_2xx"] else "")
                )
                idle = (r["ready_s"], r["idle_anon_mib"])
    print(f"exec to ready {idle[0]:.2f} s, idle RssAnon {idle[1]:.1f} MiB")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
