"""Facial-expression recognition: images in, trained float32 model out."""

import os
import sys

__version__ = "0.1.0"

# True only for the console script, and while ``python -m`` looks for one of the commands.
if os.path.basename(next(iter(sys.argv), "")) in ("-m", "fer-pipeline"):
    from fer_pipeline import interruption

    interruption.end_quietly_at_ctrl_c()
