"""Puts a mutant in the place of a module: into functions that others have imported already, or before anybody imports it."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence

__all__ = ["Replaced", "swap_function"]


def swap_function(module: types.ModuleType, where: str, code: types.CodeType) -> bool:
    """Give one function of a module, or all in a class, the code of the mutant; whoever holds it runs the new one.

    Returns:
        False when it cannot be reached by its name, or has another form; then the module has to be imported anew.
    """
    if not where:
        return False
    fresh = types.ModuleType(module.__name__)
    fresh.__dict__.update(__package__=module.__package__, __file__=module.__file__)
    known = sys.modules[module.__name__]
    sys.modules[module.__name__] = fresh  # for those that look up the module of their class while it is made
    try:
        exec(code, fresh.__dict__)
    finally:
        sys.modules[module.__name__] = known
    old, new = _function(module, where), _function(fresh, where)
    if old is None or new is None or old.__code__.co_freevars != new.__code__.co_freevars:
        return False
    old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    return True


def _function(module: types.ModuleType, where: str) -> types.FunctionType | None:
    found: object = module
    for name in where.split("."):
        found = vars(found).get(name) if isinstance(found, type | types.ModuleType) else None
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, staticmethod | classmethod):
        found = found.__func__
    elif isinstance(found, functools.cached_property):
        found = found.func
    wrapped = getattr(found, "__wrapped__", found)
    return wrapped if isinstance(wrapped, types.FunctionType) else None


class Replaced(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers the import of one module with a mutant."""

    def __init__(self, name: str, filename: str, code: types.CodeType) -> None:
        self.name, self.filename, self.code = name, filename, code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        package = self.filename.endswith("__init__.py")
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=self.filename, is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [self.filename.rpartition("/")[0]]
        return spec

    def exec_module(self, module: types.ModuleType) -> None:
        exec(self.code, module.__dict__)
