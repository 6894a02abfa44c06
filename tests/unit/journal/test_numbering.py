"""A name keeps its number for good: across transactions, commits and restarts."""

from __future__ import annotations

from sidecar.journal.numbering import Numbers
from sidecar.model import ACK_DEFAULT, AckTemplate
from tests.support.journals import Books, make_claim, make_event

OTHER = AckTemplate(202, "text/plain", b"later")


async def test_numbers_are_given_in_order_and_once(tmp_path):
    """What is added again has its number; nothing is to be stored then."""
    books = Books.open(str(tmp_path / "journal"))
    numbers = Numbers(books.journal._environment)
    before = dict(numbers.destinations)
    numbers.add(["shop", "new"], ["app"])
    assert (numbers.sources["shop"], numbers.sources["new"]) == (0, 2)
    assert numbers.destinations == before
    assert numbers.changed
    numbers.changed = False
    numbers.add(["shop", "new"], ["app", "mail"])
    assert not numbers.changed
    await books.journal.aclose()


async def test_an_answer_has_one_number(tmp_path):
    """The same template is stored once."""
    books = Books.open(str(tmp_path / "journal"))
    numbers = Numbers(books.journal._environment)
    given = [numbers.ack(a) for a in (ACK_DEFAULT, OTHER, ACK_DEFAULT, OTHER)]
    assert given[:2] == given[2:]
    assert given[0] != given[1]
    assert numbers.changed
    await books.journal.aclose()


async def test_a_name_that_came_while_the_journal_ran_has_its_number_after_a_restart(tmp_path):
    """Also one that nothing was ever stored for, and ack templates that only a batch brought."""
    path = str(tmp_path / "journal")
    books = Books.open(path)
    await books.journal.register_live(["late"], ["later"])
    first = make_event(key="k")
    await books.append(first, make_claim("k"), OTHER)
    await books.journal.aclose()
    again = Books.open(path)
    numbers = Numbers(again.journal._environment)
    assert (numbers.sources["late"], numbers.destinations["later"]) == (2, 3)
    duplicate = await again.append(make_event(key="k"), make_claim("k"))
    assert (duplicate.event_id, duplicate.ack) == (first.id, OTHER)
    assert not numbers.changed
    await again.journal.aclose()
