"""The audit of an export: its files against their hashes, then every artifact in its runtime."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from export.delivery.contents import check_files, escape_unprintable, unreplaced
from export.spec import artifacts
from export.spec.artifacts import ARTIFACTS, Artifact
from export.spec.gates import Gate
from fer_pipeline.errors import UserError
from fer_pipeline.inference import export_files, keras_loader

if TYPE_CHECKING:
    import numpy as np

    from export.verification.verify import ArtifactReport

#: How much further from the reference model an artifact may be on the golden faces than at export,
#: where its gate has no limit: 8-bit kernels differ from one CPU to another.
_GOLDEN_SLACK = 0.02

#: How far an accuracy may be from the one at export, for the same reason.
_ACCURACY_SLACK = 0.005


class Audit(NamedTuple):
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


def audit_export(
    folder: Path,
    *,
    log_path: Path | None = None,
    evaluation: tuple[np.ndarray, np.ndarray] | None = None,
    fingerprint: str | None = None,
    max_accuracy_drop: float | None = None,
    trust: bool = False,
) -> Audit:
    """Audits the export in a folder.

    Files against hashes first; then every artifact in its runtime: inputs and outputs as specified,
    and on the golden faces within its gate and as near to the reference model's probabilities as at
    export. With ``evaluation`` also the manifest's gates: against the reference model, built anew
    from the weights in the folder's Keras files; or, where it has none, against its most exact
    artifact. Where the data are those of the manifest's figures, the accuracies are compared with
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
        manifest = check_files(folder)
        from export.spec import golden as golden_lib
        from export.verification import verify

        classes = tuple(manifest["labels"])
        golden = golden_lib.read(folder / export_files.GOLDEN, len(classes))
        reference = given = None
        entries = manifest["artifacts"]
        chosen = {
            name: artifact._replace(gate=_gate(artifact.gate, entries[name]))
            for name, artifact in ARTIFACTS.items()
            if name in entries
        }
        lax = tuple(line for name in chosen for line in _laxer(ARTIFACTS[name], chosen[name].gate))
        chosen = artifacts.with_accuracy_drop(chosen, max_accuracy_drop)
        if evaluation:
            images, labels = evaluation
            mirror = manifest.get("mirror", False)
            *found, reference = _reference_probabilities(
                folder, chosen, images, log_path, trust, mirror
            )
            given = verify.Evaluation(images, labels, *found)
        reports = verify.verify_artifacts(
            folder,
            chosen,
            given,
            golden,
            log_path=log_path,
            # Older manifests lack this; it was 1.
            tflite_batch=manifest.get("tflite_batch", 1),
            trust=trust,
            classes=classes,
        )
    same_data = fingerprint and fingerprint == manifest["evaluation"].get("fingerprint")
    audited = [
        report._replace(
            failures=_failures(report, entries[report.name], bool(same_data)),
            reference=report.name == reference,
        )
        for report in reports
    ]
    return Audit(manifest, audited, lax)


def refuse_failed(folder: Path, reports: list[ArtifactReport]) -> None:
    """Raises UserError where an artifact failed; it names the first."""
    failed = [report for report in reports if report.failures]
    if failed:
        more = f" (and {len(failed) - 1} more artifacts)" if len(failed) > 1 else ""
        raise UserError(f"{folder / failed[0].path}: {'; '.join(failed[0].failures)}{more}")


def _gate(gate: Gate, entry: dict[str, Any]) -> Gate:
    """The manifest's limits, and this software's where it has none under that name."""
    return gate._replace(**{f: v for f, v in entry.get("gate", {}).items() if f in Gate._fields})


def _laxer(artifact: Artifact, used: Gate) -> list[str]:
    lines = []
    for field, ours, theirs in zip(Gate._fields, artifact.gate, used, strict=True):
        # Of an agreement more is stricter, of a difference less.
        sign = -1 if field == "agreement" else 1
        if ours is not None and (theirs is None or sign * theirs > sign * ours):
            limit = "none" if theirs is None else f"{theirs:g}"
            lines.append(f"{artifact.path}: its manifest's {field} is {limit}, not {ours:g}")
    return lines


def _reference_probabilities(
    folder: Path,
    chosen: dict[str, Artifact],
    images: np.ndarray,
    log_path: Path | None,
    trust: bool,
    mirror: bool,
) -> tuple[np.ndarray, np.ndarray | None, str | None]:
    """``mirror.reference``; and the name of the artifact that stood in for the network, if any."""
    from export.formats import inference_model
    from export.formats import mirror as mirror_lib
    from export.verification.runtimes import RuntimeFailedError, opened

    problems = []
    # An artifact that cannot be opened is reported by the verification; the next one stands in.
    for artifact in chosen.values():
        if artifact.runtime != "keras":
            continue
        try:
            weights = keras_loader.load(folder / artifact.path, trust=trust).get_weights()
            reference_model = inference_model.inference_model(weights)
            predict = functools.partial(keras_loader.predict_probabilities, reference_model)
            return *mirror_lib.reference(predict, images, mirror=mirror), None
        # Whatever another file under a right hash makes Keras or h5py raise.
        except Exception as error:
            problems.append(f"{folder / artifact.path}: {' '.join(str(error).split())[:300]}")
    for name, artifact in chosen.items():
        if artifact.runtime == "keras":
            continue
        with opened(artifact, folder, log_path, trust=trust) as runtime:
            try:
                # A mirrored one, if the export is; no file of it is plain then.
                return runtime.predict(images), None, name
            except RuntimeFailedError as failure:
                problems.append(f"{folder / artifact.path}: {failure}")
    raise UserError(problems[0])


def _failures(report: ArtifactReport, entry: dict[str, Any], same_data: bool) -> tuple[str, ...]:
    """A report's failures; if it has none, how its figures differ from the manifest's."""
    failures = list(report.failures)
    recorded = entry.get("golden_max_difference")
    if not failures and recorded is not None:
        slack = ARTIFACTS[report.name].gate.max_difference or _GOLDEN_SLACK
        if not report.golden_difference <= recorded + slack:
            failures.append(
                "on the golden faces a probability differs from the float32 network's by"
                f" {report.golden_difference:.2g}, at export by {recorded:.2g}"
            )
    recorded = entry.get("accuracy")
    if not failures and same_data and recorded is not None:
        accuracy = report.comparison.accuracy
        if not abs(accuracy - recorded) <= _ACCURACY_SLACK:
            failures.append(
                f"names {accuracy:.2%} of the images that the manifest is about, not {recorded:.2%}"
            )
    return (
        *failures,
        *(f"at export: {escape_unprintable(line)}" for line in entry.get("failures", ())),
    )
