"""Answers and failures on the terminal: rows on stdout, all else on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from fer_pipeline.errors import UserError
from fer_pipeline.inference.results import Prediction, Unreadable, Writer, printable

if TYPE_CHECKING:
    from tqdm import tqdm

#: What to do about a picture that cannot be read: name it and fail in the end, name it, or stop.
OnBadImage = Literal["continue", "skip", "fail"]


class Counts(NamedTuple):
    """Answers that were printed, those of them that say that nobody was found, and files that could
    not be read.
    """

    answered: int
    nobody: int
    unreadable: int


def report(
    parts: Iterable[Sequence[Prediction | Unreadable]],
    write: Writer,
    *,
    on_bad_image: OnBadImage,
    total: Callable[[], int | None] = lambda: None,
) -> Counts:
    """Prints every part of the answers as it comes.

    Args:
      parts: from ``predictor.predictions``.
      write: from ``results.writer``.
      on_bad_image: ``"fail"`` stops at the first that cannot be read.
      total: counts the pictures for a progress bar; gives None where nobody can tell.

    Raises:
      UserError: names the picture that cannot be read.
      BrokenPipeError: nobody reads stdout any more.
    """
    answered = nobody = unreadable = 0
    with _progress(total) as bar:
        for part in parts:
            bad = [one for one in part if isinstance(one, Unreadable)]
            stop = part.index(bad[0]) if bad and on_bad_image == "fail" else None
            good = [one for one in part[:stop] if isinstance(one, Prediction)]
            sys.stdout.write(write(good))
            sys.stdout.flush()
            if bar and bad:
                bar.clear()
            for one in bad:
                name = printable(one.file)
                if on_bad_image == "fail":
                    raise UserError(f"{name}: {one.problem}")
                skipped = on_bad_image == "skip"
                line = f"{name}: skipped, " if skipped else f"error: {name}: "
                print(line + one.problem, file=sys.stderr)
            answered += len(good)
            nobody += sum(one.label is None for one in good)
            unreadable += len(bad)
            if bar:
                _advance(bar, part)
    return Counts(answered, nobody, unreadable)


def _advance(bar: tqdm, part: Sequence[Prediction | Unreadable]) -> None:
    """Counts pictures, and names the frame that a film is at: how many it has, few films tell."""
    frames = [one.frame for one in part if isinstance(one, Prediction) and one.frame is not None]
    if frames:
        bar.set_postfix_str(f"frame {frames[-1]:,} of a film")
    bar.update(len({one.file for one in part if getattr(one, "frame", None) is None}))


@contextlib.contextmanager
def _progress(total: Callable[[], int | None]) -> Iterator[tqdm | None]:
    """A progress bar on stderr, if that is a terminal and the answers go somewhere else."""
    if sys.stdout.isatty() or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    # A copy of the descriptor: Keras' messages are led elsewhere by way of the original.
    with (
        open(os.dup(sys.stderr.fileno()), "w") as stream,
        tqdm(total=total(), file=stream, unit=" pictures", dynamic_ncols=True, leave=False) as bar,
    ):
        yield bar
