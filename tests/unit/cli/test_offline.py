"""What is shown without a daemon is masked as with one."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.cli.offline import OfflineBooks

GATE = """
[sources.gate]
path = "/gate"
verify = { scheme = "token", header = "X-Gate" }
secrets = [{ env = "NOT_HERE" }]
destinations = ["app"]
[destinations.app]
url = "http://127.0.0.1:9"
"""


@pytest.mark.parametrize("more", ["", 'timeout = "soon"\n', '[sources.other]\nverify = "nobody"\n', "[nonsense]\n"])
def test_a_mistake_elsewhere_in_the_configuration_unmasks_nothing(more, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(GATE + more)
    nothing: Any = None
    books = OfflineBooks(str(config), nothing, nothing)
    assert books.masked_headers("gate") == {b"x-gate"}
    assert books.masked_headers("former") == {b"x-gate"}, "it may be this one, renamed"


def test_without_a_configuration_names_alone_decide(tmp_path):
    nothing: Any = None
    books = OfflineBooks(str(tmp_path / "none.toml"), nothing, nothing)
    assert books.masked_headers("gate") == frozenset()
