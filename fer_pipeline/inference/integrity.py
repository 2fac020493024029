"""Holds a model's files to the ``manifest.json`` of the export that they lie in.

A changed byte among a model's weights makes no runtime stumble: it would answer, and wrongly.
"""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.errors import UserError

MANIFEST, MANIFEST_HASH = "manifest.json", "manifest.sha256"

#: Bytes; an export's manifest has 20 thousand.
_MAX_MANIFEST = 2**24

#: An export's models lie this far below its manifest at most: ``saved_model/1`` does.
_LEVELS = 2


class Listed(NamedTuple):
    """What a manifest says of a file: bytes, None where it says nothing, and 64 hex digits."""

    size: int | None
    sha256: str


def check(path: Path) -> None:
    """Compares a file, or every file of a folder, with the SHA-256 that its export's manifest has.

    A model in a folder without an export's manifest is not checked: one that was copied elsewhere
    may be used. Links are followed, so that a link to a file of an export is that file.

    Args:
      path: the file or folder.

    Raises:
      UserError: names the first file that is missing, damaged, exchanged or not of the export that
        it lies in, or the manifest where that is damaged or has the labels in another order.
    """
    path = path.resolve()
    for folder in path.parents[:_LEVELS]:
        manifest = read_export(folder)
        if manifest is None:
            continue
        name = path.relative_to(folder).as_posix()
        of_path = {
            file: listed
            for file, listed in listed_files(manifest).items()
            if file == name or file.startswith(f"{name}/")
        }
        if not of_path:
            raise UserError(
                f"{path}: is not of the export that it lies in ({folder / MANIFEST}); copy it "
                "elsewhere to use it"
            )
        if tuple(manifest.get("labels", CLASS_NAMES)) != CLASS_NAMES:
            raise UserError(f"{folder / MANIFEST}: its labels are not this software's, in order")
        for file, listed in of_path.items():
            _check_file(folder / file, listed)
        return


def read_export(folder: Path) -> dict[str, Any] | None:
    """The manifest of the export in a folder; None where that is no export.

    Many programs have a manifest.json of their own. It is an export's if ``manifest.sha256`` lies
    beside it, or else if it has an export's parts.

    Raises:
      UserError: it is damaged.
    """
    path, hashed = folder / MANIFEST, folder / MANIFEST_HASH
    try:
        if not hashed.is_file():
            return _unhashed(folder)
        if hashed.read_bytes().split()[:1] != [
            hashlib.sha256(_content(folder)).hexdigest().encode()
        ]:
            raise ValueError("its SHA-256 is another")
        manifest = read(folder)
        listed_files(manifest)
        return manifest
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); export it again") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged or exchanged; export it again") from error


def _unhashed(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = read(folder)
    except (OSError, ValueError):
        return None
    if not all(isinstance(manifest.get(part), dict) for part in ("artifacts", "files")):
        return None
    listed_files(manifest)
    return manifest


def read(folder: Path) -> dict[str, Any]:
    """The JSON object in a folder's ``manifest.json``.

    Raises:
      OSError: it cannot be read.
      ValueError: it is something else.
    """
    try:
        manifest = json.loads(_content(folder))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(manifest, dict):
        raise ValueError("it holds no object")
    return manifest


def listed_files(manifest: dict[str, Any]) -> dict[str, Listed]:
    """The files of a manifest by their path in its folder.

    Raises:
      ValueError: it has none, or one of them has no hash or leads out of the folder.
    """
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise ValueError("it lists no files")
    listed = {}
    for name, entry in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name:
            raise ValueError(f"it lists {name!r}, which is no path in its folder")
        if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
            raise ValueError(f"it has no hash of {name!r}")
        if not isinstance(entry.get("size", 0), int):
            raise ValueError(f"it has no size of {name!r}")
        listed[name] = Listed(entry.get("size"), entry["sha256"])
    return listed


def _content(folder: Path) -> bytes:
    path = folder / MANIFEST
    about = path.stat()
    if not stat.S_ISREG(about.st_mode) or about.st_size > _MAX_MANIFEST:
        raise ValueError("it is no file, or too large for a manifest")
    return path.read_bytes()


def _check_file(path: Path, listed: Listed) -> None:
    try:
        about = path.stat()
        # A device or a pipe need not end, so nothing but a file is read.
        same = stat.S_ISREG(about.st_mode) and listed.size in (None, about.st_size)
        if same:
            with open(path, "rb") as file:
                same = hashlib.file_digest(file, "sha256").hexdigest() == listed.sha256
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); export it again") from error
    if not same:
        raise UserError(
            f"{path}: not the file that its export's {MANIFEST} lists (damaged or exchanged);"
            " export it again, or copy it elsewhere to use it as it is"
        )
