"""``manifest.json``: what an export holds and promises."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.spec.artifacts import Artifact
from export.spec.gates import ACCURACY_GATE_IMAGES
from export.spec.io_spec import PREPROCESSING, format_postprocessing
from fer_pipeline import classes as classes_lib
from fer_pipeline import cores, datasets
from fer_pipeline.devices.precision import cpu_model
from fer_pipeline.inference import pretrained
from fer_pipeline.inference.export_files import MANIFEST, MANIFEST_HASH
from fer_pipeline.inference.integrity import sha256
from fer_pipeline.run_record import classes_of
from fer_pipeline.stages import teachers

if TYPE_CHECKING:
    from export.spec.comparison import Comparison
    from export.verification.verify import ArtifactReport

#: Of the manifest's form.
SCHEMA = 1

_PACKAGES = ("tensorflow", "keras", "numpy", "ai-edge-litert")


def build(
    reports: Sequence[ArtifactReport],
    artifacts: dict[str, Artifact],
    config: dict[str, Any],
    *,
    reference: Comparison,
    warnings: Sequence[str] = (),
    tflite_batch: int = 1,
    epoch: int | None = None,
    data: dict[str, str] | None = None,
    temperature: dict[str, Any] | None = None,
    plain_accuracy: float | None = None,
) -> dict[str, Any]:
    """What a manifest says of an export, all but the list of its files.

    Args:
      reports: of every artifact.
      artifacts: what they were held to, by format.
      config: of the run that trained the weights; its classes are the labels.
      reference: the reference model compared with itself, on the images of the reports.
      warnings: what is to be said of the network.
      tflite_batch, epoch, data, temperature: as for ``pipeline.export_in``.
      plain_accuracy: the reference model's without mirror images; None where nothing is mirrored.
    """
    source = datasets.source_name(config["data"]) if "data" in config else None
    mirror = plain_accuracy is not None
    classes = classes_of(config)
    data = data or {"source": source, "fingerprint": config.get("fingerprint")}
    return {
        "schema": SCHEMA,
        "labels": list(classes),
        "preprocessing": PREPROCESSING,
        "postprocessing": format_postprocessing(len(classes), mirror=mirror),
        "tflite_batch": tflite_batch,
        **({"mirror": True} if mirror else {}),
        "warnings": list(warnings),
        "artifacts": {
            report.name: _entry(report, artifacts[report.name], mirror) for report in reports
        },
        "weights": {"checkpoint": config.get("export_checkpoint", "last"), "epoch": epoch},
        **({"temperature": temperature} if temperature else {}),
        "calibration": data | {"split": "train"},
        "evaluation": {
            **data,
            "split": "validation",
            "images": reference.images,
            "float32_twin_accuracy": reference.accuracy,
            **({"float32_twin_accuracy_without_mirror": plain_accuracy} if mirror else {}),
            "accuracy_gated": reference.images >= ACCURACY_GATE_IMAGES,
        },
        "latency": (
            "Of one call, with so many images: median and 90th percentile, artifacts taking turns"
            " in one run; LiteRT on one thread, Keras and TensorFlow on as many as they choose."
        ),
        "machine": {"processor": cpu_model(), "cores": cores.usable()},
        "versions": {"python": platform.python_version()}
        | {package: importlib.metadata.version(package) for package in _PACKAGES},
        "run": _without_places(config),
    }


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    """Settings with names of files and not where they lie: the manifest goes to strangers."""
    found = {name: value for name, value in config.items() if name != "cache_dir"}
    if "data" in found:
        source = datasets.source_name(found["data"])
        found["data"] = _other_than_ours(source, found["data"])
    for name in ("ferplus", "exclude"):
        if found.get(name):
            found[name] = Path(found[name]).name
    if found.get("teacher"):
        names = [
            _other_than_ours(Path(path).name, path) for path in teachers.names(found["teacher"])
        ]
        found["teacher"] = classes_lib.as_text(names)
    if start := found.get("init_weights"):
        found["init_weights"] = _other_than_ours(Path(start).name, start)
    return found


def _other_than_ours(name: str, path: str) -> str:
    """The name of a path; with ``./`` where by itself it means what this software brings along."""
    ours = name in (datasets.SYNTHETIC, pretrained.NAME) and path != name
    return f"./{name}" if ours else name


def _entry(report: ArtifactReport, artifact: Artifact, mirror: bool) -> dict[str, Any]:
    comparison = report.comparison._asdict() if report.comparison else {}
    comparison.pop("images", None)
    return {
        "path": report.path,
        "for": artifact.what,
        "size": report.size,
        **({"mirrored": artifact.can_mirror} if mirror else {}),
        **(report.io_spec or {}),
        **comparison,
        "golden_max_difference": report.golden_difference,
        "latency": report.latency._asdict() if report.latency else None,
        "gate": artifact.gate._asdict(),
        "failures": list(report.failures),
    }


def select_part(manifest: dict[str, Any], *, kept_back: bool) -> dict[str, Any]:
    """The manifest of what passed (``kept_back`` names the others), or of what did not."""
    failed = {name: e for name, e in manifest["artifacts"].items() if e["failures"]}
    if not kept_back:
        return manifest | {"artifacts": failed}
    passed = {
        name: {key: value for key, value in e.items() if key != "failures"}
        for name, e in manifest["artifacts"].items()
        if name not in failed
    }
    named = {name: {key: e[key] for key in ("path", "failures")} for name, e in failed.items()}
    return manifest | {"artifacts": passed, "kept_back": named}


def list_files(folder: Path) -> list[str]:
    """All files of an export but the manifest and its hash, as sorted relative paths."""
    paths = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    names = {path.relative_to(folder).as_posix() for path in paths}
    return sorted(names - {MANIFEST, MANIFEST_HASH})


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes ``manifest.json``, and its hash in the form that ``sha256sum --check`` reads.

    Args:
      folder: of the export; it holds all its other files.
      manifest: from ``build``; size and SHA-256 of every file are added.
    """
    paths = {name: folder / name for name in list_files(folder)}
    listed = {n: {"size": p.stat().st_size, "sha256": sha256(p)} for n, p in paths.items()}
    text = json.dumps(manifest | {"files": listed}, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    (folder / MANIFEST_HASH).write_text(format_hash_line(folder), encoding="utf-8")


def format_hash_line(folder: Path) -> str:
    """What ``manifest.sha256`` should hold."""
    return f"{sha256(folder / MANIFEST)}  {MANIFEST}\n"
