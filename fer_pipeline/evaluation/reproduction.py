"""The command lines that make a run again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_pipeline import classes as classes_lib
from fer_pipeline import config as config_lib
from fer_pipeline import recipes, run_record
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.config import Config


def training_command(run: Path, config: Mapping[str, Any]) -> str:
    """The command that trains a run again, for a shell.

    It has a flag for every recorded setting that is not what the command would choose by itself,
    and one for the precision, which another device would choose otherwise.

    Args:
      run: the run directory; the command names another one beside it.
      config: the run's ``config.json``.
    """
    recipe = recipes.defaults(config.get("recipe", "notebook"), config.get("optimizer"))
    found = ["python", "-m", "fer_pipeline.train"]
    for name, setting in config_lib.settings().items():
        default = recipe.get(name, getattr(Config, name))
        value = config.get(name, default)
        if name == "classes":
            value = _classes(run_record.classes_of(config))
        # What the device decides counts only where a repetition has to have it.
        chosen_by_device = setting.from_device and setting.fixed != "always"
        if value == default or (chosen_by_device and not config.get("deterministic")):
            continue
        found.append(_flag(name, value))
    found.append(f"--run_dir={run}-again")
    return shlex.join(found)


def _classes(names: Sequence[str]) -> str:
    """What ``--classes`` has to be.

    Names of one's own are always given: folders may be spelled otherwise, which sorts them
    otherwise.
    """
    return classes_lib.AUTO if tuple(names) == CLASS_NAMES else classes_lib.as_text(names)


def verify_command(run: Path) -> str:
    """The command that checks a run's export."""
    return shlex.join(["python", "-m", "export", f"--run_dir={run}", "--verify_only"])


def _flag(name: str, value: Any) -> str:
    if isinstance(value, bool) and not config_lib.settings()[name].choices:
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={str(value).lower() if isinstance(value, bool) else value}"
