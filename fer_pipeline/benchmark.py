"""Measures every stage beside its rivals: python -m fer_pipeline.benchmark [--quick]"""

from __future__ import annotations

import tempfile
from pathlib import Path

from absl import flags

from fer_pipeline.terminal import cli, native_log

_DESCRIPTION = """
Measures throughput beside rivals, by turns, each in a process of its own.

  python -m fer_pipeline.benchmark --quick                the embedded synthetic faces
  python -m fer_pipeline.benchmark --data=fer2013.zip     a folder, a .zip or a .csv
  python -m fer_pipeline.benchmark --stages=scaling       up to a million images, 2.3 GB of disk
  python -m fer_pipeline.benchmark --stages=accuracy --data=fer2013.zip --models=runs/NAME/export

Prints a table for each stage and writes benchmark.json and benchmark.png; the stage accuracy also
writes accuracy.png. Rates and latencies are medians over rounds. PyTorch and ONNX Runtime, for some
of the rivals, come with the extra "bench"; without them their rows say so.
"""

_DATA = flags.DEFINE_string("data", "synthetic", "Faces, as for fer_pipeline.train.")
_STAGES = flags.DEFINE_list(
    "stages",
    ["input", "train", "inference", "export"],
    "What to measure, of input, train, inference, export, scaling and accuracy.",
)
_MODELS = flags.DEFINE_list(
    "models",
    [],
    "TFLite files, or folders of them, that the accuracy stage scores on the test images, beside "
    "those of other packages; by default the pretrained ones.",
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size",
    None,
    "Images of a batch; by default 64, and for input 256 and 1024 too, on a GPU up to 4096.",
    lower_bound=1,
    # As many pictures are written for those who read files.
    upper_bound=4096,
)
_QUICK = flags.DEFINE_bool("quick", False, "Fewer cases and rounds.")
_ROUNDS = flags.DEFINE_integer(
    "rounds", None, "Timed rounds of each case; by default 5, with --quick 2.", lower_bound=1
)
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Of a round of input or training, at least.")
_STEPS = flags.DEFINE_integer(
    "steps", None, "Of a training round, at least; by default 6, with --quick 1.", lower_bound=1
)
_OUT = flags.DEFINE_string("out", "runs/benchmark", "Folder for what is written.")


def main(argv: list[str]) -> None:
    """Reads the flags and runs the stages."""
    cli.refuse_arguments(argv)
    quick = _QUICK.value
    with (
        tempfile.TemporaryDirectory() as scratch,
        native_log.redirected(Path(scratch) / "tf.log"),
    ):
        from fer_pipeline.throughput import stages

        stages.measure(
            _DATA.value,
            stages.Options(
                quick=quick,
                batch_size=_BATCH_SIZE.value,
                models=_MODELS.value,
                rounds=_ROUNDS.value or (2 if quick else 5),
                seconds=_SECONDS.value,
                steps=_STEPS.value or (1 if quick else 6),
            ),
            stages=_STAGES.value,
            out=Path(_OUT.value),
        )


if __name__ == "__main__":
    cli.run_app(main, _DESCRIPTION)
