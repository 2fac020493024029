"""Faces in class folders: ``train/<class>/*``, ``test/<class>/*``, on disk or inside a .zip.

The two may be ``training/`` and ``testing/``. There may be a ``validation/``, ``valid/`` or
``val/`` folder too, or no split folder at all
(``<class>/*``), and all of them may be in a parent folder, as in an archive that was packed with it
(``fer2013/train/...``). Split and class folders are recognised in upper and lower case; which class
folders there are, ``layout`` says. Files that operating systems create are ignored; other files
that are not images are counted.

A source is first listed, by the names of its files, and then decoded, at once or as a stream.
"""

from __future__ import annotations

import contextlib
import functools
import os
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from fer_pipeline import cores
from fer_pipeline import images as images_lib
from fer_pipeline.datasets import files as files_lib
from fer_pipeline.datasets import layout, splitting
from fer_pipeline.datasets.files import Files, printable
from fer_pipeline.datasets.layout import Listing
from fer_pipeline.datasets.splits import Faces, LazyImages
from fer_pipeline.errors import UserError
from fer_pipeline.images import FACE_SHAPE, Decoded, OnBadImage

#: Files of one task, and the number of bytes after which they are decoded before more are read.
_BATCH = 256
_BATCH_BYTES = 2**24


def list_folder(root: str | os.PathLike[str], classes: Sequence[str] | None = None) -> Listing:
    """Lists the images below a folder.

    Args:
      root: the folder.
      classes: as for ``layout.list_images``.

    Raises:
      UserError: it holds no class folders, one of them is missing, empty or unknown.
    """
    root = os.fspath(root)
    files_of = functools.partial(files_lib.FolderFiles, root)
    return layout.list_images(root, *scan_folder(root), files_of, classes)


def list_zip(
    path: str | os.PathLike[str],
    infos: Iterable[zipfile.ZipInfo],
    classes: Sequence[str] | None = None,
) -> Listing:
    """Lists the images in a .zip.

    Args:
      path: of the .zip.
      infos: its members, from ``files.open_zip``.
      classes: as for ``layout.list_images``.

    Raises:
      UserError: as ``list_folder``; or it is encrypted, or neither stored nor deflated.
    """
    members = {info.filename: info for info in infos if not files_lib.is_system_file(info.filename)}
    folders = set()
    for name in members:
        parts = name.split("/")[:-1]
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    names = [name for name in members if not name.endswith("/")]

    def files_of(wanted: Sequence[str]) -> Files:
        return files_lib.ZipFiles(path, [members[name] for name in wanted])

    return layout.list_images(os.fspath(path), names, folders, files_of, classes)


def scan_folder(root: str) -> tuple[list[str], set[str]]:
    """Finds the files in the split folders of ``root``, and all folders, as relative paths.

    In a flat source, as ``layout`` says, the files are those beside and in the class folders.

    Raises:
      UserError: there are no such folders, or one cannot be read or links back to itself.
    """
    folders: set[str] = set()
    level = [""]
    for _ in range(layout.MAX_DEPTH):
        # Other folders need not be readable.
        level = [child for folder in level for child in _scan(root, folder, strict=False)[1]]
        folders.update(level)
        if any(layout.last_part(folder) in layout.SPLITS for folder in level):
            break
    prefix, flat = layout.find_root(root, folders)
    names: list[str] = []
    splits = [f for f in level if f.startswith(prefix) and layout.last_part(f) in layout.SPLITS]
    todo = [(folder, (os.path.realpath(root),)) for folder in splits]
    if flat:
        todo = [(prefix.rstrip("/"), ())]
    while todo:
        folder, above = todo.pop()
        path = os.path.realpath(os.path.join(root, folder))
        if any(os.path.commonpath([path, one]) == path for one in above):
            raise UserError(
                f"{printable(f'{root}/{folder}')}: a symbolic link to a folder that it lies in; "
                "remove it"
            )
        files, children = _scan(root, folder)
        names += files
        folders.update(children)
        todo += [(child, (*above, path)) for child in children]
    return names, folders


def _scan(root: str, folder: str, *, strict: bool = True) -> tuple[list[str], list[str]]:
    """Lists the files and folders in one folder, as paths relative to ``root``.

    Raises:
      UserError: it, or the target of a link in it, cannot be read. If not ``strict``, only the
        root must be readable, and whatever else cannot be read is ignored.
    """
    found: tuple[list[str], list[str]] = ([], [])
    with _reading(strict=strict or not folder), os.scandir(os.path.join(root, folder)) as entries:
        for entry in entries:
            if not files_lib.is_system_file(entry.name):
                name = f"{folder}/{entry.name}" if folder else entry.name
                with _reading(strict=strict):
                    found[entry.is_dir()].append(name)
    return found


@contextlib.contextmanager
def _reading(*, strict: bool) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if strict:
            name = printable(error.filename)
            raise UserError(f"{name}: {error.strerror}; make it readable or remove it") from error


def decoded_batches(
    files: Files, positions: Sequence[int], *, on_bad_image: OnBadImage = "fail"
) -> Iterator[Decoded]:
    """Reads and decodes files on all cores, in the order of ``positions``, in batches.

    Yields:
      ``Decoded`` values; their ``kept`` are indices into ``positions``.

    Raises:
      UserError: names the first file that cannot be read, unless they are to be skipped.
    """
    # Threads: TensorFlow, Pillow and zlib release the interpreter lock while they work. One more
    # than cores, since some wait for the disk.
    workers = cores.usable() + 1
    size = min(max(len(positions) // (4 * workers), _BATCH // 4), _BATCH)
    starts = range(0, len(positions), size)

    def work(start: int) -> list[Decoded]:
        decoded, begin = [], start
        for names, encoded in _read(files, positions[start : start + size], on_bad_image):
            one = images_lib.decode_faces(encoded, names, on_bad_image=on_bad_image)
            decoded.append(one._replace(kept=one.kept + begin))
            begin += len(encoded)
        return decoded

    # The first one alone: it traces the decoders that all of them use.
    for start in starts[:1]:
        yield from work(start)
    with ThreadPoolExecutor(workers, thread_name_prefix="decoder") as pool:
        ahead: deque[Future[list[Decoded]]] = deque()
        try:
            for start in starts[1:]:
                ahead.append(pool.submit(work, start))
                # Only so many batches may be in memory.
                if len(ahead) > 2 * workers:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _read(
    files: Files, positions: Sequence[int], on_bad_image: OnBadImage
) -> Iterator[tuple[list[str], list[bytes]]]:
    """Reads files in batches of up to ``_BATCH_BYTES`` and one file: their names and bytes."""
    names, encoded, size = [], [], 0
    for i in positions:
        names.append(files.name(i))
        try:
            encoded.append(files.read(i))
        except UserError:
            if on_bad_image == "fail":
                raise
            encoded.append(b"")  # Will be skipped.
        size += len(encoded[-1])
        if size > _BATCH_BYTES:
            yield names, encoded
            names, encoded, size = [], [], 0
    yield names, encoded


def _decoded(files: Files, positions: np.ndarray) -> np.ndarray:
    """Decodes the faces at some positions: uint8 ``[B, 48, 48, 1]``."""
    batches = [decoded.images for decoded in decoded_batches(files, positions)]
    return np.concatenate([np.empty((0, *FACE_SHAPE), np.uint8), *batches])


def decode(
    listing: Listing,
    *,
    on_bad_image: OnBadImage = "fail",
    allocate: Callable[[tuple[int, ...]], np.ndarray] | None = None,
    stream: bool = False,
) -> Faces:
    """Decodes all images of a listing.

    Args:
      listing: of the source.
      on_bad_image: ``"fail"`` or ``"skip"``.
      allocate: allocates the uint8 array of a given shape for the images; in memory by default.
      stream: keeps no image; they are decoded again whenever they are indexed. They are decoded
        once now, to find the bad ones before training starts, and to hash the pixels.

    Raises:
      UserError: a file cannot be read, which is named; or none can.
    """
    shape = (len(listing.labels), *FACE_SHAPE)
    images = None if stream else (allocate or functools.partial(np.empty, dtype=np.uint8))(shape)
    kept, hashes, skipped, converted, end = [], [], [], 0, 0
    positions = range(len(listing.labels))
    for decoded in decoded_batches(listing.files, positions, on_bad_image=on_bad_image):
        if stream:
            hashes.append(splitting.pixel_hashes(decoded.images))
        else:
            images[end : end + len(decoded.images)] = decoded.images
        end += len(decoded.images)
        kept.append(decoded.kept)
        skipped += decoded.skipped
        converted += decoded.converted
    if not end:
        raise UserError(f"{skipped[0]}: no readable image, nor is any other; fetch them again")
    good = np.concatenate(kept)
    read = functools.partial(_decoded, listing.files)
    return Faces(
        LazyImages(read, good) if stream else images[:end],
        listing.labels[good],
        listing.groups[good],
        converted,
        tuple(skipped),
        listing.left_out,
        np.concatenate(hashes) if stream else None,
        rows=good,
        classes=listing.classes,
        unread=listing.unread,
    )
