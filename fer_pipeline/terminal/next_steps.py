"""What to do with a finished run: commands to copy."""

from __future__ import annotations

import shlex
from pathlib import Path

from fer_pipeline import run_dir


def next_steps(run: Path, *, exported: bool) -> str:
    """A line for each command that usually comes next, ready for a shell.

    Args:
      run: the run directory.
      exported: whether it has an export.
    """
    model = run / run_dir.EXPORT if exported else run
    steps = {
        "see the report": ["xdg-open", f"{run / run_dir.REPORT}"],
        "name a face": ["python", "-m", "fer_pipeline.predict", f"--model={model}", "face.jpg"],
    }
    if exported:
        steps["measure the speed"] = ["python", "-m", "fer_pipeline.benchmark", "--quick"]
    else:
        steps["export it"] = ["python", "-m", "fer_pipeline", "export", f"--run_dir={run}"]
    width = max(map(len, steps))
    lines = (f"  {what:{width}}  {shlex.join(command)}" for what, command in steps.items())
    return "\n".join(["next:", *lines])
