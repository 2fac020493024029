"""Shows runs in one file: python -m fer_pipeline.report runs/NAME [runs/OTHER ...]"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from fer_pipeline import run_dir
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import cli

_DESCRIPTION = """
Writes a report of one run, or of several side by side, that any browser shows without a network.

  python -m fer_pipeline.report runs/NAME              to runs/NAME/report.html
  python -m fer_pipeline.report runs/ONE runs/OTHER    to report.html in this directory
"""

_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "The file to write; by default report.html, in the directory of the only run or in this one.",
)


def main(argv: list[str]) -> None:
    """Reads the flags and writes the report."""
    runs = [Path(name) for name in argv[1:]]
    if not runs:
        raise UserError("no run given; name one or more run directories, as runs/NAME")
    from fer_pipeline.evaluation import report

    for run in runs:
        run_dir.recover_export(run)
    print(report.write(runs, Path(_OUTPUT.value) if _OUTPUT.value else None))


if __name__ == "__main__":
    cli.run_app(main, _DESCRIPTION)
