"""Holds a model's files to the ``manifest.json`` of the export that they lie in.

A changed byte among a model's weights makes no runtime stumble: it would answer, and wrongly.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fer_pipeline.errors import UserError

_MANIFEST, _MANIFEST_HASH = "manifest.json", "manifest.sha256"

#: An export's models lie this far below its manifest at most: ``saved_model/1`` does.
_LEVELS = 2


def check(path: Path) -> None:
    """Compares a file, or every file of a folder, with the SHA-256 that its export's manifest has.

    A model in a folder without a manifest is not checked: one that was copied elsewhere may be
    used. Links are followed, so that a link to a file of an export is that file.

    Args:
      path: the file or folder.

    Raises:
      UserError: names the first file that is missing, damaged, exchanged or not of the export that
        it lies in, or the manifest where that is damaged.
    """
    path = path.resolve()
    for folder in path.parents[:_LEVELS]:
        listed = _listed(folder)
        if listed is None:
            continue
        name = path.relative_to(folder).as_posix()
        of_path = {
            file: digest
            for file, digest in listed.items()
            if file == name or file.startswith(f"{name}/")
        }
        if not of_path:
            raise UserError(
                f"{path}: is not of the export that it lies in ({folder / _MANIFEST}); copy it "
                "elsewhere to use it"
            )
        for file, digest in of_path.items():
            _check_file(folder / file, digest)
        return


def _listed(folder: Path) -> dict[str, Any] | None:
    """The SHA-256 by relative path; None where the folder is no export.

    Many programs have a manifest.json of their own; the hash beside it is an export's alone.
    """
    manifest, hashed = folder / _MANIFEST, folder / _MANIFEST_HASH
    try:
        if not hashed.exists():
            return None
        content = manifest.read_bytes()
        if hashed.read_bytes().split()[:1] != [hashlib.sha256(content).hexdigest().encode()]:
            raise ValueError("its SHA-256 is another")
        files = json.loads(content)["files"]
        return {name: entry["sha256"] for name, entry in files.items()}
    except OSError as error:
        raise UserError(
            f"{manifest}: cannot be read ({error.strerror}); export it again"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{manifest}: damaged or exchanged; export it again") from error


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
