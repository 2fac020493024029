"""What to say where the packages of the extra ``faces`` are not installed."""

from __future__ import annotations

from fer_pipeline.errors import UserError


def missing(purpose: str) -> UserError:
    """The error for somebody who wants ``purpose`` ("to find faces") without the extra."""
    return UserError(f"{purpose}: pip install 'fer_pipeline[faces]' (from a checkout '.[faces]')")
