"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fer_pipeline.errors import UserError

#: Prefix of unfinished files, which a killed process may leave.
TEMPORARY = ".tmp-"

#: What lies between the brackets of a list of numbers, one a line. No text holds a line break.
_NUMBERS = re.compile(r"(?<=\[)\n[-+.,\d\sEe]+(?=\])")


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path, and renames it to ``path`` when the block succeeds.

    The file is flushed to disk before the rename, so readers see the old file or the new one, even
    after a loss of power. If the block raises, ``path`` stays as it was. The temporary file has the
    suffix of ``path``, since Matplotlib and Keras choose the format by it.

    Raises:
      UserError: the file cannot be written: no space, no permission.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY, suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes files private; these are as readable as the user's umask says.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); put that right and start the "
            "same command again"
        ) from error
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def to_utf8(text: str) -> str:
    """A text that can be written as UTF-8: surrogates, which stand for the bytes of names that are
    not UTF-8, become ``\\xff``.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes ``value`` as indented JSON, a list of numbers on one line, whole or not at all.

    Raises:
      ValueError: it has NaN or infinity, which JSON lacks.
    """
    text = json.dumps(value, indent=2, allow_nan=False)
    text = _NUMBERS.sub(lambda found: " ".join(found[0].split()), text)
    write_text(path, f"{text}\n")
