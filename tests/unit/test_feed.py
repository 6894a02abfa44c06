"""What happens now, for people who watch: never waits, bounded, honest about what it dropped."""

from __future__ import annotations

import asyncio

from sidecar.feed import Feed


async def test_every_watcher_gets_every_row_in_order():
    feed = Feed()
    a, b = feed.watch(), feed.watch()
    feed.publish({"n": 1})
    feed.publish({"n": 2})
    assert await a.next() == [{"n": 1}, {"n": 2}]
    assert await b.next() == [{"n": 1}, {"n": 2}]


async def test_a_watcher_waits_until_something_happens():
    feed = Feed()
    watcher = feed.watch()
    waiting = asyncio.create_task(watcher.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    feed.publish({"n": 1})
    assert await waiting == [{"n": 1}]


async def test_rows_are_handed_over_once():
    feed = Feed()
    watcher = feed.watch()
    feed.publish({"n": 1})
    await watcher.next()
    waiting = asyncio.create_task(watcher.next())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_slow_watcher_loses_the_oldest_rows_and_is_told_how_many():
    feed = Feed()
    slow, quick = feed.watch(capacity=2), feed.watch()
    for n in range(5):
        feed.publish({"n": n})
    assert await slow.next() == [{"n": 3}, {"n": 4}]
    assert slow.dropped == 3
    assert quick.dropped == 0


def test_the_feed_says_whether_anybody_watches():
    """The lanes build no row when nobody does."""
    feed = Feed()
    assert not feed.watched
    a, b = feed.watch(), feed.watch()
    assert feed.watched
    feed.unwatch(a)
    assert feed.watched
    feed.unwatch(b)
    assert not feed.watched


def test_unwatching_twice_is_safe():
    feed = Feed()
    watcher = feed.watch()
    feed.unwatch(watcher)
    feed.unwatch(watcher)
    feed.publish({"n": 1})
    assert not feed.watched
