"""Runs every artifact in its own runtime and holds it to its gates against the float32 twin."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from export import gates, metadata
from export.artifacts import Artifact
from export.comparison import Comparison, compare
from export.contract import contracts_of
from export.golden import Golden
from export.runtime import Runtime, RuntimeFailedError, opened
from fer_pipeline import cores
from fer_pipeline.expressions import CLASS_NAMES

#: Latency: so many turns of every artifact, so many runs a turn. The turns alternate, so that
#: whatever else the machine does meanwhile falls on all of them.
_TURNS = 10
_RUNS = 6

#: Largest difference between what another signature says of a face and ``serving_default``.
_SIGNATURE_TOLERANCE = 1e-5


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


class Evaluation(NamedTuple):
    """What artifacts are compared with the twin on.

    Attributes:
      images: uint8 ``[N, 48, 48, 1]``, N at least 1.
      labels: int ``[N]``.
      twin: float32 ``[N, 7]``, the twin's probabilities.
    """

    images: np.ndarray
    labels: np.ndarray
    twin: np.ndarray


class _Outcome(NamedTuple):
    contract: dict[str, Any] | None = None
    probabilities: np.ndarray | None = None
    golden: np.ndarray | None = None
    failures: tuple[str, ...] = ()


def verify_artifacts(
    folder: Path,
    artifacts: dict[str, Artifact],
    evaluation: Evaluation | None,
    golden: Golden,
    *,
    log_path: Path | None,
    tflite_batch: int = 1,
    trust: bool = False,
    written: Iterable[str] | None = None,
) -> list[ArtifactReport]:
    """Opens artifacts from their files and compares them with the twin.

    Args:
      folder: of the export.
      artifacts: by format, each with the gate that it is held to.
      evaluation: images to compare on; None compares on the golden faces alone.
      golden: faces that go with the export.
      log_path: what native code in child processes prints is appended there.
      tflite_batch: images of a call that TFLite files should take.
      trust: see ``runtime.opened``.
      written: formats in the order in which their files are complete. An iterator that writes
        them makes the two overlap: artifacts run in their own processes while the next is made.
        None: all are there.

    Returns:
      A report for each artifact. One that does not open or takes its process down has failures
      in place of figures; nothing is raised.
    """
    # The runtimes are closed first, which ends what the pool's threads wait for: after Ctrl-C
    # nobody wants it.
    with ThreadPoolExecutor(cores.usable()) as pool, contextlib.ExitStack() as stack:
        runtimes, futures = {}, {}
        for name in written or artifacts:
            runtime = opened(artifacts[name], folder, log_path, trust=trust)
            runtimes[name] = stack.enter_context(runtime)
            agreed = contracts_of(name, tflite_batch)
            futures[name] = pool.submit(_examine, runtimes[name], agreed, evaluation, golden)
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
            evaluation=evaluation,
            golden=golden,
        )
        for name, artifact in artifacts.items()
    ]


def _examine(
    runtime: Runtime, agreed: list[dict[str, Any]], evaluation: Evaluation | None, golden: Golden
) -> _Outcome:
    try:
        contract = runtime.contract()
        if contract not in agreed:
            return _Outcome(contract, failures=("its inputs and outputs are not as agreed",))
        faces = probabilities = runtime.predict(golden.images)
        failures = _malformed(faces, len(golden.images))
        if evaluation and not failures:
            probabilities = runtime.predict(evaluation.images)
            failures = _malformed(probabilities, len(evaluation.images))
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
    evaluation: Evaluation | None,
    golden: Golden,
) -> ArtifactReport:
    comparison = golden_difference = None
    failures = outcome.failures
    if outcome.probabilities is not None and not failures:
        comparison = compare(outcome.golden, golden.probabilities, golden.labels)
        golden_difference = comparison.max_difference
        failures = gates.missed_on_golden(comparison, artifact.gate)
        if evaluation:
            comparison = compare(outcome.probabilities, evaluation.twin, evaluation.labels)
            failures = gates.missed(comparison, artifact.gate) + failures
        if latency is None:
            failures += ("it stopped while it was being timed",)
    size = 0
    # Whoever runs another export meanwhile takes the files away.
    try:
        size = sum(path.stat().st_size for path in artifact_files(folder, artifact))
        if comparison and artifact.runtime == "tflite":
            failures += metadata.problems((folder / artifact.path).read_bytes(), name)
    except OSError as error:
        failures += (f"cannot be read ({error.strerror})",)
    return ArtifactReport(
        name=name,
        path=artifact.path,
        size=size,
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
