"""Names of the public modules, imported when they are first used, and the names that they had before."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any


def look_up(
    module: str, name: str, places: Mapping[str, Sequence[str]], renamed: Mapping[str, str] | None = None
) -> Any:
    """Find a name for the ``__getattr__`` of a public module (PEP 562).

    Args:
        module: the public module.
        name: what is asked of it.
        places: internal module -> the public names that it defines.
        renamed: former public name -> successor, ``"package.module.name"``. A former name stays for one minor version.

    Raises:
        AttributeError: there is no such name.

    Warns:
        DeprecationWarning: a former name, at the line that asks for it; names the successor.
    """
    if renamed and name in renamed:
        successor = renamed[name]
        warnings.warn(f"{module}.{name} is now {successor}", DeprecationWarning, stacklevel=3)
        home, _, name = successor.rpartition(".")
        return getattr(import_module(home), name)
    for home, names in places.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")
