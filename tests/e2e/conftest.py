"""What the files here share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sink import Sink


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """A backend that takes everything, one for a file. A file whose backend behaves otherwise has its own."""
    with Sink() as sink:
        yield sink
