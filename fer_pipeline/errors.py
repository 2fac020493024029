"""The one exception that entry points turn into a line on the terminal."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right: bad input, a bad flag, a run that is not what it seems.

    Its message is one line that names the file or the flag and the way out. Entry points print it
    without a traceback and exit with status 1; any other exception is a defect of this software
    and keeps its traceback.
    """
