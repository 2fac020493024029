"""Sources of faces: class folders, a .zip of them, Kaggle's CSV files or any of these on Kaggle,
or synthetic faces.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from fer_pipeline import classes as classes_lib
from fer_pipeline import pictures
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.config import problem_of
from fer_pipeline.datasets import cache as cache_lib
from fer_pipeline.datasets import (
    exclusion,
    files,
    folders,
    kaggle_csv,
    kaggle_hub,
    layout,
    splitting,
)
from fer_pipeline.datasets import ferplus as ferplus_lib
from fer_pipeline.datasets.exclusion import Excluded
from fer_pipeline.datasets.splits import TEST, TRAIN, VALIDATION, Faces, Splits
from fer_pipeline.errors import UserError
from fer_pipeline.images import OnBadImage

#: The name of the default source: the synthetic faces.
SYNTHETIC = "synthetic"

#: In the place of a source: the faces of a run that was given arrays.
ARRAYS = "(arrays)"

#: Where decoded images are kept: in memory, in memory-mapped files, or nowhere.
Cache = Literal["memory", "disk", "none"]

#: Which classes there are: names in their order, the same as the text of ``--classes``, or
#: ``"auto"``, those of the source.
Classes = str | Sequence[str]


class Loaded(NamedTuple):
    """A data set and how it was loaded.

    Attributes:
      splits: the images.
      name: short, for a run directory: ``"synthetic"`` or the stem of the file or folder.
      converted: number of images that were not 48x48 grey.
      skipped: names of unreadable images or rows that were skipped.
      left_out: names of files among the images that are not images.
      decoded: whether images were decoded, not read from a cache.
      excluded: what a list of images left out; None without one.
      relabelled: what ``ferplus`` says of its labels; empty without them.
      cut: how its splits were made, where that is not as its folders are named; else empty.
      unread: names of folders beside those of the splits, whose images were not read.
    """

    splits: Splits
    name: str
    converted: int = 0
    skipped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    decoded: bool = True
    excluded: Excluded | None = None
    relabelled: str = ""
    cut: str = ""
    unread: tuple[str, ...] = ()


def load(
    source: str | os.PathLike[str],
    *,
    classes: Classes = classes_lib.AUTO,
    seed: int = 0,
    validation_fraction: float | None = None,
    on_bad_image: OnBadImage = "fail",
    cache: Cache = "memory",
    cache_dir: str | os.PathLike[str] | None = None,
    write_cache: bool = True,
    exclude: str | os.PathLike[str] | None = None,
    ferplus: str | os.PathLike[str] | None = None,
    ferplus_labels: Literal["majority", "distribution"] = "majority",
) -> Loaded:
    """Loads a data set.

    Args:
      source: ``"synthetic"``, a folder or .zip with ``train/<class>/`` and ``test/<class>/``, or
        with ``<class>/`` alone, which ``hash_cut`` cuts into splits, ``fer2013.csv`` or
        ``icml_face_data.csv``, in a .zip or not, or ``"kaggle:owner/name"``.
      classes: names and order of the classes, which have to be those of the source; ``"auto"``
        takes the folders in ``train/`` or in the source, sorted. CSV files and the synthetic faces
        have FER-2013's.
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
      exclude: a file that lists training and validation images to leave out; see ``exclusion``.
      ferplus: ``fer2013new.csv``, whose labels replace those of a CSV file; see ``ferplus``.
      ferplus_labels: ``"majority"``, or ``"distribution"`` to train on the votes themselves.

    Raises:
      UserError: the source or an argument is wrong; says what to do.
    """
    path, kind = _check_arguments(source, validation_fraction, on_bad_image, cache)
    if exclude is not None:
        # A mistake in it shows before anything is decoded.
        exclusion.read(exclude)
    classes = _check_classes(path, kind, classes)
    _check_ferplus(path, kind, ferplus, ferplus_labels)
    if kind == SYNTHETIC:
        from fer_pipeline.datasets import synthetic

        splits, excluded = synthetic.load(seed=0), None
        if exclude is not None:
            splits, excluded = exclusion.apply(splits, exclusion.read(exclude))
        return Loaded(splits, SYNTHETIC, decoded=False, excluded=excluded)
    decoded = True
    if cache == "disk":
        reading = (path, kind, classes, on_bad_image)
        faces, decoded = _read_cached(*reading, cache_dir, write=write_cache)
    else:
        faces = _decode(path, kind, classes, on_bad_image, stream=cache == "none")
    faces, note = _relabel(path, faces, ferplus, ferplus_labels)
    places = splitting.positions(path, faces, validation_fraction=validation_fraction, seed=seed)
    splits, excluded = _select(path, faces, places, exclude)
    about = (faces.converted, faces.skipped, faces.left_out, decoded)
    notes = (excluded, note, places.note, faces.unread)
    return Loaded(splits, source_name(source), *about, *notes)


def split(
    source: str,
    faces: Faces,
    *,
    validation_fraction: float | None = None,
    seed: int = 0,
    exclude: str | os.PathLike[str] | None = None,
) -> tuple[Splits, Excluded | None]:
    """Splits what ``read`` gave, and leaves out the images that a file lists.

    The arguments are those of ``load``, and so are the errors.
    """
    places = splitting.positions(source, faces, validation_fraction=validation_fraction, seed=seed)
    return _select(source, faces, places, exclude)


def _select(
    source: str,
    faces: Faces,
    places: splitting.Positions,
    exclude: str | os.PathLike[str] | None,
) -> tuple[Splits, Excluded | None]:
    """The images of each split, without those that a file lists."""
    splits = splitting.select(faces, places)
    if exclude is None:
        return splits, None

    def names_of() -> list[list[str]]:
        return [names(source, faces, part) for part in places[:3]]

    return exclusion.apply(splits, exclusion.read(exclude), names_of)


def read(
    source: str | os.PathLike[str],
    *,
    classes: Classes = classes_lib.AUTO,
    on_bad_image: OnBadImage = "fail",
    ferplus: str | os.PathLike[str] | None = None,
    ferplus_labels: str = "majority",
) -> Faces:
    """Reads all images of a source into memory, to be split by ``split``.

    Args:
      source: as for ``load``.
      classes: as for ``load``.
      on_bad_image: as for ``load``.
      ferplus: as for ``load``.
      ferplus_labels: as for ``load``.

    Raises:
      UserError: the source is wrong; says what to do.
    """
    path, kind = _check_arguments(source, None, on_bad_image, "memory")
    classes = _check_classes(path, kind, classes)
    _check_ferplus(path, kind, ferplus, ferplus_labels)
    if kind == SYNTHETIC:
        from fer_pipeline.datasets import synthetic

        return _joined(synthetic.load(seed=0))
    faces = _decode(path, kind, classes, on_bad_image)
    return _relabel(path, faces, ferplus, ferplus_labels)[0]


def _joined(splits: Splits) -> Faces:
    """Three splits as the faces of one source."""
    parts = splits[:3]
    sizes = [len(part.labels) for part in parts]
    return Faces(
        images=np.concatenate([part.images for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        groups=np.repeat(np.array([TRAIN, VALIDATION, TEST], np.int8), sizes),
    )


def names(source: str | os.PathLike[str], faces: Faces, places: np.ndarray) -> list[str]:
    """Names images: by their paths in the source, or as ``"row 17"`` of a CSV file.

    Those of other sources are numbered from 0, as in ``"face 17"``.

    Args:
      source: where ``faces`` came from.
      faces: all images of it.
      places: int64 ``[M]``, which of them.
    """
    if faces.rows is None:
        return [f"face {place}" for place in places]
    found, rows = image_files(source, faces.classes), faces.rows[places]
    return [f"row {row}" if found is None else found.path(row) for row in rows]


def image_files(source: str | os.PathLike[str], classes: Sequence[str]) -> files.Files | None:
    """The image files of a source, by the numbers in ``Faces.rows``; None where it has none.

    ``classes`` are those of its ``Faces``: the numbers depend on their order.
    """
    listing = _list_images(*_check_arguments(source, None, "fail", "memory"), tuple(classes))
    return listing.files if listing else None


def check(
    source: str | os.PathLike[str],
    *,
    classes: Classes = classes_lib.AUTO,
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
    classes = _check_classes(path, kind, classes)
    _check_ferplus(path, kind, ferplus, ferplus_labels)
    # If there is a cache entry, the names are not read again.
    if cache != "disk":
        _list_images(path, kind, classes)


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


def _check_classes(source: str, kind: str, classes: Classes) -> tuple[str, ...] | None:
    """The classes that are asked for; None for those of the source."""
    try:
        names = classes_lib.parse(classes) if isinstance(classes, str) else tuple(classes)
        if problem := classes_lib.problem_of(CLASS_NAMES if names is None else names):
            raise ValueError(problem)
    except ValueError as error:
        raise UserError(f"--classes: {error}") from error
    if names is not None and kind in ("csv", SYNTHETIC):
        _require_fer2013(source, names)
    return names


def _require_fer2013(source: str, names: Sequence[str]) -> None:
    """Raises UserError where other classes are asked of a source of FER-2013's than those."""
    if problem := classes_lib.unlike(names, CLASS_NAMES):
        raise UserError(
            f"{source}: has {problem}, not {classes_lib.listed(names)}; only folders have classes "
            "of their own"
        )


def _list_images(source: str, kind: str, classes: tuple[str, ...] | None) -> folders.Listing | None:
    """Lists the images of a folder or .zip; None for a CSV file, also in a .zip, and synthetic."""
    if kind in ("csv", SYNTHETIC):
        return None
    if kind == "folder":
        return folders.list_folder(source, classes)
    members = files.open_zip(source)
    if _holds_csv(members):
        if classes is not None:
            _require_fer2013(source, classes)
        return None
    return folders.list_zip(source, members, classes)


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


def _decode(
    source: str,
    kind: str,
    classes: tuple[str, ...] | None,
    on_bad_image: OnBadImage,
    **options: Any,
) -> Faces:
    """Reads the images of a source; ``options`` are for ``folders.decode`` alone."""
    listing = _list_images(source, kind, classes)
    if listing is None:
        return kaggle_csv.read(source, on_bad_image=on_bad_image)
    return folders.decode(listing, on_bad_image=on_bad_image, **options)


def _read_cached(
    source: str,
    kind: str,
    classes: tuple[str, ...] | None,
    on_bad_image: OnBadImage,
    cache_dir: str | os.PathLike[str] | None,
    *,
    write: bool,
) -> tuple[Faces, bool]:
    """Reads the images through the cache on disk; also returns whether they were decoded."""
    digest = _digest(source, kind)
    options = [kind, on_bad_image, classes]
    # Without the extra they are left out.
    options += [pictures.HEIF] if pictures.reads_heif() else []
    folder = cache_lib.entry_folder(cache_dir, source_name(source), digest, options)
    faces = cache_lib.load(folder)
    if faces is not None:
        return faces, False
    if not write:
        return _decode(source, kind, classes, on_bad_image), True

    def check_source() -> None:
        if _digest(source, kind) != digest:
            raise UserError(f"{source}: changed while it was read; start again")

    def decode(allocate: cache_lib.Allocate) -> Faces:
        return _decode(source, kind, classes, on_bad_image, allocate=allocate)

    return cache_lib.store(folder, decode, check_source)


def _digest(source: str, kind: str) -> str:
    """A hash that changes when the source does."""
    if kind == "zip":
        return files.zip_digest(source)
    if kind == "csv":
        return files.digest(os.path.dirname(source), [os.path.basename(source)])
    names, all_folders = folders.scan_folder(source)
    unread = layout.unread_folders(source, all_folders)
    return " ".join([files.digest(source, names), *unread])
