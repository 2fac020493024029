"""Facial-expression recognition: images in, trained float32 model out."""

import os
import sys

__version__ = "0.1.0"


def _is_starting() -> bool:
    """Whether Python is on its way to one of this software's commands, by what was typed."""
    if os.path.basename(next(iter(sys.argv), "")) == "fer-pipeline":
        return True
    # While ``python -m NAME`` looks for NAME, argv says "-m" and orig_argv all of it.
    if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv[:-1]:
        return False
    name = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    return name.partition(".")[0] in (__name__, "export")


if _is_starting():
    from fer_pipeline.terminal import interruption

    interruption.end_quietly_at_ctrl_c()
