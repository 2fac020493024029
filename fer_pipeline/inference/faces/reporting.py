"""Answers and failures on the terminal: rows on stdout, all else on stderr."""

from __future__ import annotations

import collections
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from fer_pipeline.errors import UserError
from fer_pipeline.inference.faces import films, video
from fer_pipeline.inference.results import Prediction, Unreadable, Writer, printable

if TYPE_CHECKING:
    from tqdm import tqdm

#: What to do about a picture that cannot be read: name it and fail in the end, name it, or stop.
OnBadImage = Literal["continue", "skip", "fail"]


#: Faces of a film that are summed up.
_SUMMED_UP = 6

#: How often a face of a film, by file and number, had which label.
Followed = dict[tuple[str, int], collections.Counter[str]]


class Counts(NamedTuple):
    """Answers that were printed, pictures and films of nobody among them, files that could not be
    read, and the faces of films.
    """

    answered: int
    pictures_of_nobody: int
    films_of_nobody: int
    unreadable: int
    followed: Followed


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
    answered = unreadable = 0
    of_nobody = collections.Counter[bool]()
    followed: Followed = {}
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
            of_nobody.update(video.is_video(one.file) for one in good if one.label is None)
            for one in good:
                if one.track is not None:
                    of_face = followed.setdefault((one.file, one.track), collections.Counter())
                    of_face[one.label] += 1
            unreadable += len(bad)
            if bar:
                _advance(bar, part)
    return Counts(answered, of_nobody[False], of_nobody[True], unreadable, followed)


def sum_up(followed: Followed) -> list[str]:
    """Lines that say of each film what its faces were called, those seen longest.

    For example ``film.mp4, face 1: happy in 198 of 200 frames, neutral in 2``.
    """
    lines = []
    for file in dict.fromkeys(file for file, _ in followed):
        faces = {number: labels for (name, number), labels in followed.items() if name == file}
        longest = sorted(faces, key=lambda number: -faces[number].total())[:_SUMMED_UP]
        for number in sorted(longest):
            (best, count), *others = faces[number].most_common()
            rest = "".join(f", {label} in {times:,}" for label, times in others)
            lines.append(
                f"{printable(file)}, face {number}: {best} in {count:,} of "
                f"{faces[number].total():,} frames{rest}"
            )
        if len(faces) > len(longest):
            more = len(faces) - len(longest)
            lines.append(f"{printable(file)}: {more:,} more, none of them in more frames")
    return lines


def say_who_is_missing(counts: Counts) -> list[str]:
    """Lines that count the pictures and the films without a face, and say what helps."""
    lines = []
    if counts.pictures_of_nobody:
        lines.append(
            f"no face found in {counts.pictures_of_nobody:,} (--faces=never takes a picture as one "
            "face)"
        )
    if counts.films_of_nobody:
        noun = "film" if counts.films_of_nobody == 1 else "films"
        lines.append(
            f"no face found in {counts.films_of_nobody:,} {noun} (looked for from "
            f"{films.SMALLEST} pixels of width)"
        )
    return lines


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
