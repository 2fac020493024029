"""Facial-expression recognition: faces in, trained and verified files out.

``load_data``, ``train``, ``evaluate``, ``predict``, ``load_model`` and ``export_model`` are the
functions of ``library``, imported when they are first used.
"""

import os
import sys
import types

from fer_pipeline import lazy

__version__ = "0.1.0"

__getattr__, __all__ = lazy.attach(
    __name__,
    {"library": ["evaluate", "export_model", "load_data", "load_model", "predict", "train"]},
)


class _Package(types.ModuleType):
    """Keeps its functions when a command of the same name, such as ``train``, is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


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
