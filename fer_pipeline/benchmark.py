"""Measures input and training beside their rivals: python -m fer_pipeline.benchmark [--quick]"""

from __future__ import annotations

import tempfile
from pathlib import Path

from absl import flags

from fer_pipeline import cli, native_log

_DESCRIPTION = """
Measures throughput beside rivals that run by turns with ours, in one process.

  python -m fer_pipeline.benchmark --quick                the embedded synthetic faces
  python -m fer_pipeline.benchmark --data=fer2013.zip     a folder, a .zip or a .csv

Prints a table for each stage and writes benchmark.json. Figures are medians over rounds.
"""

_DATA = flags.DEFINE_string("data", "synthetic", "Faces, as for fer_pipeline.train.")
_STAGES = flags.DEFINE_list("stages", ["input", "train"], "What to measure, of input and train.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Images of a batch.", lower_bound=1)
_QUICK = flags.DEFINE_bool("quick", False, "Fewer and shorter rounds.")
_ROUNDS = flags.DEFINE_integer(
    "rounds", None, "Timed rounds of each contender; by default 5, with --quick 3.", lower_bound=1
)
_SECONDS = flags.DEFINE_float(
    "seconds", None, "Of an input round; by default 1, with --quick 0.3.", lower_bound=0.0
)
_STEPS = flags.DEFINE_integer(
    "steps", None, "Of a training round; by default 6, with --quick 2.", lower_bound=1
)
_OUT = flags.DEFINE_string("out", "runs/benchmark", "Folder for benchmark.json.")


def main(argv: list[str]) -> None:
    """Reads the flags and runs the stages."""
    cli.refuse_arguments(argv)
    quick = _QUICK.value
    with (
        tempfile.TemporaryDirectory() as scratch,
        native_log.redirected(Path(scratch) / "tf.log"),
    ):
        from fer_pipeline import throughput

        throughput.measure(
            _DATA.value,
            stages=_STAGES.value,
            batch_size=_BATCH_SIZE.value,
            rounds=_ROUNDS.value or (3 if quick else 5),
            seconds=_SECONDS.value or (0.3 if quick else 1.0),
            steps=_STEPS.value or (2 if quick else 6),
            out=Path(_OUT.value),
        )


if __name__ == "__main__":
    cli.run_app(main, _DESCRIPTION)
