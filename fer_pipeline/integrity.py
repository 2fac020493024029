"""Holds a model's files to the ``manifest.json`` of the export that they lie in.

A changed byte among a model's weights makes no runtime stumble: it would answer, and wrongly.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fer_pipeline.errors import UserError

_MANIFEST = "manifest.json"

#: An export's models lie this far below its manifest at most: ``saved_model/1`` does.
_LEVELS = 2


def check(path: Path) -> None:
    """Compares a file, or every file of a folder, with the SHA-256 that its export's manifest has.

    What no manifest lists is not checked: a model that was copied elsewhere may be used.

    Args:
      path: the file or folder.

    Raises:
      UserError: names the first listed file that is missing, damaged or exchanged.
    """
    path = path.absolute()
    for folder in path.parents[:_LEVELS]:
        name = path.relative_to(folder).as_posix()
        for listed, digest in _listed(folder / _MANIFEST).items():
            if listed == name or listed.startswith(f"{name}/"):
                _check_file(folder / listed, digest)


def _listed(manifest: Path) -> dict[str, Any]:
    """The SHA-256 by relative path; empty where there is no manifest of an export."""
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        return {name: entry["sha256"] for name, entry in files.items()}
    # Many programs have a manifest.json of their own.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _check_file(path: Path, digest: Any) -> None:
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); export it again") from error
    if found != digest:
        raise UserError(
            f"{path}: not the file that its export's {_MANIFEST} lists (damaged or exchanged);"
            " export it again, or copy it elsewhere to use it as it is"
        )
