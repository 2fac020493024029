"""What to say where the packages of the extra ``faces`` are not installed."""

from __future__ import annotations

from fer_pipeline.errors import UserError

_HOW = "pip install 'fer_pipeline[faces]' (from a checkout '.[faces]')"


def missing(purpose: str) -> UserError:
    """The error for somebody who wants ``purpose`` ("to find faces") without the extra."""
    return UserError(f"{purpose}: {_HOW}")


def is_missing(problem: str) -> bool:
    """Whether that is what the text of an error says."""
    return problem.endswith(_HOW)
