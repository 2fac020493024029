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


def expand(arguments: Iterable[str], *, stdin: int = 0) -> Iterator[Source]:
    """Finds the files that arguments mean, one after the other, as they are found.

    * A file is itself, whatever its name.
    * A folder means the pictures in it and below, sorted by name. Hidden files and those of
      operating systems are left out, and so is what is not a picture.
    * What does not exist and has ``*``, ``?`` or ``[`` is a glob, as a shell expands it, with
      ``**`` for any number of folders.
    * ``-`` is a list of paths on standard input: one a line, or ended by NUL if there is a NUL.

    Args:
      arguments: paths, globs and ``-``.
      stdin: the descriptor that ``-`` reads.

    Raises:
      UserError: standard input cannot be read.
    """
    for argument in arguments:
        if argument == STDIN:
            for name in listed(stdin):
                yield from _path(name)
        elif not os.path.lexists(argument) and glob.has_magic(argument):
            matches = sorted(glob.iglob(argument, recursive=True))
            for name in matches:
                yield from _path(name)
            if not matches:
                yield Source(argument, problem="matches no file")
        else:
            yield from _path(argument)


def count(arguments: Sequence[str]) -> int | None:
    """How many files arguments mean; None where a list is still to be read."""
    return None if STDIN in arguments else sum(1 for _ in expand(arguments))


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


def _path(path: str) -> Iterator[Source]:
    try:
        status = os.stat(path)
    # A name with a NUL in it is a ValueError.
    except (OSError, ValueError) as error:
        yield Source(path, problem=_reason(error))
        return
    if stat.S_ISDIR(status.st_mode):
        pictures = _below(path, "", ((status.st_dev, status.st_ino),))
        yield next(pictures, Source(path, problem="holds no picture"))
        yield from pictures
    elif stat.S_ISREG(status.st_mode):
        yield Source(path, status.st_size)
    # To open a pipe would wait for a writer.
    else:
        yield Source(path, problem="not a regular file")


def _below(root: str, folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[Source]:
    """The pictures in a folder and below.

    Args:
      root: the folder that was asked for.
      folder: its part that is listed, relative to ``root``.
      above: device and inode of that part and of every folder above it.
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
            if identity not in above:
                yield from _below(root, relative, (*above, identity))
        elif stat.S_ISREG(status.st_mode) and files.is_image(
            relative, lambda wanted: files.FolderFiles(root, wanted)
        ):
            yield Source(os.path.join(root, relative), status.st_size)


def _reason(error: Exception) -> str:
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"
