"""Redirects what TensorFlow's C++ code prints to a file, so the terminal stays readable."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from fer_pipeline.errors import UserError

#: TensorFlow's own settings for fewer messages; they must be set before its first import.
_QUIET_ENVIRONMENT = {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3"}


@contextlib.contextmanager
def redirected(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Appends whatever is written to file descriptor 2 inside the block to ``path``.

    C++ code writes to the descriptor and not to ``sys.stderr``, so the descriptor itself is
    redirected, for all threads of the process. Python's ``sys.stderr`` stays on the terminal. If
    the block raises anything but a ``UserError`` or a ``BrokenPipeError``, what was written is
    repeated on the terminal, because it may explain the error. With ``path`` None nothing is
    redirected. Blocks may be nested; only the outermost one repeats.
    """
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if path is None:
        yield
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if sys.stderr is not None:
            sys.stderr.flush()
        previous = os.dup(2)
        stack.callback(os.close, previous)
        outermost = not isinstance(sys.stderr, _Terminal)
        if outermost:
            # closefd=False: the file object must not close the descriptor that is restored below.
            terminal = _Terminal(open(previous, "wb", buffering=0, closefd=False))  # noqa: SIM115
            stack.enter_context(contextlib.redirect_stderr(terminal))
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        start = os.fstat(log).st_size
        os.dup2(log, 2)
        os.close(log)
        stack.callback(os.dup2, previous, 2)
        try:
            yield
        except (UserError, BrokenPipeError):
            raise
        except Exception:
            if outermost:
                with open(path, "rb") as file:
                    file.seek(start)
                    os.write(previous, file.read())
            raise


class _Terminal(io.TextIOWrapper):
    """Python's stderr while descriptor 2 points to a file; its type marks the outermost block."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
