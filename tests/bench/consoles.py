"""Ten people who watch, and a scraper: live tails and /metrics every second, read and thrown away.

python -m tests.bench.consoles ADMIN_SOCKET TAILS        prints a line once all of them watch
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

SCRAPE_S = 1.0


async def _tail(path: str, watching: asyncio.Event) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /api/v1/tail HTTP/1.1\r\nHost: localhost\r\nWebhook-Sidecar-Request: 1\r\n\r\n")
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"no tail: {status!r}")
    watching.set()
    while await reader.read(1 << 16):
        pass


async def _scrape(path: str) -> None:
    while True:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"no metrics: {status!r}")
        await reader.read()
        writer.close()
        await asyncio.sleep(SCRAPE_S)


async def main(path: str, tails: int) -> None:
    """Watch until killed."""
    watching = [asyncio.Event() for _ in range(tails)]
    async with asyncio.TaskGroup() as group:
        for event in watching:
            group.create_task(_tail(path, event))
        for event in watching:
            await event.wait()
        group.create_task(_scrape(path))
        print("0", flush=True)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
