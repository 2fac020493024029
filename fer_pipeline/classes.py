"""Names of classes, in output order: FER-2013's seven expressions, or any others; a face's size.

The classes of a run are those of its ``Splits``, its ``config.json`` and its export's manifest.
Where a function takes classes, those of FER-2013 are only the default.
"""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable, Sequence

#: Class names in the order of the network's outputs: alphabetical, which is the order Keras'
#: ``flow_from_directory`` gives the class folders of FER-2013.
CLASS_NAMES: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")

NUM_CLASSES: int = len(CLASS_NAMES)

#: Height and width of a face in pixels (FER-2013 is 48x48, one grey channel).
IMAGE_SIZE: int = 48

#: ``--classes``: those that the data has.
AUTO = "auto"

#: Fewest and most classes of a network.
FEWEST, MOST = 2, 1000

#: Unicode categories of what ends a line or steers a terminal, and of bytes that are not UTF-8.
_UNWRITABLE = frozenset({"Cc", "Zl", "Zp", "Cs"})

#: Names that a message lists.
_SHOWN = 10


def parse(text: str) -> tuple[str, ...] | None:
    """The classes that ``--classes`` lists; None for ``auto``.

    They are a row of CSV: a name with a comma stands in double quotes.

    Raises:
      ValueError: what is wrong with them.
    """
    if text == AUTO:
        return None
    try:
        rows = list(csv.reader([text], skipinitialspace=True))
    except csv.Error as error:
        raise ValueError("holds a line break, or a name without an end") from error
    names = tuple(rows[0]) if rows else ()
    if problem := problem_of(names):
        raise ValueError(problem)
    return names


def as_text(names: Sequence[str]) -> str:
    """Classes in the form that ``parse`` reads."""
    return ",".join(map(quoted, names))


def problem_of(names: Sequence[str]) -> str | None:
    """What keeps names from being the classes of a network; None if nothing does."""
    if not all(isinstance(name, str) for name in names):
        return "must be names"
    if not FEWEST <= len(names) <= MOST:
        counted = "1 class" if len(names) == 1 else f"{len(names):,} classes"
        return f"has {counted}, where {FEWEST} to {MOST:,} are possible"
    for name in names:
        if problem := problem_of_name(name):
            return f"its class {name!r:.60} {problem}"
    twice = repeated(names)
    return f"names {twice!r:.60} twice" if twice is not None else None


def repeated(names: Sequence[str]) -> str | None:
    """A name that is there twice, be it with its accents written in another way; None if none is.

    Nobody could tell such classes apart.
    """
    seen: set[str] = set()
    for name in names:
        composed = unicodedata.normalize("NFC", name)
        if composed in seen:
            return name
        seen.add(composed)
    return None


def problem_of_name(name: str) -> str | None:
    """What keeps a name from being a class: ``labels.txt`` has one a line, in UTF-8."""
    if not name.strip():
        return "is blank"
    if any(unicodedata.category(character) in _UNWRITABLE for character in name):
        return "holds a line break, a control character or bytes that are not UTF-8"
    return None


def matcher(names: Sequence[str]) -> Callable[[str], int | None]:
    """Makes the function that gives the place of the class a folder's name means, or None.

    The name itself comes first; else upper and lower case count as one, and so do the ways to
    write an accent, if only one class is meant then.
    """
    exact = {name: place for place, name in enumerate(names)}
    alike: dict[str, int | None] = {}
    for name, place in exact.items():
        alike[_folded(name)] = None if _folded(name) in alike else place
    return lambda name: exact.get(name, alike.get(_folded(name)))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def are_fer2013(names: Sequence[str]) -> bool:
    """Whether folders of these names are those of FER-2013, in upper or lower case."""
    return {name.lower() for name in names} == set(CLASS_NAMES)


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first of them if there are many."""
    more = f", ... ({len(names):,} in all)" if len(names) > _SHOWN else ""
    return ", ".join(map(quoted, names[:_SHOWN])) + more


def quoted(name: str) -> str:
    """A name as it stands in a list with commas."""
    # A blank at the start would be skipped as one between two names.
    plain = not name.startswith(" ") and not set('",') & set(name)
    return name if plain else '"{}"'.format(name.replace('"', '""'))


def unlike(names: Sequence[str], others: Sequence[str]) -> str | None:
    """In which way two lists of classes differ, for a message; None if they are the same."""
    if tuple(names) == tuple(others):
        return None
    if sorted(names) == sorted(others):
        return f"the same classes in another order ({listed(others)})"
    return f"other classes ({listed(others)})"
