"""Sources of faces: class folders, a .zip of them, Kaggle's CSV files, or synthetic faces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fer_pipeline.config import problem_of
from fer_pipeline.datasets import cache as cache_lib
from fer_pipeline.datasets import files, folders, kaggle_csv, splitting
from fer_pipeline.datasets.splits import Faces, Splits
from fer_pipeline.errors import UserError
from fer_pipeline.images import OnBadImage

#: The name of the default source: the synthetic faces.
SYNTHETIC = "synthetic"

#: In the place of a source: the faces of a run that was given arrays.
ARRAYS = "(arrays)"

#: Where decoded images are kept: in memory, in memory-mapped files, or nowhere.
Cache = Literal["memory", "disk", "none"]


class Loaded(NamedTuple):
    """A data set and how it was loaded.

    Attributes:
      splits: the images.
      name: short, for a run directory: ``"synthetic"`` or the stem of the file or folder.
      converted: number of images that were not 48x48 grey.
      skipped: names of unreadable images or rows that were skipped.
      left_out: names of files among the images that are not images.
      decoded: whether images were decoded, not read from a cache.
    """

    splits: Splits
    name: str
    converted: int = 0
    skipped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    decoded: bool = True


def load(
    source: str | os.PathLike[str],
    *,
    seed: int = 0,
    validation_fraction: float | None = None,
    on_bad_image: OnBadImage = "fail",
    cache: Cache = "memory",
    cache_dir: str | os.PathLike[str] | None = None,
    write_cache: bool = True,
) -> Loaded:
    """Loads a data set.

    Args:
      source: ``"synthetic"``, a folder or .zip with ``train/<class>/`` and ``test/<class>/``, or
        ``fer2013.csv`` or ``icml_face_data.csv``, in a .zip or not.
      seed: of the split that ``validation_fraction`` makes; nothing else here depends on it.
      validation_fraction: part of the training images to validate on, in place of the source's
        own validation images; see ``splitting.split``. Refused for the synthetic faces, whose
        splits are drawn independently.
      on_bad_image: ``"fail"`` stops at an unreadable image and names it, ``"skip"`` skips it.
      cache: ``"memory"``; ``"disk"`` keeps the decoded images in ``cache_dir`` and maps them into
        memory, so that a second start decodes nothing; ``"none"`` decodes all of them once to
        find the bad ones, and again whenever they are used. For CSV files and the synthetic
        faces ``"none"`` is the same as ``"memory"``.
      cache_dir: ``$XDG_CACHE_HOME/fer_pipeline`` or ``~/.cache/fer_pipeline`` by default.
      write_cache: if False, ``"disk"`` reads an existing cache but writes none.

    Raises:
      UserError: the source or an argument is wrong; says what to do.
    """
    source, kind = _check_arguments(source, validation_fraction, on_bad_image, cache)
    if kind == SYNTHETIC:
        from fer_pipeline.datasets import synthetic

        return Loaded(synthetic.load(seed=0), SYNTHETIC, decoded=False)
    decoded = True
    if cache == "disk":
        faces, decoded = _read_cached(source, kind, on_bad_image, cache_dir, write=write_cache)
    else:
        faces = _decode(source, kind, on_bad_image, stream=cache == "none")
    splits = splitting.split(source, faces, validation_fraction=validation_fraction, seed=seed)
    name = source_name(source)
    return Loaded(splits, name, faces.converted, faces.skipped, faces.left_out, decoded)


def read(source: str | os.PathLike[str], *, on_bad_image: OnBadImage = "fail") -> Faces:
    """Reads all images of a source into memory, to be split by ``splitting.split``.

    Args:
      source: as for ``load``, but not the synthetic faces, whose splits are drawn independently.
      on_bad_image: as for ``load``.

    Raises:
      UserError: the source is wrong; says what to do.
    """
    source, kind = _check_arguments(source, None, on_bad_image, "memory")
    return _decode(source, kind, on_bad_image)


def check(
    source: str | os.PathLike[str],
    *,
    validation_fraction: float | None = None,
    on_bad_image: OnBadImage = "fail",
    cache: Cache = "memory",
) -> None:
    """Checks a source by the names of its files, without decoding images or importing TensorFlow.

    The arguments are those of ``load``.

    Raises:
      UserError: ``load`` would raise the same.
    """
    source, kind = _check_arguments(source, validation_fraction, on_bad_image, cache)
    # If there is a cache entry, the names are not read again.
    if cache != "disk":
        _list_images(source, kind)


def source_name(source: str | os.PathLike[str]) -> str:
    """Names a source, for file names: ``"synthetic"``, or the stem of its file or folder."""
    if os.fspath(source) == SYNTHETIC:
        return SYNTHETIC
    path = Path(source).resolve()
    return path.stem if path.suffix.lower() in (".zip", ".csv") else path.name


def _check_arguments(
    source: str | os.PathLike[str],
    validation_fraction: float | None,
    on_bad_image: str,
    cache: str,
) -> tuple[str, str]:
    """Checks the arguments of ``load``, and finds the source's path and kind.

    Kinds are ``"folder"``, ``"zip"``, ``"csv"`` and ``"synthetic"``.

    Raises:
      UserError: the source is none of these, or another argument is wrong.
    """
    source = os.fspath(source)
    options = {
        "validation_fraction": validation_fraction,
        "on_bad_image": on_bad_image,
        "cache": cache,
    }
    for name, value in options.items():
        if problem := problem_of(name, value):
            raise UserError(f"--{name}={value}: {problem}")
    if source == SYNTHETIC:
        if validation_fraction is not None:
            raise UserError(
                "--validation_fraction: the synthetic faces have validation images; leave it out"
            )
        return source, SYNTHETIC
    if source == ARRAYS:
        raise UserError("the run was trained on arrays, which are not kept; pass them as --data")
    path = Path(os.path.normpath(source))
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    if path.is_dir():
        return str(path), "folder"
    if path.suffix.lower() not in (".zip", ".csv"):
        raise UserError(f"{path}: neither a folder nor a .zip nor a .csv file; pass one of them")
    return str(path), path.suffix.lower()[1:]


def _list_images(source: str, kind: str) -> folders.Listing | None:
    """Lists the images of a folder or .zip; None for a CSV file, also in a .zip, and synthetic."""
    if kind in ("csv", SYNTHETIC):
        return None
    if kind == "folder":
        return folders.list_folder(source)
    members = files.open_zip(source)
    names = [member.filename for member in members]
    images = any(name.lower().endswith(files.IMAGE_SUFFIXES) for name in names)
    if kaggle_csv.csv_members(names) and not images:
        return None
    return folders.list_zip(source, members)


def _decode(source: str, kind: str, on_bad_image: OnBadImage, **options: Any) -> Faces:
    """Reads the images of a source; ``options`` are for ``folders.decode`` alone."""
    listing = _list_images(source, kind)
    if listing is None:
        return kaggle_csv.read(source, on_bad_image=on_bad_image)
    return folders.decode(listing, on_bad_image=on_bad_image, **options)


def _read_cached(
    source: str,
    kind: str,
    on_bad_image: OnBadImage,
    cache_dir: str | os.PathLike[str] | None,
    *,
    write: bool,
) -> tuple[Faces, bool]:
    """Reads the images through the cache on disk; also returns whether they were decoded."""
    digest = _digest(source, kind)
    folder = cache_lib.entry_folder(cache_dir, source_name(source), digest, [kind, on_bad_image])
    faces = cache_lib.load(folder)
    if faces is not None:
        return faces, False
    if not write:
        return _decode(source, kind, on_bad_image), True

    def check_source() -> None:
        if _digest(source, kind) != digest:
            raise UserError(f"{source}: changed while it was read; start again")

    def decode(allocate: cache_lib.Allocate) -> Faces:
        return _decode(source, kind, on_bad_image, allocate=allocate)

    return cache_lib.store(folder, decode, check_source)


def _digest(source: str, kind: str) -> str:
    """A hash that changes when the source does."""
    if kind == "zip":
        return files.zip_digest(source)
    if kind == "csv":
        return files.digest(os.path.dirname(source), [os.path.basename(source)])
    return files.digest(source, folders.scan_folder(source)[0])
