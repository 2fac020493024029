"""Holds a model's files to the ``manifest.json`` of the export that they lie in.

A changed byte among a model's weights makes no runtime stumble: it would answer, and wrongly.
"""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fer_pipeline.errors import UserError
from fer_pipeline.inference.export_files import MANIFEST, MANIFEST_HASH

#: Bytes; an export's manifest has 20 thousand.
MAX_MANIFEST = 2**24

#: An export's models lie this far below its manifest at most: ``saved_model/1`` does.
LEVELS = 2


class Listed(NamedTuple):
    """What a manifest says of a file: bytes, None where it says nothing, and 64 hex digits."""

    size: int | None
    sha256: str


def sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path) -> None:
    """Compares a file, or every file of a folder, with the SHA-256 that its export's manifest has.

    A model in a folder without an export's manifest is not checked: one that was copied elsewhere
    may be used. Links are followed, so that a link to a file of an export is that file.

    Args:
      path: the file or folder.

    Raises:
      UserError: names the first file that is missing, damaged, exchanged or not of the export that
        it lies in, or the manifest where that is damaged.
    """
    path = path.resolve()
    for folder in path.parents[:LEVELS]:
        manifest = read_export(folder)
        if manifest is None:
            continue
        listed = listed_files(manifest)
        name = path.relative_to(folder).as_posix()
        names = [file for file in listed if file == name or file.startswith(f"{name}/")]
        if not names:
            raise UserError(
                f"{path}: is not of the export that it lies in ({folder / MANIFEST}); copy it "
                "elsewhere to use it"
            )
        for file in names:
            _check_file(folder / file, listed[file])
        return


def read_export(folder: Path) -> dict[str, Any] | None:
    """The manifest of the export in a folder; None where that is no export.

    Many programs have a manifest.json of their own. It is an export's if ``manifest.sha256`` lies
    beside it, or else if it has an export's parts.

    Raises:
      UserError: it is damaged.
    """
    hashed = False
    try:
        hashed = (folder / MANIFEST_HASH).is_file()
        if hashed:
            digest = hashlib.sha256(_content(folder)).hexdigest().encode()
            if (folder / MANIFEST_HASH).read_bytes().split()[:1] != [digest]:
                raise ValueError("its SHA-256 is another")
        manifest = read(folder)
        parts = (manifest.get(part) for part in ("artifacts", "files"))
        if not hashed and not all(isinstance(part, dict) for part in parts):
            return None
    except (OSError, ValueError) as error:
        if not hashed:
            return None
        raise _damaged(folder, error) from error
    try:
        listed_files(manifest)
    except ValueError as error:
        raise _damaged(folder, error) from error
    return manifest


def _damaged(folder: Path, error: Exception) -> UserError:
    problem = "damaged or exchanged"
    if isinstance(error, OSError):
        problem = f"cannot be read ({error.strerror})"
    return UserError(f"{folder / MANIFEST}: {problem}; export it again")


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
    if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_MANIFEST:
        raise ValueError("it is no file, or too large for a manifest")
    return path.read_bytes()


def _check_file(path: Path, listed: Listed) -> None:
    try:
        about = path.stat()
        # A device or a pipe need not end, so nothing but a file is read.
        same = stat.S_ISREG(about.st_mode) and listed.size in (None, about.st_size)
        if same:
            same = sha256(path) == listed.sha256
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); export it again") from error
    if not same:
        raise UserError(
            f"{path}: not the file that its export's {MANIFEST} lists (damaged or exchanged);"
            " export it again, or copy it elsewhere to use it as it is"
        )
