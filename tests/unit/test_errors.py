"""Errors that stop a command: each has its exit code, says what to do, and stands in the drawn tree."""

from __future__ import annotations

import re

import pytest

from sidecar import errors
from sidecar.errors import ConfigError, SidecarError

CODES = {
    "SidecarError": 1,
    "UsageError": 2,
    "NotFoundError": 3,
    "PartlyFailedError": 4,
    "DaemonUnreachable": 69,
    "JournalError": 74,
    "JournalLocked": 74,
    "JournalFormatError": 74,
    "JournalFull": 74,
    "ConfigError": 78,
}


@pytest.mark.parametrize("name", errors.__all__)
def test_each_error_has_its_documented_exit_code(name):
    assert getattr(errors, name).exit_code == CODES[name]


def test_the_tree_in_the_docstring_is_the_tree_in_the_code():
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        m = re.match(r"^[ │├└─]*(\w+)(?: \((\d+)\))?", line)
        if m and m[1] in errors.__all__:
            drawn[m[1]] = m[2]
    assert set(drawn) == set(errors.__all__)
    for name, code in drawn.items():
        assert code is None or int(code) == getattr(errors, name).exit_code


@pytest.mark.parametrize("name", errors.__all__)
def test_each_error_is_one_of_ours(name):
    assert issubclass(getattr(errors, name), SidecarError)


def test_the_hint_is_printed_below_the_message():
    e = SidecarError("no room at data/journal", hint="raise journal.max_size")
    assert str(e) == "no room at data/journal\n  hint: raise journal.max_size"
    assert (e.message, e.hint) == ("no room at data/journal", "raise journal.max_size")


def test_without_a_hint_the_message_stands_alone():
    assert str(SidecarError("no room")) == "no room"


def test_a_config_error_carries_every_problem():
    e = ConfigError("2 problems", problems=("config.toml:1:1: a", "config.toml:2:1: b"))
    assert e.problems == ("config.toml:1:1: a", "config.toml:2:1: b")
    assert ConfigError("1 problem").problems == ()
