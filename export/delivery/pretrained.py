"""The pretrained folder: what of a run's export goes into the package, in few bytes.

Two TFLite files, the weights in float16 to train on, and what an export has beside its models. It
is an export like any other to whoever opens or audits it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from export.delivery import contents, manifest, model_card, staging
from export.delivery import model_card_texts as texts
from export.formats import keras_files
from export.spec import golden as golden_lib
from export.spec.artifacts import ARTIFACTS
from export.spec.comparison import compare
from export.spec.gates import FLOAT16, Gate, find_missed_golden_limit
from export.verification import verify
from export.verification.table import format_reports
from fer_pipeline import run_dir
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.errors import UserError
from fer_pipeline.inference import export_files, integrity, keras_loader
from fer_pipeline.models import networks
from fer_pipeline.terminal import tables

if TYPE_CHECKING:
    import keras

#: Bytes of the whole folder at most: it is part of every installation.
MAX_SIZE = 4_000_000

#: The formats that are copied, and the one that the weights are taken from.
FORMATS = ("float16", "int8")
_WEIGHTS_FROM = "keras"

#: The files that are copied as they are.
_COPIED = (
    *(ARTIFACTS[name].path for name in FORMATS),
    export_files.LABELS,
    export_files.GOLDEN,
)


def pack(run: Path, target: Path, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Makes ``target`` of a run's export; every file is verified where it lies then.

    Args:
      run: the run directory, finished and exported.
      target: the folder to write; an older one is replaced, whole or not at all.
      say: shows a line or the table.

    Returns:
      The manifest that was written.

    Raises:
      UserError: the export is damaged, lacks a format, or is of other weights than
        ``metrics.json``; it takes more than ``MAX_SIZE``; a file does not answer as the network
        does; or ``target`` is no such folder or cannot be written. Nothing is changed then.
    """
    staging.check_replaceable(target, "a pretrained model", lambda: _is_pretrained(target))
    run_dir.recover_export(run)
    source = run / run_dir.EXPORT
    if not source.is_dir():
        raise UserError(f"{source}: not there; export the run first")
    with contents.unreplaced(source), staging.beside(target) as folder:
        given = contents.check_files(source)
        metrics = _check_source(run, source, given)
        for name in _COPIED:
            shutil.copyfile(source / name, folder / name)
        plain = keras_loader.load(source / ARTIFACTS[_WEIGHTS_FROM].path)
        weights = folder / export_files.MODEL_WEIGHTS
        keras_files.write_weights(plain, weights, dtype=np.float16)
        _check_size(source, folder)
        reports = _verified(folder, given)
        described = given | {
            "artifacts": {name: given["artifacts"][name] for name in FORMATS},
            "kept_back": {},
            "pretrained": {
                "network": networks.name_of(plain.count_params()),
                "weights": export_files.MODEL_WEIGHTS,
                "dtype": "float16",
                "golden_max_difference": _check_weights(folder, plain),
            },
        }
        weights_section = texts.PRETRAINED.format(network=described["pretrained"]["network"])
        card = f"{model_card.format_card(described, metrics)}\n{weights_section}"
        (folder / export_files.MODEL_CARD).write_text(card, encoding="utf-8")
        manifest.write(folder, described)
        _check_size(source, folder)
        for name, listed in integrity.listed_files(contents.check_files(folder)).items():
            if name in _COPIED and listed.sha256 != given["files"][name]["sha256"]:
                raise UserError(f"{source / name}: was not copied as it is; pack it again")
        staging.replace(folder, target)
    say(format_reports(reports, golden=True, columns=tables.columns(sys.stdout)))
    size = sum((target / name).stat().st_size for name in _names(target))
    say(f"{target}: {size:,} bytes in {len(_names(target))} files, each verified where it lies")
    return described


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _is_pretrained(folder: Path) -> bool:
    try:
        return "pretrained" in integrity.read(folder)
    except (OSError, ValueError):
        return False


def _check_source(run: Path, source: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The ``metrics.json`` of the exported weights."""
    wanted = (*FORMATS, _WEIGHTS_FROM)
    missing = [n for n in wanted if n not in given["artifacts"] or _failures(given, n)]
    if missing:
        raise UserError(
            f"{source}: has no verified {missing[0]}; export the run again with --formats="
            f"{','.join(wanted)} or more"
        )
    if given.get("tflite_batch", 1) != 1:
        raise UserError(f"{source}: its TFLite files take several images a call; export it again")
    if tuple(given["labels"]) != CLASS_NAMES:
        raise UserError(
            f"{source}: has other classes than {', '.join(CLASS_NAMES)}, which the pretrained model"
            " has; pack the export of a run with these"
        )
    weights = given.get("weights", {})
    metrics = model_card.read_matching_metrics(
        run, weights.get("checkpoint", "last"), weights.get("epoch")
    )
    if metrics is None:
        raise UserError(
            f"{run / run_dir.METRICS}: is not about the exported weights; train the run to its end "
            "and export it again"
        )
    return metrics


def _failures(given: dict[str, Any], name: str) -> list[str]:
    return given["artifacts"][name].get("failures", [])


def _check_size(source: Path, folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > MAX_SIZE:
        raise UserError(
            f"{source}: takes {size:,} bytes as a pretrained model, and {MAX_SIZE:,} are allowed; "
            "train a smaller --model"
        )


def _verified(folder: Path, given: dict[str, Any]) -> list[verify.ArtifactReport]:
    """Reports of the copied models on the golden faces, with the limits that they passed."""
    chosen = {
        name: ARTIFACTS[name]._replace(gate=_gate(given["artifacts"][name])) for name in FORMATS
    }
    golden = golden_lib.read(folder / export_files.GOLDEN)
    reports = verify.verify_artifacts(folder, chosen, None, golden, log_path=None)
    for report in reports:
        if report.failures:
            raise UserError(f"{report.path}: {'; '.join(report.failures)}; export the run again")
    return reports


def _gate(entry: dict[str, Any]) -> Gate:
    return Gate(**{k: v for k, v in entry.get("gate", {}).items() if k in Gate._fields})


def _check_weights(folder: Path, plain: keras.Model) -> float:
    """How far the network with the stored weights is from the run's, on the golden faces.

    Raises:
      UserError: further than a float16 TFLite file may be.
    """
    golden = golden_lib.read(folder / export_files.GOLDEN)
    expected = golden.probabilities if golden.plain is None else golden.plain
    model = networks.build_model(networks.name_of(plain.count_params()))
    model.load_weights(folder / export_files.MODEL_WEIGHTS)
    found = keras_loader.predict_probabilities(model, golden.images)
    comparison = compare(found, expected, golden.labels)
    missed = find_missed_golden_limit(comparison, FLOAT16)
    # Written so that a NaN misses.
    if missed or not np.isfinite(found).all():
        why = missed[0] if missed else "its output holds NaN or infinity"
        raise UserError(f"{export_files.MODEL_WEIGHTS}: in float16 {why}; train the run further")
    return comparison.max_difference
