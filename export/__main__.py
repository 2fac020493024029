"""Exports a run's trained network again, or audits an export: python -m export --run_dir=..."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from export.spec import artifacts
from export.spec.gates import ACCURACY_GATE_IMAGES
from fer_pipeline import gpus, run_dir
from fer_pipeline.errors import UserError
from fer_pipeline.inference import export_files, pretrained
from fer_pipeline.terminal import cli

if TYPE_CHECKING:
    from export.audit import Audit

_DESCRIPTION = """
Exports the network of a training run to <run_dir>/export, or audits an export.

  python -m export --run_dir=runs/NAME                      every format
  python -m export --run_dir=runs/NAME --formats=int8       some formats
  python -m export --run_dir=runs/NAME --verify_only        audit what is there
  python -m export --run_dir=runs/NAME --formats=web        a web page, added to what is there
  python -m export --run_dir=pretrained --formats=web       a page of the pretrained model, in web/
"""

_RUN_DIR = flags.DEFINE_string(
    "run_dir",
    None,
    "The run; with --verify_only or --formats=web also the folder of an export, or pretrained.",
)
_FORMATS = flags.DEFINE_list(
    "formats",
    None,
    f"Comma-separated formats, by default all: {', '.join(artifacts.ARTIFACTS)}. The new export "
    "holds these alone. And web, a page that answers in a browser, added to the others or, named "
    "alone, to the export that is there; where there is none, int8 is exported for it.",
)
_LITERTJS = flags.DEFINE_string(
    "litertjs",
    None,
    "Of web: a folder with npm's package @litertjs/core; by default node_modules or npm's cache.",
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "Of web: write the page into this folder and leave the export alone; by default the run's "
    "export/web, and web for a folder without a run.",
)
_DATA = flags.DEFINE_string(
    "data",
    None,
    "Where the faces come from, by default the run's own data; with --verify_only, measure the "
    "accuracy on them too.",
)
_EXPORT_CHECKPOINT = flags.DEFINE_enum(
    "export_checkpoint",
    None,
    ["last", "best"],
    "Which weights: the last epoch's or those of the best validation accuracy; by default what the "
    "run chose.",
)
_CALIBRATE = flags.DEFINE_bool(
    "calibrate",
    None,
    "Divide the logits by a temperature that is fitted on the validation images; by default what "
    "the run chose.",
)
_MIRROR = flags.DEFINE_bool(
    "mirror",
    None,
    "Average a face and its mirror image inside every file but Keras': more accurate, as large, "
    "twice the time; by default what the run chose.",
)
_VERIFY_ONLY = flags.DEFINE_bool(
    "verify_only",
    False,
    "Write nothing; check hashes, completeness, inputs and outputs, and golden outputs.",
)
_TFLITE_BATCH = flags.DEFINE_integer(
    "tflite_batch",
    1,
    f"Images that every TFLite file takes a call, up to {artifacts.MAX_TFLITE_BATCH}: more suit a "
    "server, phones and MediaPipe Tasks want 1. With --verify_only the manifest tells.",
)
_MAX_ACCURACY_DROP = flags.DEFINE_float(
    "max_accuracy_drop",
    None,
    "Percentage points of accuracy that a quantised file may lose, in place of the gates' own; "
    "with --verify_only in place of the manifest's.",
    lower_bound=0.0,
)
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image",
    None,
    ["fail", "skip"],
    "What to do about an image that cannot be read; by default what the run did.",
)
_TRUST = flags.DEFINE_bool(
    "trust",
    False,
    "With --verify_only: run models that ask for more than an export of this software needs. Such "
    "a SavedModel can read and write your files.",
)

#: Flags that --verify_only has no use for.
_OF_EXPORTING = (
    "formats",
    "export_checkpoint",
    "calibrate",
    "mirror",
    "tflite_batch",
    "litertjs",
    "output_dir",
)

#: Flags of the page, and those that a page alone has no use for.
_OF_WEB = ("litertjs", "output_dir")
_NOT_OF_WEB = (
    "data",
    "export_checkpoint",
    "calibrate",
    "mirror",
    "tflite_batch",
    "max_accuracy_drop",
    "on_bad_image",
)

#: Flags that it has no use for without --data.
_OF_MEASURING = ("max_accuracy_drop", "on_bad_image")


def main(argv: list[str]) -> None:
    """Reads the flags and runs the stage."""
    # Every file is compared in full float32, and a training may need the GPU's memory.
    gpus.hide()
    cli.refuse_arguments(argv)
    if not _RUN_DIR.value:
        raise UserError("--run_dir is needed: the run to export")
    _refuse_ignored()
    run = Path(_RUN_DIR.value)
    if not run.exists() and run == Path(pretrained.NAME):
        run = pretrained.FOLDER
    run_dir.recover_export(run)
    if not run.is_dir():
        raise UserError(f"--run_dir={run}: no such directory")
    with cli.narration():
        if _VERIFY_ONLY.value:
            _verify(run)
        elif _formats()[1]:
            _export_with_page(run)
        else:
            _export(run, _FORMATS.value)


def _refuse_ignored() -> None:
    """Raises UserError at a flag that would have no effect."""
    ignored = {"trust": "belongs to --verify_only"}
    others, with_page = _formats()
    if not with_page:
        ignored |= dict.fromkeys(_OF_WEB, "belongs to --formats=web")
    elif not others:
        problem = "has no effect with --formats=web alone (--formats=int8,web exports again)"
        ignored |= dict.fromkeys(_NOT_OF_WEB, problem)
    if _VERIFY_ONLY.value:
        ignored = dict.fromkeys(_OF_EXPORTING, "has no effect with --verify_only")
        if not _DATA.value:
            problem = "has no effect with --verify_only but no --data"
            ignored |= dict.fromkeys(_OF_MEASURING, problem)
    for name, problem in ignored.items():
        if flags.FLAGS[name].present:
            raise UserError(f"--{name}: {problem}; leave it out")


def _verify(run: Path) -> None:
    from export import audit
    from export.delivery import contents
    from export.verification.table import format_reports
    from fer_pipeline.datasets import run_data
    from fer_pipeline.terminal import native_log, tables

    # What was named, if it can be an export itself.
    folder = run / run_dir.EXPORT
    if (run / export_files.MANIFEST).exists() or not folder.is_dir():
        folder = run
    # A folder that was handed over is left as it is, so its log goes nowhere.
    with native_log.redirected("/dev/null"):
        evaluation = fingerprint = None
        if _DATA.value:
            manifest = contents.check_files(folder)
            config = manifest["run"] | {"classes": manifest["labels"]}
            data = run_data.load(config, _DATA.value, on_bad_image=_ON_BAD_IMAGE.value, keep=False)
            evaluation = (data.splits.validation.images[:], data.splits.validation.labels)
            fingerprint = data.fingerprint
        found = audit.audit_export(
            folder,
            evaluation=evaluation,
            fingerprint=fingerprint,
            max_accuracy_drop=_MAX_ACCURACY_DROP.value,
            trust=_TRUST.value,
        )
    columns = tables.columns(sys.stdout)
    print(format_reports(found.reports, golden=not _DATA.value, columns=columns))
    for line in (*found.lax, *found.manifest.get("warnings", ())):
        print(f"warning: {contents.escape_unprintable(line)}")
    for entry in found.manifest.get("kept_back", {}).values():
        line = f"{entry['path']}: {', '.join(entry['failures'])}"
        print(f"not in this export: {contents.escape_unprintable(line)}")
    audit.refuse_failed(folder, found.reports)
    print(_conclusion(folder, found))


def _conclusion(folder: Path, found: Audit) -> str:
    """What was compared, and what was not."""
    files = len(found.manifest["files"])
    images = found.reports[0].comparison.images
    said = f"{folder}: {files} files, the labels, inputs and outputs are as the manifest says;"
    golden = "the answers on its golden faces are the network's that was exported"
    if not _DATA.value:
        return (
            f"{said} {golden}, on {images} drawn faces; no accuracy was measured, which --data does"
        )
    few = images < ACCURACY_GATE_IMAGES
    ungated = f"; accuracy is not gated on fewer than {ACCURACY_GATE_IMAGES:,}" if few else ""
    measured = f"accuracy and agreement were measured on {images:,} images of --data"
    return f"{said} {golden}; {measured}{ungated}"


def _formats() -> tuple[list[str], bool]:
    """The formats that are asked for without the page, and whether that is."""
    from export.formats import web

    wanted = [name.strip() for name in _FORMATS.value or ()]
    return [name for name in wanted if name != web.NAME], web.NAME in wanted


def _export_with_page(run: Path) -> None:
    from export import page

    page.make(
        run,
        _formats()[0],
        export=functools.partial(_export, run),
        litert=_LITERTJS.value,
        output_dir=_OUTPUT_DIR.value,
        tflite_batch=_TFLITE_BATCH.value,
    )


def _export(run: Path, formats: list[str] | None) -> None:
    from export import again

    again.export_again(
        run,
        data=_DATA.value,
        formats=formats,
        export_checkpoint=_EXPORT_CHECKPOINT.value,
        calibrate=_CALIBRATE.value,
        mirror=_MIRROR.value,
        tflite_batch=_TFLITE_BATCH.value,
        max_accuracy_drop=_MAX_ACCURACY_DROP.value,
        on_bad_image=_ON_BAD_IMAGE.value,
    )


def run() -> None:
    """The module's entry."""
    cli.run_app(main, _DESCRIPTION, narrates=True)


if __name__ == "__main__":
    run()
