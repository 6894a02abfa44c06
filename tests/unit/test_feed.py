"""What happens now, for people who watch: never waits, bounded, honest about what it dropped."""

from __future__ import annotations

import asyncio

from sidecar.feed import Feed, Watcher


async def rows(watcher: Watcher) -> list[object]:
    told, dropped = await watcher.next()
    assert dropped == 0
    return [t.row["n"] for t in told]


async def test_every_watcher_gets_every_row_in_order():
    feed = Feed()
    a, b = feed.watch(), feed.watch()
    feed.publish({"n": 1})
    feed.publish({"n": 2})
    assert await rows(a) == [1, 2]
    assert await rows(b) == [1, 2]


async def test_a_watcher_waits_until_something_happens():
    feed = Feed()
    watcher, other = feed.watch(), feed.watch()
    waiting = [asyncio.create_task(rows(w)) for w in (watcher, other)]
    await asyncio.sleep(0)
    assert not waiting[0].done()
    feed.publish({"n": 1})
    assert await asyncio.gather(*waiting) == [[1], [1]]


async def test_rows_are_handed_over_once():
    feed = Feed()
    watcher = feed.watch()
    feed.publish({"n": 1})
    await watcher.next()
    feed.publish({"n": 2})
    assert await rows(watcher) == [2]


async def test_a_watcher_that_gave_up_in_the_same_turn_harms_nobody():
    feed = Feed()
    gone, other = feed.watch(), feed.watch()
    giving_up, waiting = asyncio.create_task(gone.next()), asyncio.create_task(rows(other))
    await asyncio.sleep(0)
    giving_up.cancel()
    feed.publish({"n": 1})
    assert await waiting == [1]
    assert await rows(gone) == [1], "what came meanwhile is still there for it"


async def test_watching_begins_with_what_comes_next():
    feed = Feed()
    early = feed.watch()
    feed.publish({"n": 1})
    late = feed.watch()
    feed.publish({"n": 2})
    assert await rows(early) == [1, 2]
    assert await rows(late) == [2]


async def test_a_slow_watcher_loses_the_oldest_rows_and_is_told_how_many():
    feed = Feed(window=2)
    slow, quick = feed.watch(), feed.watch()
    for n in range(5):
        feed.publish({"n": n})
        assert await rows(quick) == [n]
    told, dropped = await slow.next()
    assert [t.row["n"] for t in told] == [3, 4]
    assert dropped == 3


async def test_the_end_lets_everybody_go_with_what_is_left():
    feed = Feed()
    waiting_for, behind = feed.watch(), feed.watch()
    feed.publish({"n": 1})
    assert await rows(waiting_for) == [1]
    waiting = asyncio.create_task(rows(waiting_for))
    await asyncio.sleep(0)
    feed.end()
    assert await waiting == []
    assert await rows(behind) == [1]
    assert feed.ended


async def test_a_line_is_clean_json_and_made_once_for_all():
    feed = Feed()
    a, b = feed.watch(), feed.watch()
    feed.publish({"key": "\u202ea\x1b", "status": 200, "error": None})
    ((first, *_), _), ((second, *_), _) = await a.next(), await b.next()
    assert first.line == b'{"key":"\\\\u202ea\\\\u001b","status":200,"error":null}\n'
    assert second.line is first.line


async def test_the_feed_says_whether_anybody_watches_and_keeps_nothing_when_nobody_does():
    """The lanes build no row when nobody does."""
    feed = Feed()
    assert not feed.watched
    a, b = feed.watch(), feed.watch()
    assert feed.watched
    feed.unwatch(a)
    assert feed.watched
    feed.publish({"n": 1})
    feed.unwatch(b)
    assert not feed.watched
    feed.publish({"n": 2})
    assert feed.last(10) == []


def test_unwatching_twice_is_safe():
    feed = Feed()
    watcher = feed.watch()
    feed.unwatch(watcher)
    feed.unwatch(watcher)
    feed.publish({"n": 1})
    assert not feed.watched
