"""What counts as finished, and as the same run."""

import json

import pytest

from fer_pipeline import cluster, distribution, opening, run_dir
from fer_pipeline.errors import UserError

CONFIG = {
    "data": "synthetic",
    "fingerprint": "f" * 64,
    "seed": 0,
    "versions": {},
    "learning_rate": 5e-4,
    "epochs": 15,
    "batch_size": 64,
    "precision": "float32",
    "deterministic": False,
    "threads": 2,
    "devices": 1,
    "jit_compile": False,
}


def write_run(path, *, trained, evaluated=None, exported=None):
    """A run directory as far as ``refuse_finished`` looks at it."""
    run_dir.write_text(path / run_dir.CHECKPOINTS / f"epoch_{trained:04d}.npz", "")
    if evaluated:
        run_dir.write_json(path / run_dir.METRICS, {"epochs": evaluated, "checkpoint": "last"})
    if exported:
        # An export beside the training is of a run that is to have all its epochs.
        weights = {"checkpoint": "last", "epoch": exported}
        manifest = {"weights": weights, "run": {"epochs": trained, "export_checkpoint": "last"}}
        run_dir.write_json(path / run_dir.EXPORT / "manifest.json", manifest)


@pytest.mark.parametrize(
    ("run", "options", "said"),
    [
        ({"trained": 15, "evaluated": 15, "exported": 15}, {}, "is finished"),
        ({"trained": 10}, {"epochs": 5}, "has trained 10 epochs already; pass --epochs=10"),
        ({"trained": 10}, {}, None),
        ({"trained": 15}, {}, None),
        ({"trained": 15, "evaluated": 15}, {}, None),
        # Trained further, but what is exported is still the shorter training.
        ({"trained": 20, "evaluated": 20, "exported": 15}, {"epochs": 20}, None),
        ({"trained": 15, "evaluated": 15, "exported": 15}, {"epochs": 20}, None),
        ({"trained": 15, "evaluated": 15, "exported": 14}, {}, None),
        ({"trained": 15, "evaluated": 15, "exported": 15}, {"export_checkpoint": "best"}, None),
    ],
)
def test_only_a_run_with_something_left_to_do_goes_on(tmp_path, run, options, said):
    write_run(tmp_path, **run)
    if said is None:
        opening.refuse_finished(tmp_path, opening.Options(**options), exporting=True)
        return
    with pytest.raises(UserError, match=said):
        opening.refuse_finished(tmp_path, opening.Options(**options), exporting=True)


@pytest.mark.parametrize(("exported", "finished"), [(13, True), (12, False), (15, False)])
def test_the_best_epoch_is_compared_as_well(tmp_path, exported, finished):
    write_run(tmp_path, trained=15)
    metrics = {"epochs": 15, "checkpoint": "best", "epoch": 13}
    run_dir.write_json(tmp_path / run_dir.METRICS, metrics)
    weights = {"checkpoint": "best", "epoch": exported}
    run_dir.write_json(tmp_path / run_dir.EXPORT / "manifest.json", {"weights": weights})
    options = opening.Options(export_checkpoint="best")
    if finished:
        with pytest.raises(UserError, match="is finished"):
            opening.refuse_finished(tmp_path, options, exporting=True)
    else:
        opening.refuse_finished(tmp_path, options, exporting=True)


def test_overwriting_leaves_a_running_export_alone(tmp_path):
    opening.begin(tmp_path, CONFIG)
    (tmp_path / ".export-abc").mkdir()
    job = distribution.Job(None, cluster.Place())
    opened = opening.Run(tmp_path, None, CONFIG, job)
    held = run_dir.locked(tmp_path, run_dir.EXPORT_LOCK, busy="")
    with (
        held,
        pytest.raises(UserError, match="another process is exporting it"),
        opening.own(opened, overwrite=True),
    ):
        pass
    assert (tmp_path / ".export-abc").is_dir()
    assert (tmp_path / run_dir.CONFIG).exists()
    with opening.own(opened, overwrite=True):
        assert not (tmp_path / ".export-abc").exists()


def test_without_export_a_run_is_finished_once_it_is_evaluated(tmp_path):
    write_run(tmp_path, trained=15, evaluated=15)
    with pytest.raises(UserError, match="is finished"):
        opening.refuse_finished(tmp_path, opening.Options(), exporting=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 0.1}, "--learning_rate=0.0005, not 0.1"),
        ({"seed": 1}, "--seed=0, not 1"),
        ({"fingerprint": "0" * 64}, "other images"),
    ],
)
def test_another_configuration_is_refused_and_the_old_one_kept(tmp_path, change, said):
    opening.begin(tmp_path, CONFIG)
    with pytest.raises(UserError, match=said):
        opening.begin(tmp_path, CONFIG | change)
    assert json.loads((tmp_path / run_dir.CONFIG).read_text()) == CONFIG


@pytest.mark.parametrize("change", [{"epochs": 50}, {"threads": 4}, {"devices": 2}])
def test_what_does_not_change_what_is_computed_is_the_same_run(tmp_path, change):
    opening.begin(tmp_path, CONFIG)
    opening.begin(tmp_path, CONFIG | change)
    assert json.loads((tmp_path / run_dir.CONFIG).read_text()) == CONFIG | change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threads": 4}, "--threads=2, not 4"),
        ({"devices": 2}, "1 devices, not 2"),
        ({"jit_compile": True}, "--jit_compile=false, not true"),
    ],
)
def test_a_deterministic_run_keeps_its_threads_and_devices(tmp_path, change, said):
    config = CONFIG | {"deterministic": True}
    opening.begin(tmp_path, config)
    with pytest.raises(UserError, match=said):
        opening.begin(tmp_path, config | change)
