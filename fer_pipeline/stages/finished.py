"""Whether a run has anything left to do: train, evaluate or export."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from fer_pipeline import recipes, run_dir
from fer_pipeline.config import Config
from fer_pipeline.errors import UserError
from fer_pipeline.run_record import depends_on_epochs
from fer_pipeline.training import checkpoints


def refuse_finished(path: Path, config: Config, *, exporting: bool) -> None:
    """Raises UserError where ``path`` holds a run with nothing left to do, or with more epochs."""
    trained, step = checkpoints.progress(path)
    if (trained, step) > (config.epochs, 0):
        finished = is_finished(path, trained, config, exporting=exporting)
        more = trained + (step > 0 or finished)
        raise UserError(
            f"{path}: has trained {trained} epochs already{' and begun another' if step else ''}; "
            f"pass --epochs={more} or more, or --overwrite to start anew"
        )
    if trained == config.epochs and is_finished(path, trained, config, exporting=exporting):
        # How many epochs there are to be is part of such a run.
        fixed = depends_on_epochs(dataclasses.asdict(recipes.resolve(config)))
        further = "" if fixed else "more --epochs to train it further, "
        raise UserError(
            f"{path}: is finished; pass --overwrite to train it again, {further}or another "
            "--run_dir; python -m export exports it otherwise"
        )


def is_finished(path: Path, epochs: int, config: Config, *, exporting: bool) -> bool:
    """Whether a run of so many epochs is evaluated and, if ``exporting``, exported."""
    wanted = {
        "epochs": epochs,
        "export_checkpoint": config.export_checkpoint,
        "calibrate": bool(config.calibrate),
    }
    if evaluated_checkpoint(path) != wanted:
        return False
    return not exporting or weights_evaluated(path) == weights_exported(path)


def evaluated_checkpoint(path: Path) -> dict[str, Any]:
    """Which weights ``metrics.json`` is about; empty where there is none."""
    if not (path / run_dir.METRICS).exists():
        return {}
    metrics = run_dir.read_metrics(path)
    return {
        "epochs": metrics["epochs"],
        "export_checkpoint": metrics["checkpoint"],
        # Earlier versions of this software did not calibrate.
        "calibrate": metrics.get("calibrate", False),
    }


def weights_evaluated(path: Path) -> tuple[str, int, float | None]:
    """Checkpoint, epoch and temperature of the weights that ``metrics.json`` is about."""
    metrics = run_dir.read_metrics(path)
    which = metrics["checkpoint"]
    # Of the best one earlier versions of this software did not write down the epoch.
    epoch = metrics["epochs"] if which == "last" else metrics.get("epoch")
    epoch = epoch or checkpoints.load_end(path, which).state["epoch"]
    return which, epoch, _temperature(metrics)


def weights_exported(path: Path) -> tuple[str, int, float | None] | None:
    """The same of the weights in the export, by its manifest; None where there is none."""
    run_dir.recover_export(path)
    try:
        manifest = json.loads((path / run_dir.EXPORT / "manifest.json").read_text("utf-8"))
        weights = manifest["weights"]
        return weights["checkpoint"], weights["epoch"], _temperature(manifest)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _temperature(record: dict[str, Any]) -> float | None:
    return record.get("temperature", {}).get("value")
