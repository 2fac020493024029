"""Sources of faces: class folders, a .zip of them, Kaggle's CSV files or any of these on Kaggle,
or synthetic faces.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fer_pipeline import pictures
from fer_pipeline.config import problem_of
from fer_pipeline.datasets import cache as cache_lib
from fer_pipeline.datasets import ferplus as ferplus_lib
from fer_pipeline.datasets import files, folders, kaggle_csv, kaggle_hub, splitting
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
      relabelled: what ``ferplus`` says of its labels; empty without them.
    """

    splits: Splits
    name: str
    converted: int = 0
    skipped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    decoded: bool = True
    relabelled: str = ""


def load(
    source: str | os.PathLike[str],
    *,
    seed: int = 0,
    validation_fraction: float | None = None,
    on_bad_image: OnBadImage = "fail",
    cache: Cache = "memory",
    cache_dir: str | os.PathLike[str] | None = None,
    write_cache: bool = True,
    ferplus: str | os.PathLike[str] | None = None,
    ferplus_labels: Literal["majority", "distribution"] = "majority",
) -> Loaded:
    """Loads a data set.

    Args:
      source: ``"synthetic"``, a folder or .zip with ``train/<class>/`` and ``test/<class>/``,
        ``fer2013.csv`` or ``icml_face_data.csv``, in a .zip or not, or ``"kaggle:owner/name"``.
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
      ferplus: ``fer2013new.csv``, whose labels replace those of a CSV file; see ``ferplus``.
      ferplus_labels: ``"majority"``, or ``"distribution"`` to train on the votes themselves.

    Raises:
      UserError: the source or an argument is wrong; says what to do.
    """
    path, kind = _check_arguments(source, validation_fraction, on_bad_image, cache)
    _check_ferplus(path, kind, ferplus, ferplus_labels)
    if kind == SYNTHETIC:
        from fer_pipeline.datasets import synthetic

        return Loaded(synthetic.load(seed=0), SYNTHETIC, decoded=False)
    decoded = True
    if cache == "disk":
        faces, decoded = _read_cached(path, kind, on_bad_image, cache_dir, write=write_cache)
    else:
        faces = _decode(path, kind, on_bad_image, stream=cache == "none")
    faces, note = _relabel(path, faces, ferplus, ferplus_labels)
    splits = splitting.split(path, faces, validation_fraction=validation_fraction, seed=seed)
    name = source_name(source)
    return Loaded(splits, name, faces.converted, faces.skipped, faces.left_out, decoded, note)


def read(
    source: str | os.PathLike[str],
    *,
    on_bad_image: OnBadImage = "fail",
    ferplus: str | os.PathLike[str] | None = None,
    ferplus_labels: str = "majority",
) -> Faces:
    """Reads all images of a source into memory, to be split by ``splitting.split``.

    Args:
      source: as for ``load``, but not the synthetic faces, whose splits are drawn independently.
      on_bad_image: as for ``load``.
      ferplus: as for ``load``.
      ferplus_labels: as for ``load``.

    Raises:
      UserError: the source is wrong; says what to do.
    """
    path, kind = _check_arguments(source, None, on_bad_image, "memory")
    _check_ferplus(path, kind, ferplus, ferplus_labels)
    return _relabel(path, _decode(path, kind, on_bad_image), ferplus, ferplus_labels)[0]


def check(
    source: str | os.PathLike[str],
    *,
    validation_fraction: float | None = None,
    on_bad_image: OnBadImage = "fail",
    cache: Cache = "memory",
    ferplus: str | os.PathLike[str] | None = None,
    ferplus_labels: str = "majority",
) -> None:
    """Checks a source by the names of its files, without decoding images or importing TensorFlow.

    The arguments are those of ``load``.

    Raises:
      UserError: ``load`` would raise the same.
    """
    path, kind = _check_arguments(source, validation_fraction, on_bad_image, cache)
    _check_ferplus(path, kind, ferplus, ferplus_labels)
    # If there is a cache entry, the names are not read again.
    if cache != "disk":
        _list_images(path, kind)


def is_path(source: str) -> bool:
    """Whether a source is a path on this machine, as it stands."""
    return source not in (SYNTHETIC, ARRAYS) and not kaggle_hub.is_on_kaggle(source)


def source_name(source: str | os.PathLike[str]) -> str:
    """Names a source, for file names: ``"synthetic"``, or the stem of its file or folder.

    Raises:
      UserError: it begins with ``kaggle:`` and is not the name of a data set.
    """
    if os.fspath(source) == SYNTHETIC:
        return SYNTHETIC
    if kaggle_hub.is_on_kaggle(os.fspath(source)):
        return kaggle_hub.name(os.fspath(source))
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
    path = Path(os.path.normpath(kaggle_hub.resolve(source)))
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
    if _holds_csv(members):
        return None
    return folders.list_zip(source, members)


def _holds_csv(members: Sequence[zipfile.ZipInfo]) -> bool:
    """Whether a .zip of these members is one of a CSV file."""
    names = [member.filename for member in members]
    suffixes = files.IMAGE_SUFFIXES + files.HEIF_SUFFIXES
    images = any(name.lower().endswith(suffixes) for name in names)
    return bool(kaggle_csv.csv_members(names)) and not images


def _check_ferplus(
    source: str, kind: str, ferplus: str | os.PathLike[str] | None, labels: str
) -> None:
    """Checks what can be seen of FER+'s labels before an image is read.

    Raises:
      UserError: there is no such file, or the source has no rows to match its rows with.
    """
    if problem := problem_of("ferplus_labels", labels):
        raise UserError(f"--ferplus_labels={labels}: {problem}")
    if ferplus is None:
        if labels != "majority":
            raise UserError(f"--ferplus_labels={labels}: needs --ferplus=fer2013new.csv")
        return
    ferplus_lib.check(ferplus)
    if kind != "csv" and not (kind == "zip" and _holds_csv(files.open_zip(source))):
        raise UserError(
            f"--ferplus={ferplus}: its rows are those of FER-2013's CSV file, and {source} has "
            "images in folders; pass --data=fer2013.csv, or a .zip of it"
        )


def _relabel(
    source: str, faces: Faces, ferplus: str | os.PathLike[str] | None, labels: str
) -> tuple[Faces, str]:
    """The faces, with the labels of FER+ if these are wanted; and what to say of them."""
    if ferplus is None:
        return faces, ""
    return ferplus_lib.relabel(source, faces, ferplus, distribution=labels == "distribution")


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
    options = [kind, on_bad_image]
    # Without the extra they are left out.
    options += [pictures.HEIF] if pictures.reads_heif() else []
    folder = cache_lib.entry_folder(cache_dir, source_name(source), digest, options)
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
