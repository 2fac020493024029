"""Finds the package ``export`` that belongs to this one, whatever else has its name.

``export`` is a usual name: ``python -m`` looks in the working folder first, where a user's own
``export.py`` or ``export/`` would be taken for it.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from fer_pipeline.errors import UserError

_NAME = "export"
_FOLDER = Path(__file__).parents[1] / _NAME


def load() -> str | None:
    """Imports ``export`` from beside this package, so that later imports of it find that.

    Returns:
      What Python would have imported in its place; None where that is the same.

    Raises:
      UserError: it is not there.
    """
    if _NAME in sys.modules and _is_ours(getattr(sys.modules[_NAME], "__path__", None)):
        return None
    found = importlib.util.find_spec(_NAME)
    source = _FOLDER / "__init__.py"
    if not source.is_file():
        raise UserError(f"{_FOLDER}: this software's package is missing; install it again")
    spec = importlib.util.spec_from_file_location(
        _NAME, source, submodule_search_locations=[str(_FOLDER)]
    )
    sys.modules[_NAME] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if found is None or _is_ours(found.submodule_search_locations):
        return None
    return found.origin or next(iter(found.submodule_search_locations))


def _is_ours(locations: list[str] | None) -> bool:
    return any(Path(location).resolve() == _FOLDER.resolve() for location in locations or ())
