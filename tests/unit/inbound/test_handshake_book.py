"""Secrets that arrive by handshake: kept on disk, taken only when expected, never replaced, never shown by accident."""

import asyncio
import os
import stat

import pytest

from sidecar.errors import SidecarError
from sidecar.inbound import handshake_book
from sidecar.inbound.handshake_book import MAX_SECRETS, HandshakeBook


class Clock:
    s = 1000.0

    def wall_ms(self):
        return int(self.s * 1000)

    def monotonic_s(self):
        return self.s


@pytest.fixture
def logged(monkeypatch):
    lines = []
    for level in ("info", "error"):
        monkeypatch.setattr(handshake_book._log, level, lambda msg, _l=level, **f: lines.append((_l, msg, f)))
    return lines


async def learn(book, value, source="s"):
    said = asyncio.get_running_loop().create_future()
    book.learn(source, value, "198.51.100.1", said.set_result)
    return await said


async def test_a_secret_is_on_disk_and_there_after_a_restart(tmp_path, logged):
    """Mode 0600, in the journal's folder; the log has its name and not itself."""
    book = HandshakeBook(str(tmp_path), Clock())
    assert book.expect("s", 600)
    assert book.expected("s")
    assert await learn(book, b"first-secret-of-asana")
    assert not book.expected("s"), "one, then no more"
    again = HandshakeBook(str(tmp_path), Clock())
    assert [(s.id, s.value) for s in again.secrets("s")] == [("handshake-1", b"first-secret-of-asana")]
    assert again.knows("s", b"first-secret-of-asana")
    assert not again.knows("s", b"other")
    assert stat.S_IMODE(os.stat(tmp_path / "handshakes.json").st_mode) == 0o600
    assert "first-secret-of-asana" not in repr(logged) + repr(again._shelves)
    assert os.listdir(tmp_path) == ["handshakes.json"]


async def test_a_second_secret_stands_beside_the_first(tmp_path, logged):
    """A stranger's never replaces it; forgetting takes one away."""
    book = HandshakeBook(str(tmp_path), Clock())
    for n in range(MAX_SECRETS):
        assert book.expect("s", 600)
        assert await learn(book, b"secret-%d" % n)
    assert not book.expect("s", 600)
    assert len(book.secrets("s")) == MAX_SECRETS
    assert await book.forget("s", "handshake-1")
    assert not await book.forget("s", "handshake-1")
    assert not await book.forget("nobody", "handshake-1")
    assert await learn(book, b"another")
    assert [s.id for s in book.secrets("s")][-1] == "handshake-9"
    for secret in book.secrets("s"):
        assert await book.forget("s", secret.id)
    assert HandshakeBook(str(tmp_path), Clock()).secrets("s") == ()


@pytest.mark.parametrize("restart", [False, True])
async def test_an_id_is_never_given_to_another_secret(tmp_path, logged, restart):
    """Else ``forget``, typed for one that is gone already, takes the one that came in its place."""
    book = HandshakeBook(str(tmp_path), Clock())
    ids = []
    for n in range(3):
        assert await learn(book, b"secret-%d" % n)
        ids += [s.id for s in book.secrets("s")]
        assert await book.forget("s", ids[-1])
        book = HandshakeBook(str(tmp_path), Clock()) if restart else book
        assert not await book.forget("s", ids[-1])
    assert ids == ["handshake-1", "handshake-2", "handshake-3"]
    assert await learn(book, b"of-another-source", "other")
    assert [s.id for s in book.secrets("other")] == ["handshake-1"]


async def test_the_file_of_an_earlier_build_is_read(tmp_path, logged):
    """It kept only the secrets of a source."""
    row = '{"id": "handshake-4", "value": "kept", "at_ms": 1, "peer": ""}'
    (tmp_path / "handshakes.json").write_text(f'{{"s": [{row}]}}')
    book = HandshakeBook(str(tmp_path), Clock())
    assert book.knows("s", b"kept")
    assert await learn(book, b"next")
    assert [s.id for s in HandshakeBook(str(tmp_path), Clock()).secrets("s")] == ["handshake-4", "handshake-5"]


@pytest.mark.parametrize("arrives_first", [True, False])
async def test_a_secret_that_arrives_while_another_is_forgotten_stays(tmp_path, logged, arrives_first):
    """Its provider has its answer: the secret must not go with the other one, nor bring that back."""
    book = HandshakeBook(str(tmp_path), Clock())
    assert await learn(book, b"first")
    both = [learn(book, b"second"), book.forget("s", "handshake-1")]
    assert await asyncio.gather(*(both if arrives_first else reversed(both))) == [True, True]
    for one in (book, HandshakeBook(str(tmp_path), Clock())):
        assert [s.value for s in one.secrets("s")] == [b"second"]


async def test_a_window_closes_by_itself(tmp_path):
    """And is not open by itself."""
    clock = Clock()
    book = HandshakeBook(str(tmp_path), clock)
    assert not book.expected("s")
    book.expect("s", 600)
    clock.s += 600
    assert not book.expected("s")
    assert book.show("s") == {"source": "s", "expected_for_s": 0, "secrets": []}


async def test_the_operator_sees_everything(tmp_path, logged):
    """In clear, with when and from whom."""
    book = HandshakeBook(str(tmp_path), Clock())
    await learn(book, b"a-secret")
    book.expect("s", 60)
    assert book.show("s") == {
        "source": "s",
        "expected_for_s": 60,
        "secrets": [{"id": "handshake-1", "secret": "a-secret", "arrived_at_ms": 1_000_000, "peer": "198.51.100.1"}],
    }


async def test_what_cannot_be_written_is_not_kept(tmp_path, logged, monkeypatch):
    """Neither in memory; nothing is left behind, and an old file stays as it was."""
    book = HandshakeBook(str(tmp_path), Clock())
    await learn(book, b"first")
    (tmp_path / "handshakes.json.new").write_text("left over")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(handshake_book.os, "rename", fail)
    assert not await learn(book, b"second")
    monkeypatch.undo()
    assert [s.value for s in book.secrets("s")] == [b"first"]
    assert os.listdir(tmp_path) == ["handshakes.json"]


@pytest.mark.parametrize(
    "content", [b"junk", b"[]", b"\xff", b'{"s":[{"id":1}]}', b'{"s":[{"id":"mine","value":"v","at_ms":1}]}']
)
def test_a_file_that_is_none_is_an_error_with_a_way_out(tmp_path, content):
    """Starting without the secrets would refuse every webhook."""
    (tmp_path / "handshakes.json").write_bytes(content)
    with pytest.raises(SidecarError, match="cannot be read"):
        HandshakeBook(str(tmp_path), Clock())
