"""Where faces come from: class folders, a .zip of them, Kaggle's CSV, or the embedded default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from fer_pipeline.datasets import cache as cache_lib
from fer_pipeline.datasets import files, folders, kaggle_csv, splitting
from fer_pipeline.datasets import splits as splits_lib
from fer_pipeline.datasets.splits import Splits
from fer_pipeline.errors import UserError
from fer_pipeline.images import OnBadImage

#: The name of the embedded default source.
SYNTHETIC = "synthetic"

#: Decoded images in memory, in files that are mapped into memory, or not kept at all.
Cache = Literal["memory", "disk", "none"]


class Loaded(NamedTuple):
    """A data set and how it came to be.

    Attributes:
      splits: the images.
      name: short, for a run directory: ``"synthetic"`` or the stem of the file or folder.
      converted: images that were not 48x48 grey before.
      skipped: names of unreadable images or rows that were left out.
      left_out: names of files among the images that are none.
      decoded: whether images were decoded, and not found in a cache.
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
      seed: of the cut that ``validation_fraction`` makes; nothing else here depends on it.
      validation_fraction: part of the training images to validate on, in place of the images
        that the source has for it; see ``splitting.split``. Refused for the embedded default,
        whose splits are drawn apart.
      on_bad_image: ``"fail"`` stops at an unreadable image and names it, ``"skip"`` leaves it out.
      cache: ``"memory"``; ``"disk"`` keeps the decoded images in ``cache_dir`` and maps them into
        memory, so that a second start decodes nothing; ``"none"`` decodes all of them once to
        find the bad ones, and again whenever they are used, but means ``"memory"`` for the CSV
        files and the default.
      cache_dir: ``$XDG_CACHE_HOME/fer_pipeline`` or ``~/.cache/fer_pipeline`` by default.
      write_cache: False takes ``"disk"`` for ``"memory"`` where nothing is there yet.

    Raises:
      UserError: about the source or an argument, with the way out.
    """
    source, kind = _checked(source, validation_fraction, on_bad_image, cache)
    if kind == SYNTHETIC:
        from fer_pipeline.datasets import synthetic

        return Loaded(synthetic.load(seed=0), SYNTHETIC, decoded=False)
    decoded = True
    if cache == "disk":
        faces, decoded = _through_cache(source, kind, on_bad_image, cache_dir, write=write_cache)
    else:
        faces = _decode(source, kind, on_bad_image, stream=cache == "none")
    splits = splitting.split(source, faces, validation_fraction=validation_fraction, seed=seed)
    name = source_name(source)
    return Loaded(splits, name, faces.converted, faces.skipped, faces.left_out, decoded)


def read(source: str | os.PathLike[str], *, on_bad_image: OnBadImage = "fail") -> splits_lib.Faces:
    """All images of a source in memory, for whoever splits them: ``splitting.split``.

    Args:
      source: as ``load``'s, but not the embedded default, whose splits are drawn apart.
      on_bad_image: as ``load``'s.

    Raises:
      UserError: about the source, with the way out.
    """
    source, kind = _checked(source, None, on_bad_image, "memory")
    return _decode(source, kind, on_bad_image)


def check(
    source: str | os.PathLike[str],
    *,
    validation_fraction: float | None = None,
    on_bad_image: OnBadImage = "fail",
    cache: Cache = "memory",
) -> None:
    """Finds what is wrong with a source by its names alone: no image is read, nor TensorFlow.

    The arguments are ``load``'s.

    Raises:
      UserError: ``load`` would raise the same.
    """
    source, kind = _checked(source, validation_fraction, on_bad_image, cache)
    # With an entry on disk the names are not looked at again.
    if cache != "disk":
        _listing(source, kind)


def source_name(source: str | os.PathLike[str]) -> str:
    """What to call a source in a file name: ``"synthetic"``, or the stem of its file or folder."""
    if os.fspath(source) == SYNTHETIC:
        return SYNTHETIC
    path = Path(source).resolve()
    return path.stem if path.suffix.lower() in (".zip", ".csv") else path.name


def _checked(
    source: str | os.PathLike[str],
    validation_fraction: float | None,
    on_bad_image: str,
    cache: str,
) -> tuple[str, str]:
    """The source's path and kind, ``"folder"``, ``"zip"``, ``"csv"`` or ``"synthetic"``.

    Raises:
      UserError: it is none of these, or the other arguments of ``load`` are wrong.
    """
    source = os.fspath(source)
    if validation_fraction is not None and not 0 < validation_fraction < 1:
        raise UserError(
            f"--validation_fraction={validation_fraction}: must lie between 0 and 1, as 0.1 does"
        )
    for flag, value, values in (
        ("on_bad_image", on_bad_image, get_args(OnBadImage)),
        ("cache", cache, get_args(Cache)),
    ):
        if value not in values:
            raise UserError(f"--{flag}={value}: must be one of {', '.join(values)}")
    if source == SYNTHETIC:
        if validation_fraction is not None:
            raise UserError(
                "--validation_fraction: the synthetic faces have validation images; leave it out"
            )
        return source, SYNTHETIC
    path = Path(os.path.normpath(source))
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    if path.is_dir():
        return str(path), "folder"
    if path.suffix.lower() not in (".zip", ".csv"):
        raise UserError(f"{path}: neither a folder nor a .zip nor a .csv file; pass one of them")
    return str(path), path.suffix.lower()[1:]


def _listing(source: str, kind: str) -> folders.Listing | None:
    """The images of a folder or .zip; None for a CSV file, in a .zip or not, and the default."""
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


def _decode(source: str, kind: str, on_bad_image: OnBadImage, **options: Any) -> splits_lib.Faces:
    """The images of a source; the options of ``folders.decode`` are no matter to a CSV file."""
    listing = _listing(source, kind)
    if listing is None:
        return kaggle_csv.read(source, on_bad_image=on_bad_image)
    return folders.decode(listing, on_bad_image=on_bad_image, **options)


def _through_cache(
    source: str,
    kind: str,
    on_bad_image: OnBadImage,
    cache_dir: str | os.PathLike[str] | None,
    *,
    write: bool,
) -> tuple[splits_lib.Faces, bool]:
    """The images from the cache on disk, and whether they had to be decoded; it may be written."""
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

    def decode(allocate: cache_lib.Allocate) -> splits_lib.Faces:
        return _decode(source, kind, on_bad_image, allocate=allocate)

    return cache_lib.store(folder, decode, check_source)


def _digest(source: str, kind: str) -> str:
    """Changes when the source does."""
    if kind == "zip":
        return files.zip_digest(source)
    if kind == "csv":
        return files.digest(os.path.dirname(source), [os.path.basename(source)])
    return files.digest(source, folders.scan_folder(source)[0])
