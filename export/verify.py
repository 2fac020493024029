"""Runs every artifact in its own runtime and holds it to its gates against the float32 twin."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from export import metadata
from export.artifacts import ACCURACY_GATE_IMAGES, Artifact, Gate
from export.contract import contract_of
from export.golden import Golden
from export.runtime import Runtime, RuntimeFailedError, opened
from fer_pipeline.expressions import CLASS_NAMES

#: Latency: so many turns of every artifact, so many runs a turn. The turns alternate, so that
#: whatever else the machine does meanwhile falls on all of them.
_TURNS = 10
_RUNS = 6

#: Largest difference between what another signature says of a face and ``serving_default``.
_SIGNATURE_TOLERANCE = 1e-5


class Comparison(NamedTuple):
    """An artifact's probabilities beside those of the float32 twin.

    Attributes:
      images: how many were compared.
      accuracy: share of images whose first class is the label, 0..1.
      accuracy_drop: the twin's accuracy less this one, in percentage points.
      agreement: share of images whose first class is the twin's, 0..1.
      ties: images whose highest probability is that of several classes; the first counts.
      max_difference: of any probability.
      mean_difference: of all probabilities.
    """

    images: int
    accuracy: float
    accuracy_drop: float
    agreement: float
    ties: int
    max_difference: float
    mean_difference: float


class Latency(NamedTuple):
    """Milliseconds of one call: half of the runs and nine in ten took at most this long.

    A call takes one image, or of a TFLite file its fixed batch: ``images``.
    """

    p50_ms: float
    p90_ms: float
    images: int = 1


class ArtifactReport(NamedTuple):
    """What verification found.

    Attributes:
      name: the format.
      path: relative to the export folder.
      size: bytes of all its files.
      contract: inputs and outputs as its runtime reports them; None if it did not open.
      comparison: with the twin; None if it did not run.
      golden_difference: largest difference of any probability on the golden faces, or None.
      latency: None if it did not run.
      failures: gates missed and what else went wrong, a line each; empty when all is well.
      reference: whether it stood for the twin, so that it was compared with itself.
    """

    name: str
    path: str
    size: int
    contract: dict[str, Any] | None
    comparison: Comparison | None
    golden_difference: float | None
    latency: Latency | None
    failures: tuple[str, ...]
    reference: bool = False


class _Outcome(NamedTuple):
    contract: dict[str, Any] | None = None
    probabilities: np.ndarray | None = None
    golden: np.ndarray | None = None
    failures: tuple[str, ...] = ()


def compare(probabilities: np.ndarray, twin: np.ndarray, labels: np.ndarray) -> Comparison:
    """Compares two sets of probabilities, float32 ``[N, 7]``, N at least 1; labels ``[N]``."""
    ours, theirs = probabilities.argmax(axis=1), twin.argmax(axis=1)
    # Counted, not averaged: a difference of equal accuracies is exactly 0.
    right, twin_right = np.sum(ours == labels), np.sum(theirs == labels)
    difference = np.abs(probabilities.astype(np.float64) - twin)
    highest = probabilities.max(axis=1, keepdims=True)
    return Comparison(
        images=len(labels),
        accuracy=float(right / len(labels)),
        accuracy_drop=float(100 * (twin_right - right) / len(labels)),
        agreement=float(np.mean(ours == theirs)),
        ties=int(np.sum((probabilities == highest).sum(axis=1) > 1)),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
    )


def missed_gates(
    comparison: Comparison, gate: Gate, max_accuracy_drop: float | None = None
) -> tuple[str, ...]:
    """The gates that a comparison misses, a line each.

    Args:
      comparison: of the artifact with the twin.
      gate: its limits.
      max_accuracy_drop: percentage points in place of the gate's own, where it has one.
    """
    missed = []
    # Written so that a NaN misses.
    if gate.probability_difference is not None:
        limit = gate.probability_difference
        if not comparison.max_difference <= limit:
            missed.append(f"a probability differs by {comparison.max_difference:.2g} > {limit:g}")
    if gate.agreement is not None and not comparison.agreement >= gate.agreement:
        missed.append(f"agreement {comparison.agreement:.2%} < {gate.agreement:.1%}")
    if gate.accuracy_drop is not None and comparison.images >= ACCURACY_GATE_IMAGES:
        limit = gate.accuracy_drop if max_accuracy_drop is None else max_accuracy_drop
        if not comparison.accuracy_drop <= limit:
            missed.append(f"accuracy is {comparison.accuracy_drop:.2f} points lower > {limit:g}")
    return tuple(missed)


def verify_artifacts(
    folder: Path,
    artifacts: dict[str, Artifact],
    images: np.ndarray,
    labels: np.ndarray,
    twin: np.ndarray,
    golden: Golden,
    *,
    log_path: Path | None,
    max_accuracy_drop: float | None = None,
    tflite_batch: int = 1,
    written: Iterable[str] | None = None,
) -> list[ArtifactReport]:
    """Opens artifacts from their files and compares them with the twin.

    Args:
      folder: of the export.
      artifacts: by format.
      images: uint8 ``[N, 48, 48, 1]``, N at least 1.
      labels: int ``[N]``.
      twin: float32 ``[N, 7]``, the twin's probabilities.
      golden: faces that go with the export.
      log_path: what native code in child processes prints is appended there.
      max_accuracy_drop: see ``missed_gates``.
      tflite_batch: images of a call that TFLite files should take.
      written: formats in the order in which their files are complete. An iterator that writes
        them makes the two overlap: artifacts run in their own processes while the next is made.
        None: all are there.

    Returns:
      A report for each artifact. One that does not open or takes its process down has failures
      in place of figures; nothing is raised.
    """
    # The runtimes are closed first, which ends what the pool's threads wait for: after Ctrl-C
    # nobody wants it.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, contextlib.ExitStack() as stack:
        runtimes, futures = {}, {}
        for name in written or artifacts:
            runtimes[name] = stack.enter_context(opened(artifacts[name], folder, log_path))
            agreed = contract_of(name, tflite_batch)
            futures[name] = pool.submit(_examine, runtimes[name], agreed, images, golden)
        outcomes = {name: futures[name].result() for name in artifacts}
        running = {name: runtimes[name] for name in artifacts if not outcomes[name].failures}
        latencies = measure_latency(running, golden.images)
    for name in latencies:
        if artifacts[name].runtime == "tflite":
            latencies[name] = latencies[name]._replace(images=tflite_batch)
    return [
        _report(
            folder,
            name,
            artifact,
            outcomes[name],
            latencies.get(name),
            labels=labels,
            twin=twin,
            golden=golden,
            max_accuracy_drop=max_accuracy_drop,
        )
        for name, artifact in artifacts.items()
    ]


def _examine(
    runtime: Runtime, agreed: dict[str, Any], images: np.ndarray, golden: Golden
) -> _Outcome:
    try:
        contract = runtime.contract()
        if contract != agreed:
            return _Outcome(contract, failures=("its inputs and outputs are not as agreed",))
        probabilities, faces = runtime.predict(images), runtime.predict(golden.images)
        failures = _malformed(probabilities, len(images))
        if runtime.classify and not failures:
            failures = _wrong_classes(runtime, golden.images, faces)
        if runtime.encoded and not failures:
            failures = _wrong_decoding(runtime, golden.images, faces)
        return _Outcome(contract, probabilities, faces, failures)
    except RuntimeFailedError as failure:
        return _Outcome(failures=(str(failure),))


def _malformed(probabilities: np.ndarray, count: int) -> tuple[str, ...]:
    if probabilities.shape != (count, len(CLASS_NAMES)):
        return (f"its output has the shape {probabilities.shape}",)
    if not np.isfinite(probabilities).all():
        return ("its output holds NaN or infinity",)
    return ()


def _wrong_classes(
    runtime: Runtime, images: np.ndarray, probabilities: np.ndarray
) -> tuple[str, ...]:
    labels, scores = runtime.classify(images)
    expected = [CLASS_NAMES[i] for i in probabilities.argmax(axis=1)]
    right = np.allclose(scores, probabilities.max(axis=1), rtol=0, atol=_SIGNATURE_TOLERANCE)
    if labels != expected or not right:
        return ("its signature 'classify' contradicts 'serving_default'",)
    return ()


def _wrong_decoding(
    runtime: Runtime, images: np.ndarray, probabilities: np.ndarray
) -> tuple[str, ...]:
    # PNG loses nothing, so the decoded faces are these.
    found = runtime.encoded(images)
    right = found.shape == probabilities.shape and np.allclose(
        found, probabilities, rtol=0, atol=_SIGNATURE_TOLERANCE
    )
    return () if right else ("its signature 'serve_encoded' contradicts 'serving_default'",)


def measure_latency(runtimes: dict[str, Runtime], images: np.ndarray) -> dict[str, Latency]:
    """Times calls with uint8 ``[N, 48, 48, 1]`` in every runtime, taking turns.

    The first turn warms up and does not count. A runtime that fails is left out.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runtimes}
    for _ in range(1 + _TURNS):
        for name in list(seconds):
            try:
                seconds[name] += runtimes[name].seconds(images, _RUNS)
            except RuntimeFailedError:
                del seconds[name]
    return {
        name: Latency(*(1e3 * np.percentile(times[_RUNS:], [50, 90])).tolist())
        for name, times in seconds.items()
    }


def _report(
    folder: Path,
    name: str,
    artifact: Artifact,
    outcome: _Outcome,
    latency: Latency | None,
    *,
    labels: np.ndarray,
    twin: np.ndarray,
    golden: Golden,
    max_accuracy_drop: float | None,
) -> ArtifactReport:
    comparison = golden_difference = None
    failures = outcome.failures
    if outcome.probabilities is not None and not failures:
        comparison = compare(outcome.probabilities, twin, labels)
        golden_difference = float(np.abs(outcome.golden - golden.probabilities).max())
        failures = missed_gates(comparison, artifact.gate, max_accuracy_drop)
        if artifact.runtime == "tflite":
            failures += metadata.problems((folder / artifact.path).read_bytes(), name)
        if latency is None:
            failures += ("it stopped while it was being timed",)
    return ArtifactReport(
        name=name,
        path=artifact.path,
        size=sum(path.stat().st_size for path in artifact_files(folder, artifact)),
        contract=outcome.contract,
        comparison=comparison,
        golden_difference=golden_difference,
        latency=latency,
        failures=failures,
    )


def artifact_files(folder: Path, artifact: Artifact) -> list[Path]:
    """The files an artifact consists of, sorted; those that are missing are left out."""
    candidates = [folder / path for path in artifact.files]
    found = [
        file
        for path in candidates
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.is_file()
    ]
    return sorted(found)
