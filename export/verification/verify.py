"""Runs every artifact in its own runtime and checks its gates against the reference model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from export.formats import metadata
from export.spec import gates
from export.spec.artifacts import Artifact
from export.spec.comparison import Comparison, compare
from export.spec.golden import Golden
from export.spec.io_spec import get_io_specs
from export.verification.runtimes import Runtime, RuntimeFailedError, opened
from fer_pipeline import cores
from fer_pipeline.classes import CLASS_NAMES

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
      io_spec: inputs and outputs as its runtime reports them; None if it did not open.
      comparison: with the reference model; None if it did not run.
      golden_difference: largest difference of any probability on the golden faces, or None.
      latency: None if it did not run.
      failures: gates missed and what else went wrong, a line each; empty when all is well.
      reference: whether it stood for the reference model, so that it was compared with itself.
    """

    name: str
    path: str
    size: int
    io_spec: dict[str, Any] | None
    comparison: Comparison | None
    golden_difference: float | None
    latency: Latency | None
    failures: tuple[str, ...]
    reference: bool = False


class Evaluation(NamedTuple):
    """What artifacts are compared with the reference model on.

    Attributes:
      images: uint8 ``[N, 48, 48, 1]``, N at least 1.
      labels: int ``[N]``.
      reference: float32 ``[N, C]``, the reference model's probabilities.
      plain: where the export is mirrored, those without the mirror image, for files that are not.
    """

    images: np.ndarray
    labels: np.ndarray
    reference: np.ndarray
    plain: np.ndarray | None = None


class _Outcome(NamedTuple):
    """What a runtime gave: probabilities of the golden faces, and of the evaluation images."""

    io_spec: dict[str, Any] | None = None
    golden: np.ndarray | None = None
    evaluation: np.ndarray | None = None
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
    classes: Sequence[str] = CLASS_NAMES,
) -> list[ArtifactReport]:
    """Opens artifacts from their files and compares them with the reference model.

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
      classes: what the probabilities are of, in their order.

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
            agreed = get_io_specs(name, tflite_batch, len(classes))
            examined = (runtimes[name], agreed, evaluation, golden, classes)
            futures[name] = pool.submit(_examine, *examined)
        outcomes = {name: futures[name].result() for name in artifacts}
        running = {name: runtimes[name] for name in artifacts if not outcomes[name].failures}
        latencies = measure_latency(running, golden.images)
    reports = []
    for name, artifact in artifacts.items():
        latency = latencies.get(name)
        if latency and artifact.runtime == "tflite":
            latency = latency._replace(images=tflite_batch)
        path = (folder, name, artifact)
        reports.append(_report(*path, outcomes[name], latency, evaluation, golden, classes))
    return reports


def _examine(
    runtime: Runtime,
    agreed: list[dict[str, Any]],
    evaluation: Evaluation | None,
    golden: Golden,
    classes: Sequence[str],
) -> _Outcome:
    try:
        io_spec = runtime.io_spec()
        if io_spec not in agreed:
            return _Outcome(io_spec, failures=("its inputs and outputs are not as agreed",))
        faces, found = runtime.predict(golden.images), None
        failures = _malformed(faces, len(golden.images), len(classes))
        if evaluation and not failures:
            found = runtime.predict(evaluation.images)
            failures = _malformed(found, len(evaluation.images), len(classes))
        failures = failures or _wrong_classes(runtime, golden.images, faces, classes)
        failures = failures or _wrong_decoding(runtime, golden.images, faces)
        return _Outcome(io_spec, faces, found, failures)
    except RuntimeFailedError as failure:
        return _Outcome(failures=(str(failure),))


def _malformed(probabilities: np.ndarray, count: int, num_classes: int) -> tuple[str, ...]:
    if probabilities.shape != (count, num_classes):
        return (f"its output has the shape {probabilities.shape}",)
    if not np.isfinite(probabilities).all():
        return ("its output holds NaN or infinity",)
    return ()


def _wrong_classes(
    runtime: Runtime, images: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> tuple[str, ...]:
    if not runtime.classify:
        return ()
    labels, scores = runtime.classify(images)
    named = labels == [classes[i] for i in probabilities.argmax(axis=1)]
    right = named and _close(np.asarray(scores), probabilities.max(axis=1))
    return () if right else ("its signature 'classify' contradicts 'serving_default'",)


def _wrong_decoding(
    runtime: Runtime, images: np.ndarray, probabilities: np.ndarray
) -> tuple[str, ...]:
    # PNG loses nothing, so the decoded faces are these.
    right = not runtime.encoded or _close(runtime.encoded(images), probabilities)
    return () if right else ("its signature 'serve_encoded' contradicts 'serving_default'",)


def _close(found: np.ndarray, expected: np.ndarray) -> bool:
    same_shape = found.shape == expected.shape
    return same_shape and np.allclose(found, expected, rtol=0, atol=_SIGNATURE_TOLERANCE)


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


def _expected(artifact: Artifact, reference: np.ndarray, plain: np.ndarray | None) -> np.ndarray:
    """The probabilities that a file is held to: the plain ones if it cannot be mirrored."""
    return reference if artifact.can_mirror or plain is None else plain


def _report(
    folder: Path,
    name: str,
    artifact: Artifact,
    outcome: _Outcome,
    latency: Latency | None,
    evaluation: Evaluation | None,
    golden: Golden,
    classes: Sequence[str],
) -> ArtifactReport:
    comparison = golden_difference = None
    failures = outcome.failures
    if not failures:
        expected = _expected(artifact, golden.probabilities, golden.plain)
        comparison = compare(outcome.golden, expected, golden.labels)
        golden_difference = comparison.max_difference
        failures = gates.find_missed_golden_limit(comparison, artifact.gate)
        if evaluation:
            expected = _expected(artifact, evaluation.reference, evaluation.plain)
            comparison = compare(outcome.evaluation, expected, evaluation.labels)
            failures = gates.find_missed_limits(comparison, artifact.gate) + failures
        if latency is None:
            failures += ("it stopped while it was being timed",)
    size = 0
    # Another export of the run may replace the folder meanwhile.
    try:
        paths = [folder / name for name in artifact.files]
        paths += [inner for path in paths for inner in path.rglob("*")]
        size = sum(path.stat().st_size for path in paths if path.is_file())
        if comparison and artifact.runtime == "tflite":
            failures += metadata.find_problems((folder / artifact.path).read_bytes(), name, classes)
    except OSError as error:
        failures += (f"cannot be read ({error.strerror})",)
    spec = outcome.io_spec
    return ArtifactReport(
        name, artifact.path, size, spec, comparison, golden_difference, latency, failures
    )
