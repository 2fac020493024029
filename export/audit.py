"""The proof of an export: its files, then every artifact in its runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from export.delivery.contents import check_files, printable, unreplaced
from export.spec import artifacts
from export.spec.artifacts import ARTIFACTS, Artifact
from export.spec.gates import Gate
from fer_pipeline.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from export.verification.verify import ArtifactReport

#: How much further from the twin an artifact may be on the golden faces than it was when it was
#: exported, where its gate has no limit: 8-bit kernels differ from one CPU to another.
_GOLDEN_SLACK = 0.02

#: How far an accuracy may be from the one at export, for the same reason.
_ACCURACY_SLACK = 0.005


class Proof(NamedTuple):
    """What was found.

    Attributes:
      manifest: of the export.
      reports: of every artifact, on the evaluation images, or on the golden faces where there are
        none. One is marked as the reference if the others were compared with it.
      lax: limits of the manifest that are wider than this software's, a line each.
    """

    manifest: dict[str, Any]
    reports: list[ArtifactReport]
    lax: tuple[str, ...]


def prove(
    folder: Path,
    *,
    log_path: Path | None = None,
    evaluation: tuple[np.ndarray, np.ndarray] | None = None,
    fingerprint: str | None = None,
    max_accuracy_drop: float | None = None,
    trust: bool = False,
) -> Proof:
    """Proves a folder that somebody was handed.

    Files against hashes first; then every artifact in its runtime: inputs and outputs as agreed,
    and on the golden faces within its gate and as near to the twin's probabilities as when it was
    exported. With ``evaluation`` also the manifest's gates: against the twin, built anew from the
    weights in the folder's Keras files; or, where it has none, against its most exact artifact.
    Where the data are those that the manifest's figures are of, the accuracies are compared with
    them too. What was kept back at export stays failed.

    Args:
      folder: the export, or an ``export.failed``.
      log_path: what native code prints is appended there.
      evaluation: images uint8 ``[N, 48, 48, 1]`` and labels int ``[N]``.
      fingerprint: of the data that these images are the validation images of.
      max_accuracy_drop: percentage points in place of the manifest's.
      trust: runs SavedModels and Keras files that ask for more than an export needs.

    Raises:
      UserError: a file is not as it should be, or another export took the folder's place meanwhile.
        What is wrong with an artifact is in its report.
    """
    with unreplaced(folder):
        return _prove(
            folder,
            log_path=log_path,
            evaluation=evaluation,
            fingerprint=fingerprint,
            max_accuracy_drop=max_accuracy_drop,
            trust=trust,
        )


def _prove(
    folder: Path,
    *,
    log_path: Path | None,
    evaluation: tuple[np.ndarray, np.ndarray] | None,
    fingerprint: str | None,
    max_accuracy_drop: float | None,
    trust: bool,
) -> Proof:
    manifest = check_files(folder)
    from export.spec import golden as golden_lib
    from export.verification import verify

    golden, reference, given = golden_lib.read(folder / artifacts.GOLDEN), None, None
    own = {name: ARTIFACTS[name] for name in ARTIFACTS if name in manifest["artifacts"]}
    chosen = {
        name: artifact._replace(gate=_gate(artifact.gate, manifest["artifacts"][name]))
        for name, artifact in own.items()
    }
    lax = tuple(line for name in own for line in _laxer(own[name], chosen[name]))
    chosen = artifacts.with_accuracy_drop(chosen, max_accuracy_drop)
    if evaluation:
        images, labels = evaluation
        reference_model, reference = _twin_of(folder, chosen, images, log_path, trust)
        given = verify.Evaluation(images, labels, reference_model)
    reports = verify.verify_artifacts(
        folder,
        chosen,
        given,
        golden,
        log_path=log_path,
        # Before there was a choice it was one.
        tflite_batch=manifest.get("tflite_batch", 1),
        trust=trust,
    )
    same_data = fingerprint and fingerprint == manifest["evaluation"].get("fingerprint")
    proved = []
    for report in reports:
        entry = manifest["artifacts"][report.name]
        problems = report.failures or _golden_problems(report, entry)
        if same_data and not problems:
            problems = _accuracy_problems(report, entry)
        problems += tuple(
            f"at export: {printable(failure)}" for failure in entry.get("failures", ())
        )
        proved.append(report._replace(failures=tuple(problems), reference=report.name == reference))
    return Proof(manifest, proved, lax)


def verify_folder(folder: Path, **arguments: Any) -> list[ArtifactReport]:
    """``prove`` for whoever wants to go on with a good export alone.

    Args:
      folder: the export.
      **arguments: those of ``prove``.

    Returns:
      The reports.

    Raises:
      UserError: names the first file or artifact that is not as it should be.
    """
    reports = prove(folder, **arguments).reports
    refuse_failed(folder, reports)
    return reports


def refuse_failed(folder: Path, reports: list[ArtifactReport]) -> None:
    """Raises UserError where an artifact failed; it names the first."""
    failed = [report for report in reports if report.failures]
    if failed:
        more = f" (and {len(failed) - 1} more artifacts)" if len(failed) > 1 else ""
        raise UserError(f"{folder / failed[0].path}: {'; '.join(failed[0].failures)}{more}")


def _gate(own: Gate, entry: dict[str, Any]) -> Gate:
    """The manifest's limits, and this software's where it has none under that name."""
    return own._replace(**{f: v for f, v in entry.get("gate", {}).items() if f in Gate._fields})


def _laxer(own: Artifact, used: Artifact) -> list[str]:
    lines = []
    for field, ours, theirs in zip(Gate._fields, own.gate, used.gate, strict=True):
        # Of an agreement more is stricter, of a difference less.
        sign = -1 if field == "agreement" else 1
        if ours is not None and (theirs is None or sign * theirs > sign * ours):
            limit = "none" if theirs is None else f"{theirs:g}"
            lines.append(f"{own.path}: its manifest's {field} is {limit}, not {ours:g}")
    return lines


def _twin_of(
    folder: Path,
    artifacts: dict[str, Artifact],
    images: np.ndarray,
    log_path: Path | None,
    trust: bool,
) -> tuple[np.ndarray, str | None]:
    """The twin's probabilities, and the format of the artifact that had to stand for it, if any."""
    from export.formats import inference_model, keras_files
    from export.verification.runtime import RuntimeFailedError, opened

    sources = {
        "keras": (artifacts.MODEL_WEIGHTS, keras_files.read_weights),
        "keras_v3": (artifacts.KERAS_ARCHIVE, keras_files.read_archive_weights),
    }
    for name, (file, read) in sources.items():
        if name not in artifacts:
            continue
        try:
            reference_model = inference_model.inference_model(read(folder / file))
        # Whatever another file under a right hash makes Keras or h5py raise.
        except Exception as error:
            raise UserError(f"{folder / file}: {' '.join(str(error).split())[:300]}") from error
        return inference_model.probabilities(reference_model, images), None
    name, artifact = next(iter(artifacts.items()))
    with opened(artifact, folder, log_path, trust=trust) as runtime:
        try:
            return runtime.predict(images), name
        except RuntimeFailedError as failure:
            raise UserError(f"{folder / artifact.path}: {failure}") from failure


def _accuracy_problems(report: ArtifactReport, entry: dict[str, Any]) -> tuple[str, ...]:
    recorded = entry.get("accuracy")
    if recorded is not None and not abs(report.comparison.accuracy - recorded) <= _ACCURACY_SLACK:
        return (
            f"names {report.comparison.accuracy:.2%} of the images that the manifest is about, not"
            f" {recorded:.2%}",
        )
    return ()


def _golden_problems(report: ArtifactReport, entry: dict[str, Any]) -> tuple[str, ...]:
    recorded = entry.get("golden_max_difference")
    if recorded is None:
        return ()
    limit = recorded + (ARTIFACTS[report.name].gate.max_difference or _GOLDEN_SLACK)
    if not report.golden_difference <= limit:
        return (
            f"on the golden faces a probability differs from the twin's by"
            f" {report.golden_difference:.2g}, at export by {recorded:.2g}",
        )
    return ()
