"""Data sets on Kaggle: ``kaggle:owner/name``, downloaded and kept by the package kagglehub."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path

from fer_pipeline.errors import UserError

#: How a source begins that is on Kaggle.
PREFIX = "kaggle:"

#: Owner, name and version. Neither of the first two is ``..``: both are folders of the cache.
_HANDLE = re.compile(r"(\w[\w.-]*)/(\w[\w.-]*)(?:/versions/(\d+))?", re.ASCII)

#: Files that hold the faces of FER-2013, whatever lies beside them.
_KNOWN_FILES = ("fer2013.csv", "icml_face_data.csv")


def is_on_kaggle(source: str) -> bool:
    """Whether a source begins with ``kaggle:``."""
    return source.startswith(PREFIX)


def name(source: str) -> str:
    """The name of a data set, without its owner."""
    return _parse(source)[1]


def resolve(source: str) -> str:
    """The path of a source on this machine; of a data set on Kaggle after downloading it.

    Args:
      source: a path, which is returned as it is, or ``kaggle:owner/name``, or one version of it,
        ``kaggle:owner/name/versions/2``.

    Returns:
      Of a data set on Kaggle the folder, or the .csv or .zip in it that holds the faces.

    Raises:
      UserError: there is no such data set, Kaggle does not give it or cannot be reached, or
        kagglehub is not installed; says what to do.
    """
    if not is_on_kaggle(source):
        return source
    _parse(source)
    return _find_faces(source, _download(source))


def _parse(source: str) -> tuple[str, str, str | None]:
    """Owner, name and version."""
    found = _HANDLE.fullmatch(source.removeprefix(PREFIX))
    if not found:
        raise UserError(f"--data={source}: expected kaggle:OWNER/NAME, as in the page's address")
    return found.groups()


# Once a process: every call asks Kaggle for the newest version.
@functools.cache
def _download(source: str) -> Path:
    try:
        import kagglehub
    except ImportError as error:
        raise UserError(f"--data={source}: pip install 'fer_pipeline[kaggle]' first") from error
    handle = source.removeprefix(PREFIX)
    try:
        return Path(kagglehub.dataset_download(handle))
    except Exception as error:  # Those of kagglehub, of requests and of the file system.
        if _is_offline(error) and (kept := _newest_kept(source, kagglehub.dataset_download)):
            print(f"Kaggle cannot be reached; {kept} is used", flush=True)
            return kept
        raise UserError(f"--data={source}: {_describe(source, error)}") from error


def _newest_kept(source: str, download: Callable[[str], str]) -> Path | None:
    """The newest version that was downloaded before, where no version is asked for."""
    from kagglehub import config

    owner, dataset, version = _parse(source)
    folder = Path(config.get_cache_folder(), "datasets", owner, dataset, "versions")
    if version or not folder.is_dir():
        return None
    kept = [int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal()]
    for number in sorted(kept, reverse=True):
        try:
            return Path(download(f"{owner}/{dataset}/versions/{number}"))
        except Exception as error:
            # It is not complete, and the rest of it cannot be fetched now.
            if not _is_offline(error):
                raise UserError(f"--data={source}: {_describe(source, error)}") from error
    return None


def _is_offline(error: Exception) -> bool:
    import requests

    return isinstance(error, (requests.ConnectionError, requests.Timeout))


def _describe(source: str, error: Exception) -> str:
    """What went wrong and what to do, on one line."""
    owner, dataset, _ = _parse(source)
    by_hand = (
        f"or download https://www.kaggle.com/datasets/{owner}/{dataset} in a browser and pass the "
        "file as --data"
    )
    status = getattr(getattr(error, "response", None), "status_code", None)
    if _is_offline(error):
        return f"Kaggle cannot be reached; connect to the network, {by_hand}"
    if status == 404:
        return "Kaggle has no such data set; check the owner, the name and the version"
    if status in (401, 403) or type(error).__name__ == "UnauthenticatedError":
        return (
            "Kaggle does not give it without an account; set KAGGLE_API_TOKEN to a token of your "
            f"Kaggle settings and accept the terms of the data set, {by_hand}"
        )
    first = next(iter(str(error).splitlines()), "") or type(error).__name__
    return f"could not be downloaded ({first}); try again, {by_hand}"


def _find_faces(source: str, folder: Path) -> str:
    """The folder itself, or the file in it that holds the faces."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    if not entries:
        raise UserError(f"--data={source}: nothing in {folder}; delete the folder and try again")
    found = [entry for entry in entries if entry.name in _KNOWN_FILES]
    if not found and not any(entry.is_dir() for entry in entries):
        found = [entry for entry in entries if entry.suffix.lower() in (".zip", ".csv")]
    if len(found) > 1:
        names = ", ".join(entry.name for entry in found)
        raise UserError(f"--data={source}: holds {names}; pass --data={folder}{os.sep}... of one")
    return os.fspath(found[0] if found else folder)
