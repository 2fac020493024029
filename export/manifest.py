"""``manifest.json``: what an export holds and promises, and the proof of a folder against it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.artifacts import (
    ACCURACY_GATE_IMAGES,
    ARTIFACTS,
    GOLDEN,
    KERAS_ARCHIVE,
    MANIFEST,
    MANIFEST_HASH,
    MODEL_WEIGHTS,
    Artifact,
    Gate,
)
from export.contract import POSTPROCESSING, PREPROCESSING
from fer_pipeline import datasets
from fer_pipeline.errors import UserError
from fer_pipeline.expressions import CLASS_NAMES
from fer_pipeline.precision import cpu_model

if TYPE_CHECKING:
    import numpy as np

    from export.verify import ArtifactReport

_SCHEMA = 1

#: How much further from the twin an artifact may be on the golden faces than it was when it was
#: exported, where its gate has no limit: 8-bit kernels differ from one CPU to another.
_GOLDEN_SLACK = 0.02

#: How far an accuracy may be from the one at export, for the same reason.
_ACCURACY_SLACK = 0.005

_PACKAGES = ("tensorflow", "keras", "numpy", "ai-edge-litert")


def build(
    reports: Sequence[ArtifactReport],
    twin_accuracy: float,
    config: dict[str, Any],
    *,
    tflite_batch: int = 1,
    max_accuracy_drop: float | None = None,
    epoch: int | None = None,
    data: dict[str, str] | None = None,
) -> dict[str, Any]:
    """What a manifest says of an export, all but the list of its files.

    Args:
      reports: of every artifact in it, with comparison and latency.
      twin_accuracy: the float32 twin's, on the images of the reports.
      config: of the run that trained the weights.
      tflite_batch: images of a call of every TFLite file.
      max_accuracy_drop: percentage points that took the place of the gates' own, or None.
      epoch: how many epochs made the weights; None where that is not known.
      data: ``source`` and ``fingerprint`` of what the files were calibrated and compared on; None
        is the run's own.
    """
    if "data" in config:
        # A folder's name and not where it lies: the manifest goes to strangers.
        config = config | {"data": datasets.source_name(config["data"])}
    config = {name: value for name, value in config.items() if name != "cache_dir"}
    data = data or {"source": config.get("data"), "fingerprint": config.get("fingerprint")}
    return {
        "schema": _SCHEMA,
        "labels": list(CLASS_NAMES),
        "preprocessing": PREPROCESSING,
        "postprocessing": POSTPROCESSING,
        "tflite_batch": tflite_batch,
        "artifacts": {report.name: _entry(report, max_accuracy_drop) for report in reports},
        "weights": {"checkpoint": config.get("export_checkpoint", "last"), "epoch": epoch},
        "calibration": data | {"split": "train"},
        "evaluation": {
            **data,
            "split": "validation",
            "images": reports[0].comparison.images,
            "float32_twin_accuracy": twin_accuracy,
            "accuracy_gated": reports[0].comparison.images >= ACCURACY_GATE_IMAGES,
        },
        "latency": (
            "Of one call, with so many images: median and 90th percentile, artifacts taking turns"
            " in one run; LiteRT on one thread, Keras and TensorFlow on as many as they choose."
        ),
        "machine": {"processor": cpu_model(), "cores": os.cpu_count()},
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
        "run": config,
    }


def _entry(report: ArtifactReport, max_accuracy_drop: float | None) -> dict[str, Any]:
    artifact = ARTIFACTS[report.name]
    gate = artifact.gate
    if max_accuracy_drop is not None and gate.accuracy_drop is not None:
        gate = gate._replace(accuracy_drop=max_accuracy_drop)
    comparison = report.comparison._asdict()
    del comparison["images"]
    return {
        "path": report.path,
        "for": artifact.what,
        "size": report.size,
        **report.contract,
        **comparison,
        "golden_max_difference": report.golden_difference,
        "latency": report.latency._asdict(),
        "gate": gate._asdict(),
    }


def files(folder: Path) -> list[str]:
    """All files of an export but the manifest and its hash, as sorted relative paths."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    names = {path.relative_to(folder).as_posix() for path in paths}
    return sorted(names - {MANIFEST, MANIFEST_HASH})


def sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes ``manifest.json``, and its hash in the form that ``sha256sum --check`` reads.

    Args:
      folder: of the export; it holds all its other files.
      manifest: from ``build``; size and SHA-256 of every file are added.
    """
    listed = {
        path: {"size": (folder / path).stat().st_size, "sha256": sha256(folder / path)}
        for path in files(folder)
    }
    text = json.dumps(manifest | {"files": listed}, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    (folder / MANIFEST_HASH).write_text(_hash_line(folder), encoding="utf-8")


def _hash_line(folder: Path) -> str:
    return f"{sha256(folder / MANIFEST)}  {MANIFEST}\n"


def check_files(folder: Path) -> dict[str, Any]:
    """Proves that a folder holds the files of its manifest, byte for byte, and no others.

    Returns:
      The manifest.

    Raises:
      UserError: names the first file that is missing, extra, truncated or changed.
    """
    try:
        return _checked(folder)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be read ({error.strerror})") from error


def _checked(folder: Path) -> dict[str, Any]:
    for name in (MANIFEST, MANIFEST_HASH):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: is missing; {folder} is no whole export")
    # Bytes: a changed one need not be text.
    if (folder / MANIFEST_HASH).read_bytes() != _hash_line(folder).encode():
        raise UserError(f"{folder / MANIFEST}: its SHA-256 is not the one in {MANIFEST_HASH}")
    manifest = _parse(folder / MANIFEST)
    present, listed = set(files(folder)), manifest["files"]
    problems = [f"{folder / path}: is missing" for path in listed if path not in present]
    problems += [f"{folder / path}: is a link" for path in listed if (folder / path).is_symlink()]
    problems += [f"{folder / path}: is not of this export" for path in present - set(listed)]
    if not problems:
        problems = [
            problem for path, entry in listed.items() if (problem := _damage(folder / path, entry))
        ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(min(problems) + more)
    return manifest


def _parse(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        known = manifest["schema"] == _SCHEMA and set(manifest["artifacts"]) <= set(ARTIFACTS)
        complete = isinstance(manifest["run"], dict) and all(
            isinstance(entry["golden_max_difference"], float)
            for entry in manifest["artifacts"].values()
        )
        hashed = all({"size", "sha256"} <= set(entry) for entry in manifest["files"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: is no manifest of an export ({error!r})") from error
    if not (known and complete and hashed and manifest["artifacts"]):
        raise UserError(f"{path}: is a manifest of another version of this software")
    return manifest


def _damage(path: Path, entry: dict[str, Any]) -> str | None:
    size = path.stat().st_size
    if size != entry["size"]:
        return f"{path}: is {size} bytes long, not {entry['size']}; it was cut short or exchanged"
    if sha256(path) != entry["sha256"]:
        return f"{path}: its SHA-256 is not the manifest's; it was damaged or exchanged"
    return None


def verify_folder(
    folder: Path,
    *,
    log_path: Path | None = None,
    evaluation: tuple[np.ndarray, np.ndarray] | None = None,
    fingerprint: str | None = None,
    max_accuracy_drop: float | None = None,
) -> list[ArtifactReport]:
    """Proves a folder that somebody was handed.

    Files against hashes first; then every artifact in its runtime: inputs and outputs as agreed,
    and on the golden faces as near to the twin's probabilities as when it was exported. With
    ``evaluation`` also the gates: against the twin, built anew from the weights in the folder's
    Keras files; or, where it has none, against its most exact artifact. Where the data are those
    that the manifest's figures are of, the accuracies are compared with them too.

    Args:
      folder: the export.
      log_path: what native code prints is appended there.
      evaluation: images uint8 ``[N, 48, 48, 1]`` and labels int ``[N]``.
      fingerprint: of the data that these images are the validation images of.
      max_accuracy_drop: percentage points in place of the gates' own.

    Returns:
      Reports on the evaluation images, or on the golden faces where there are none. One is
      marked as the reference if the others were compared with it.

    Raises:
      UserError: names the first file or artifact that is not as it should be.
    """
    manifest = check_files(folder)
    from export import golden as golden_lib
    from export import verify

    golden, reference = golden_lib.read(folder / GOLDEN), None
    chosen = {name: ARTIFACTS[name] for name in ARTIFACTS if name in manifest["artifacts"]}
    if evaluation:
        images, labels = evaluation
        twin, reference = _twin_of(folder, chosen, images, log_path)
    else:
        images, labels, twin = golden
        chosen = {name: a._replace(gate=Gate(None, None, None)) for name, a in chosen.items()}
    reports = verify.verify_artifacts(
        folder,
        chosen,
        images,
        labels,
        twin,
        golden,
        log_path=log_path,
        max_accuracy_drop=max_accuracy_drop,
        # Before there was a choice it was one.
        tflite_batch=manifest.get("tflite_batch", 1),
    )
    same_data = fingerprint and fingerprint == manifest["evaluation"].get("fingerprint")
    for report in reports:
        problems = report.failures or _golden_problems(report, manifest)
        if same_data and not problems:
            problems = _accuracy_problems(report, manifest)
        if problems:
            raise UserError(f"{folder / report.path}: {'; '.join(problems)}")
    return [report._replace(reference=report.name == reference) for report in reports]


def _twin_of(
    folder: Path, artifacts: dict[str, Artifact], images: np.ndarray, log_path: Path | None
) -> tuple[np.ndarray, str | None]:
    """The twin's probabilities, and the format of the artifact that had to stand for it, if any."""
    from export import inference_model, keras_files
    from export.runtime import RuntimeFailedError, opened

    sources = {
        "keras": (MODEL_WEIGHTS, keras_files.read_weights),
        "keras_v3": (KERAS_ARCHIVE, lambda path: keras_files.load(path).get_weights()),
    }
    for name, (file, read) in sources.items():
        if name not in artifacts:
            continue
        try:
            twin = inference_model.inference_model(read(folder / file))
        # Whatever another file under a right hash makes Keras or h5py raise.
        except Exception as error:
            raise UserError(f"{folder / file}: {' '.join(str(error).split())[:300]}") from error
        return inference_model.probabilities(twin, images), None
    name, artifact = next(iter(artifacts.items()))
    with opened(artifact, folder, log_path) as runtime:
        try:
            return runtime.predict(images), name
        except RuntimeFailedError as failure:
            raise UserError(f"{folder / artifact.path}: {failure}") from failure


def _accuracy_problems(report: ArtifactReport, manifest: dict[str, Any]) -> tuple[str, ...]:
    recorded = manifest["artifacts"][report.name]["accuracy"]
    if not abs(report.comparison.accuracy - recorded) <= _ACCURACY_SLACK:
        return (
            f"names {report.comparison.accuracy:.2%} of the images that the manifest is about, not"
            f" {recorded:.2%}",
        )
    return ()


def _golden_problems(report: ArtifactReport, manifest: dict[str, Any]) -> tuple[str, ...]:
    recorded = manifest["artifacts"][report.name]["golden_max_difference"]
    limit = recorded + (ARTIFACTS[report.name].gate.probability_difference or _GOLDEN_SLACK)
    if not report.golden_difference <= limit:
        return (
            f"on the golden faces a probability differs from the twin's by"
            f" {report.golden_difference:.2g}, at export by {recorded:.2g}",
        )
    return ()
