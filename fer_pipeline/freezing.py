"""How many of a network's layers keep their weights, as ``--freeze`` says it."""

from __future__ import annotations

#: Every layer but the head.
BACKBONE = "backbone"


def parse(text: str) -> int | None:
    """The number of layers with weights, counted from the first, that are not trained.

    None is all but the head.

    Raises:
      ValueError: the text is neither a number nor ``backbone``.
    """
    if text == BACKBONE:
        return None
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"must be a number of layers from 0, or {BACKBONE}")
    return int(text)
