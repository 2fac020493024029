"""Faces in class folders: ``train/<class>/*``, ``test/<class>/*``, on disk or inside a .zip.

A ``validation/`` or ``val/`` folder may lie beside them, and all of it may lie in a folder of its
own, as it does when an archive was packed with its parent (``fer2013/train/...``). Split and class
folders are recognised in upper and lower case; class numbers are always those of
``expressions.CLASS_NAMES``. Dot files, ``__MACOSX`` and files that are no images are passed over.

Listing a source looks at names alone. Decoding it is a second step, at once or as a stream.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from fer_pipeline import faces as faces_lib
from fer_pipeline.datasets import files as files_lib
from fer_pipeline.datasets import layout, splitting
from fer_pipeline.datasets.files import Files
from fer_pipeline.errors import UserError
from fer_pipeline.faces import FACE_SHAPE, Decoded, OnBadImage

#: Files that are read and decoded by one task, and how many bytes they should not exceed.
_BATCH = 256
_BATCH_BYTES = 16 * 2**20


class Listing(NamedTuple):
    """The images of a source, undecoded, sorted by split, class and name.

    Attributes:
      files: the image files.
      labels: int32 ``[N]``.
      groups: int8 ``[N]``, see ``splitting.TRAIN``.
    """

    files: Files
    labels: np.ndarray
    groups: np.ndarray


class LazyImages:
    """Faces decoded when they are asked for, for sources larger than memory.

    Indexed like an array along its first axis: ``images[7]`` is uint8 ``[48, 48, 1]``,
    ``images[0:64]`` and ``images[positions]`` are uint8 ``[B, 48, 48, 1]``. Nothing is kept.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, files: Files, positions: np.ndarray | None = None):
        self._files = files
        self._positions = np.arange(len(files)) if positions is None else positions

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (len(self), *FACE_SHAPE)

    def subset(self, positions: np.ndarray) -> LazyImages:
        """The images at some positions, as lazy as these."""
        return LazyImages(self._files, self._positions[positions])

    def fetch(self, positions: np.ndarray) -> np.ndarray:
        """Reads and decodes the images at positions, int64 ``[B]`` -> uint8 ``[B, 48, 48, 1]``.

        Safe to call from several threads.

        Raises:
          UserError: one of them cannot be read; names it.
        """
        wanted = self._positions[positions]
        batches = [decoded.images for decoded in decoded_batches(self._files, wanted)]
        return np.concatenate([np.empty((0, *FACE_SHAPE), np.uint8), *batches])

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(key, (int, np.integer)):
            return self.fetch(np.array([range(len(self))[key]]))[0]
        return self.fetch(np.arange(len(self))[key])

    def __array__(self, dtype=None, copy=None):
        raise TypeError("these images are streamed from disk; index them to get an array")


def list_folder(root: str | os.PathLike[str]) -> Listing:
    """Lists the images below a folder.

    Raises:
      UserError: it holds no class folders, one of them is missing, empty or unknown.
    """
    names, folders = scan_folder(root)
    names, labels, groups = layout.arranged(os.fspath(root), names, folders)
    return Listing(files_lib.FolderFiles(root, names), labels, groups)


def list_zip(path: str | os.PathLike[str], infos: Iterable[zipfile.ZipInfo]) -> Listing:
    """Lists the images in a .zip, which is not unpacked.

    Args:
      path: of the .zip.
      infos: its members, as ``files.open_zip`` gives them.

    Raises:
      UserError: as ``list_folder``; or it is no zip, encrypted or packed in an uncommon way.
    """
    members = {member.filename.replace("\\", "/"): member for member in infos}
    names = [name for name in members if files_lib.is_image(name)]
    folders = _with_parents({name.rpartition("/")[0] for name in members})
    names, labels, groups = layout.arranged(os.fspath(path), names, folders)
    wanted = [members[name] for name in names]
    files_lib.check_readable(path, wanted)
    return Listing(files_lib.ZipFiles(path, wanted), labels, groups)


def scan_folder(root: str | os.PathLike[str]) -> tuple[list[str], set[str]]:
    """Images in the split folders below ``root``, and all folders met: paths relative to it.

    Raises:
      UserError: there are no split folders.
    """
    root = os.fspath(root)
    folders: set[str] = set()
    level = [""]
    for _ in range(layout.MAX_DEPTH):
        level = [child for folder in level for child in _scan(root, folder)[1]]
        folders.update(level)
        if any(layout.leaf(folder) in layout.SPLITS for folder in level):
            break
    prefix = layout.prefix_of(root, folders)
    names: list[str] = []
    todo = [f for f in level if f.startswith(prefix) and layout.leaf(f) in layout.SPLITS]
    while todo:
        images, children = _scan(root, todo.pop())
        names += images
        folders.update(children)
        todo += children
    return names, folders


def decoded_batches(
    files: Files, positions: Sequence[int], *, on_bad_image: OnBadImage = "fail"
) -> Iterator[Decoded]:
    """Reads and decodes files on all cores, in the order of ``positions``, some hundred at a time.

    Yields:
      ``Decoded`` values; ``kept`` counts along ``positions``.

    Raises:
      UserError: names the first file that cannot be read, unless they are to be skipped.
    """
    size = _batch_size(files, positions)
    starts = range(0, len(positions), size)

    def work(start: int) -> Decoded:
        decoded = _decoded(files, positions[start : start + size], on_bad_image)
        return decoded._replace(kept=decoded.kept + start)

    if len(starts) < 2:
        yield from map(work, starts)
        return
    # Threads, as TensorFlow and zlib let go of the interpreter while they work. One more than
    # cores: some are waiting for the disk.
    workers = (os.cpu_count() or 1) + 1
    with ThreadPoolExecutor(workers, thread_name_prefix="decoder") as pool:
        ahead: deque[Future[Decoded]] = deque()
        try:
            for start in starts:
                ahead.append(pool.submit(work, start))
                # A bounded number of batches is in memory.
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _batch_size(files: Files, positions: Sequence[int]) -> int:
    """How many files make a batch, taking the first for typical where there are many."""
    if len(positions) <= _BATCH:
        return _BATCH
    with contextlib.suppress(UserError):
        return min(_BATCH, 1 + _BATCH_BYTES // (1 + len(files.read(positions[0]))))
    return _BATCH


def _decoded(files: Files, positions: Sequence[int], on_bad_image: OnBadImage) -> Decoded:
    """Reads and decodes one batch."""
    encoded = []
    for i in positions:
        try:
            encoded.append(files.read(i))
        except UserError:
            if on_bad_image == "fail":
                raise
            encoded.append(b"")  # Which is skipped below.
    names = [files.name(i) for i in positions]
    return faces_lib.decode_faces(encoded, names, on_bad_image=on_bad_image)


def decode(
    listing: Listing,
    *,
    on_bad_image: OnBadImage = "fail",
    allocate: Callable[[tuple[int, ...]], np.ndarray] | None = None,
) -> splitting.Faces:
    """Decodes all images of a listing.

    Args:
      listing: of the source.
      on_bad_image: ``"fail"`` or ``"skip"``.
      allocate: gives the uint8 array of a shape that is to hold the images; memory by default.

    Raises:
      UserError: names the first file that cannot be read.
    """
    shape = (len(listing.labels), *FACE_SHAPE)
    images = allocate(shape) if allocate else np.empty(shape, np.uint8)

    def store(end: int, decoded: Decoded) -> None:
        images[end : end + len(decoded.images)] = decoded.images

    faces = _pass(listing, on_bad_image, store)
    return faces._replace(images=images[: len(faces.labels)])


def stream(listing: Listing, *, on_bad_image: OnBadImage = "fail") -> splitting.Faces:
    """The images of a listing, to be decoded when they are asked for.

    One pass over all of them, which keeps none, finds the bad ones now and not hours into a
    training, counts those to convert, and hashes the pixels.

    Raises:
      UserError: as ``decode``.
    """
    images = LazyImages(listing.files)
    digests = [np.empty(0, np.uint64)]

    def digest(_: int, decoded: Decoded) -> None:
        digests.append(splitting.pixel_hashes(decoded.images))

    faces = _pass(listing, on_bad_image, digest)
    return faces._replace(images=images.subset(faces.images), hashes=np.concatenate(digests))


def _pass(
    listing: Listing, on_bad_image: OnBadImage, use: Callable[[int, Decoded], None]
) -> splitting.Faces:
    """Decodes a listing and hands every batch, and the number of images before it, to ``use``.

    Returns:
      What is known then; in place of the images, the positions of the good ones.
    """
    kept, skipped, converted, end = [np.empty(0, np.int64)], [], 0, 0
    positions = range(len(listing.labels))
    for decoded in decoded_batches(listing.files, positions, on_bad_image=on_bad_image):
        use(end, decoded)
        end += len(decoded.images)
        kept.append(decoded.kept)
        skipped += decoded.skipped
        converted += decoded.converted
    good = np.concatenate(kept)
    return splitting.Faces(
        good, listing.labels[good], listing.groups[good], converted, tuple(skipped)
    )


def _scan(root: str, folder: str) -> tuple[list[str], list[str]]:
    """Images and subfolders of one folder, as paths relative to ``root``."""
    images, folders = [], []
    path = os.path.join(root, folder)
    try:
        entries = list(os.scandir(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check its permissions") from error
    for entry in entries:
        name = f"{folder}/{entry.name}" if folder else entry.name
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if entry.is_dir():
            folders.append(name)
        elif files_lib.is_image(entry.name):
            images.append(name)
    return images, folders


def _with_parents(folders: Iterable[str]) -> set[str]:
    """The folders and all folders above them, hidden ones left out."""
    found = set()
    for folder in folders:
        parts = folder.split("/")
        if files_lib.is_image(f"{folder}/x.jpg"):
            found.update("/".join(parts[:n]) for n in range(1, len(parts) + 1))
    return found - {""}
