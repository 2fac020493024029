"""The pictures that a command line means: files, folders, globs and lists on standard input."""

from __future__ import annotations

import glob
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from fer_pipeline.errors import UserError
from fer_pipeline.inference.results import printable

#: Stands for a list of paths on standard input.
STDIN = "-"

#: What is read is a file. An address may have a ``?`` in it, and is no glob.
_ADDRESS_MARK = "://"
_IS_ADDRESS = "is an address: download the file, and name that"

#: Files whose names are looked at before a table begins.
_LOOKED_AT = 1000

#: Bytes that are read from a list at a time.
_BLOCK = 2**16


class Source(NamedTuple):
    """A file to be read.

    Attributes:
      path: as it is opened and shown. Bytes that are not UTF-8 are surrogates (``os.fsdecode``).
      size: in bytes.
      problem: why it cannot be read; None if nothing speaks against it.
    """

    path: str
    size: int = 0
    problem: str | None = None


def expand(
    arguments: Iterable[str], *, stdin: int = 0, without: str | None = None
) -> Iterator[Source]:
    """Finds the files that arguments mean, one after the other, as they are found.

    * A file is itself, whatever its name.
    * A folder means the pictures in it and below, sorted by name. Hidden files and those of
      operating systems are left out, and so is what is not a picture.
    * What does not exist and has ``*``, ``?`` or ``[`` is a glob, as a shell expands it, with
      ``**`` for any number of folders. What lies in a folder that it means comes with that folder.
    * ``-`` is a list of paths on standard input: one a line, or ended by NUL if there is a NUL.

    Args:
      arguments: paths, globs and ``-``.
      stdin: the descriptor that ``-`` reads.
      without: a folder below which nothing is looked for in folders; it need not be there yet.

    Raises:
      UserError: standard input cannot be read.
    """
    for argument in arguments:
        if argument == STDIN:
            for name in listed(stdin):
                yield from _path(name, without)
        elif _is_pattern(argument):
            matches = _matches(argument)
            for name in matches:
                yield from _path(name, without)
            if not matches:
                yield Source(argument, problem="matches no file")
        else:
            yield from _path(argument, without)


def _is_pattern(name: str) -> bool:
    return glob.has_magic(name) and not os.path.lexists(name) and _ADDRESS_MARK not in name


def _matches(pattern: str) -> list[str]:
    """What a glob means, without what lies in one of the folders among it: ``**`` means both."""
    found: list[str] = []
    folder = None
    # Sorted by its parts, a folder comes right before what it holds.
    for name in sorted(set(_glob(pattern)), key=lambda name: name.split(os.sep)):
        if folder is not None and name.startswith(folder):
            continue
        found.append(name)
        if os.path.isdir(name):
            folder = os.path.join(name, "")
    return found


def _glob(pattern: str) -> Iterator[str]:
    """As ``glob.iglob`` with ``**``, but no link leads back to a folder that it lies in.

    ``iglob`` follows such a link forty times, and two of them in every order. Where ``**`` comes
    last it means a folder here, and not also all that the folder holds.
    """
    parts = pattern.split(os.sep)
    if "**" not in parts:
        yield from glob.iglob(pattern)
        return
    place = parts.index("**")
    head, tail = "".join(part + os.sep for part in parts[:place]), parts[place + 1 :]
    for base in glob.iglob(head) if head else [""]:
        if not tail:
            yield base or os.curdir
            continue
        for folder in _folders(base, ()):
            yield from _glob(os.path.join(glob.escape(folder), *tail))


def _folders(path: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """A folder and all below it, less the hidden ones; ``above`` as in ``_below``."""
    try:
        status = os.stat(path or os.curdir)
        names = sorted(os.listdir(path or os.curdir))
    except OSError:
        # No folder, or one that may not be read: no file in it is meant.
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    yield path
    for name in names:
        if not name.startswith("."):
            yield from _folders(os.path.join(path, name), (*above, identity))


def count(arguments: Sequence[str], *, without: str | None = None) -> int | None:
    """How many files arguments mean; None where a list is still to be read."""
    return None if STDIN in arguments else sum(1 for _ in expand(arguments, without=without))


def width(arguments: Sequence[str]) -> int:
    """The length of the longest name, as a person sees it, among the first that arguments mean."""
    if STDIN in arguments:
        return 0
    first = itertools.islice(expand(arguments), _LOOKED_AT)
    return max((len(printable(one.path)) for one in first if not one.problem), default=0)


def listed(descriptor: int) -> Iterator[str]:
    """Names in a list, each as soon as it is complete; empty ones are left out.

    Raises:
      UserError: the list cannot be read.
    """
    separator, rest = b"", b""
    while block := _read(descriptor):
        rest += block
        # Names that end with NUL may have line ends in them, so NUL is looked for first.
        separator = separator or next((one for one in (b"\0", b"\n") if one in rest), b"")
        if separator:
            *names, rest = rest.split(separator)
            yield from (os.fsdecode(name) for name in names if name)
    if rest:
        yield os.fsdecode(rest)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _BLOCK)
    except OSError as error:
        raise UserError(f"the list on standard input cannot be read ({error.strerror})") from error


def _path(path: str, without: str | None) -> Iterator[Source]:
    try:
        status = os.stat(path)
    # A name with a NUL in it is a ValueError.
    except (OSError, ValueError) as error:
        yield Source(path, problem=_IS_ADDRESS if _ADDRESS_MARK in path else _reason(error))
        return
    if stat.S_ISDIR(status.st_mode):
        pictures = _below(path, "", ((status.st_dev, status.st_ino),), without)
        yield next(pictures, Source(path, problem="holds no picture"))
        yield from pictures
    elif stat.S_ISREG(status.st_mode):
        yield Source(path, status.st_size)
    # To open a pipe would wait for a writer.
    else:
        yield Source(path, problem="not a regular file")


def _below(
    root: str, folder: str, above: tuple[tuple[int, int], ...], without: str | None
) -> Iterator[Source]:
    """The pictures in a folder and below.

    Args:
      root: the folder that was asked for.
      folder: its part that is listed, relative to ``root``.
      above: device and inode of that part and of every folder above it.
      without: a folder that is left out.
    """
    from fer_pipeline.datasets import files

    path = os.path.join(root, folder)
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        yield Source(path, problem=_reason(error))
        return
    for name in names:
        relative = os.path.join(folder, name)
        if files.is_system_file(name):
            continue
        try:
            status = os.stat(os.path.join(root, relative))
        except OSError as error:
            if name.lower().endswith(files.IMAGE_SUFFIXES):
                yield Source(os.path.join(root, relative), problem=_reason(error))
            continue
        identity = (status.st_dev, status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            # A link to a folder that it lies in would have no end.
            if identity not in above and not _is_folder(without, identity):
                yield from _below(root, relative, (*above, identity), without)
        elif stat.S_ISREG(status.st_mode) and files.is_image(
            relative, lambda wanted: files.FolderFiles(root, wanted)
        ):
            yield Source(os.path.join(root, relative), status.st_size)


def _is_folder(path: str | None, identity: tuple[int, int]) -> bool:
    try:
        status = os.stat(path) if path else None
    except (OSError, ValueError):
        return False
    return status is not None and (status.st_dev, status.st_ino) == identity


def _reason(error: Exception) -> str:
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"
