"""Public names of a package, imported when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence


def attach(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], object], list[str]]:
    """Makes a package's ``__getattr__`` and ``__all__``.

    Args:
      package: its ``__name__``.
      modules: the public names of each of its modules.
    """
    origin = {name: module for module, names in modules.items() for name in names}

    def getattribute(name: str) -> object:
        if name not in origin:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{origin[name]}"), name)

    return getattribute, sorted(origin)
