"""The example and the reference name every key, and the example is valid as it is and with everything taken in."""

from __future__ import annotations

import re
import tomllib

import msgspec

from sidecar.config import providers, schema
from sidecar.config.check import check
from sidecar.config.documents import EXAMPLES, example, reference
from sidecar.config.problems import CODES, Problems
from sidecar.config.shape import keys_of
from sidecar.config.verification import SCHEME_OPTIONS
from sidecar.inbound.verify import PRESETS


def uncommented(text: str) -> str:
    return re.sub(r"(?m)^#(?=[a-z\[\]]|  \{)", "", text)


def judged(text: str) -> list[str]:
    problems = Problems()
    check(tomllib.loads(text), problems)
    return [p.text for p in problems.found]


def test_the_example_is_right_as_it_is() -> None:
    assert judged(example()) == []
    document = tomllib.loads(example())
    assert document["sources"]["github"]["path"] == "/webhooks/github"
    assert document["sources"]["github"]["secrets"] == [{"value": "development-secret-change-me"}]
    assert document["destinations"]["echo"]["url"] == "http://127.0.0.1:8788{path}"


def test_the_example_is_right_with_everything_taken_in() -> None:
    assert judged(uncommented(example())) == []


def test_the_example_shows_every_key() -> None:
    document = tomllib.loads(uncommented(example()))
    source, destination = document["sources"]["orders"], document["destinations"]["shop"]
    assert set(document) == set(keys_of(schema.Config))
    for name in set(document) - {"sources", "destinations"}:
        assert set(document[name]) == set(keys_of(type(keys_of(schema.Config)[name].default))), name
    assert set(source) == set(keys_of(schema.Source))
    assert set(source["dedup"]) == set(keys_of(schema.Dedup))
    assert set(source["ack"]) == set(keys_of(schema.Ack))
    assert set(destination) == set(keys_of(schema.Destination))
    assert set(destination["retry"]) == set(keys_of(schema.Retry))


def test_taking_a_line_in_changes_nothing_where_there_is_a_default() -> None:
    """The commented values are the defaults themselves."""
    before, after = (check(tomllib.loads(t), Problems()).config for t in (example(), uncommented(example())))
    for section in keys_of(schema.Config).values():
        if section.name in {"sources", "destinations"}:
            continue
        for key in keys_of(type(section.default)).values():
            if key.default is not None:
                assert getattr(getattr(before, section.name), key.name) == getattr(
                    getattr(after, section.name), key.name
                )


def test_every_example_belongs_to_a_key_without_a_default() -> None:
    structs: dict[str, type[msgspec.Struct]] = {
        "server": schema.Server,
        "admin": schema.Admin,
        "source": schema.Source,
        "dedup": schema.Dedup,
        "ack": schema.Ack,
        "hmac": SCHEME_OPTIONS["hmac"],
        "destination": schema.Destination,
    }
    for name in EXAMPLES:
        prefix, _, key = name.partition(".")
        assert keys_of(structs[prefix])[key].default in (None, msgspec.UNSET, [], {}, "{body}"), name


def test_no_line_is_longer_than_120() -> None:
    assert max(map(len, example().splitlines())) <= 120


def test_the_reference_names_every_key_code_and_preset() -> None:
    page = reference()
    structs = [getattr(schema, name) for name in schema.__all__]
    for cls in (*structs, *SCHEME_OPTIONS.values()):
        for key in keys_of(cls):
            if cls is not schema.Config:
                assert f"| `{key}` |" in page, key
    assert all(f"| {code} |" in page for code in CODES)
    assert all(f"[`{name}`](#{name})" in providers.page() for name in PRESETS)
    assert "``" not in page
    assert "None" not in page
