"""What counts as finished, and as the same run."""

import hashlib
import json

import numpy as np
import pytest

from fer_pipeline import atomic_files, datasets, recipes, run_dir
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.config import Config
from fer_pipeline.datasets.splits import Split, Splits
from fer_pipeline.devices import cluster, strategy
from fer_pipeline.errors import UserError
from fer_pipeline.stages import finished, opening
from fer_pipeline.training import checkpoints

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
    "class_weight": "none",
    "ferplus_labels": "majority",
    "teachers": [],
    "initial_weights": None,
    "freeze": "0",
    "exclude_sha256": None,
    "classes": list(CLASS_NAMES),
    **recipes.RECIPES["notebook"],
}


def write_run(path, *, trained, evaluated=None, exported=None):
    """A run directory as far as ``refuse_finished`` looks at it."""
    atomic_files.write_text(path / run_dir.CHECKPOINTS / f"epoch_{trained:04d}.npz", "")
    if evaluated:
        atomic_files.write_json(path / run_dir.METRICS, {"epochs": evaluated, "checkpoint": "last"})
    if exported:
        # An export beside the training is of a run that is to have all its epochs.
        weights = {"checkpoint": "last", "epoch": exported}
        manifest = {"weights": weights, "run": {"epochs": trained, "export_checkpoint": "last"}}
        atomic_files.write_json(path / run_dir.EXPORT / "manifest.json", manifest)


@pytest.mark.parametrize(
    ("run", "options", "said"),
    [
        ({"trained": 15, "evaluated": 15, "exported": 15}, {}, "is finished"),
        ({"trained": 10}, {"epochs": 5}, "has trained 10 epochs already; pass --epochs=10 or"),
        # What it says to pass has to be accepted.
        (
            {"trained": 15, "evaluated": 15, "exported": 15},
            {"epochs": 14},
            "has trained 15 epochs already; pass --epochs=16 or",
        ),
        ({"trained": 15, "evaluated": 15}, {"epochs": 14}, "pass --epochs=15 or"),
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
        finished.refuse_finished(tmp_path, Config(**options), exporting=True)
        return
    with pytest.raises(UserError, match=said):
        finished.refuse_finished(tmp_path, Config(**options), exporting=True)


def refuse(path, *, chief=True, exporting=False, **options):
    return opening.find_problem(
        path, recipes.resolve(Config(**options)), chief=chief, exporting=exporting
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": "no/such/place"}, "no/such/place: no such file"),
        ({"validation_fraction": 0.5}, "--validation_fraction: the synthetic faces"),
        ({"teacher": "no/such/run"}, "no/such/run"),
        ({"init_weights": "no/such"}, "--init_weights=no/such: no such file or folder; name 'pre"),
        ({"init_weights": "."}, "--init_weights=.: holds no weights; name 'pretrained', a run"),
        ({"freeze": 2}, "--freeze=2: random weights have to be trained; add --init_weights or"),
        ({"freeze": 13, "init_weights": "pretrained"}, "--model=notebook has 12 layers with"),
    ],
)
@pytest.mark.parametrize("chief", [True, False])
def test_what_is_wrong_is_seen_before_tensorflow_and_the_data(tmp_path, options, said, chief):
    assert said in str(refuse(tmp_path / "run", chief=chief, **options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 32}, "--batch_size=64, not 32"),
        ({"seed": 1}, "--seed=0, not 1"),
        ({"precision": "mixed_float16"}, "--precision=float32, not mixed_float16"),
        ({"deterministic": True}, "--deterministic=false, not true"),
        ({"model": "compact"}, "--model=notebook, not compact"),
        ({"optimizer": "muon"}, "--optimizer=adam, not muon"),
    ],
)
def test_a_run_started_otherwise_is_refused_before_the_data_is_read(tmp_path, options, said):
    opening.write_record(tmp_path, CONFIG)
    assert said in str(refuse(tmp_path, **options))
    # What the device decides is not known yet.
    assert refuse(tmp_path) is None
    assert refuse(tmp_path, overwrite=True, **options) is None
    # The other hosts have no run directory.
    assert refuse(tmp_path, chief=False, **options) is None


def test_a_run_that_another_process_trains_is_refused_before_the_data_is_read(tmp_path):
    opening.write_record(tmp_path, CONFIG)
    with run_dir.owned(tmp_path):
        assert "another process is training there" in str(refuse(tmp_path))


def test_space_for_checkpoints_and_export_is_asked_for_before_anything_is_made(
    tmp_path, monkeypatch
):
    run = tmp_path / "run"
    # Five checkpoints of three copies of 4,478,727 parameters; the export takes ten copies.
    for free, exporting, said in (
        (268_700_000, False, "its checkpoints need 269 MB"),
        (268_800_000, False, None),
        (268_800_000, True, "its checkpoints and its export need 448 MB"),
        (448_000_000, True, None),
    ):
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr("shutil.disk_usage", lambda path, usage=usage: usage)
        found = refuse(run, exporting=exporting)
        assert found is None if said is None else said in str(found)
    assert list(tmp_path.iterdir()) == []


def test_muon_has_one_moment_and_averages_are_a_copy_more(tmp_path, monkeypatch):
    weights = 4 * 584_055
    for options, copies in (({"optimizer": "muon"}, 2), ({"optimizer": "muon", "ema": 0.9}, 3)):
        for missing in (0, 1):
            usage = type("Usage", (), {"free": 5 * copies * weights - missing})
            monkeypatch.setattr("shutil.disk_usage", lambda path, usage=usage: usage)
            found = refuse(tmp_path / "run", model="compact", **options)
            assert (found is not None) == missing


@pytest.mark.parametrize(
    ("model", "checkpoints", "export"),
    # Five of three copies of 66,007 and of 584,055 parameters; an export has a least size.
    [("tiny", 3_960_420, 4_000_000), ("compact", 35_043_300, 23_362_200)],
)
def test_a_smaller_network_needs_less_space(tmp_path, monkeypatch, model, checkpoints, export):
    for missing in (0, 1):
        usage = type("Usage", (), {"free": checkpoints + export - missing})
        monkeypatch.setattr("shutil.disk_usage", lambda path, usage=usage: usage)
        found = refuse(tmp_path / "run", exporting=True, model=model)
        assert (found is not None) == missing


def test_what_overwriting_deletes_counts_as_room(tmp_path, monkeypatch):
    opening.write_record(tmp_path, CONFIG)
    for name in ("checkpoints/epoch_0015.npz", "checkpoints/best.npz", "export/model.keras"):
        atomic_files.write_text(tmp_path / name, "")
        with open(tmp_path / name, "r+b") as file:
            file.truncate(50_000_000)
    written = sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    # All five checkpoints and the export are to come, 448 MB, once that is deleted.
    for free, fits in ((447_872_700 - written, True), (447_872_700 - written - 100_000, False)):
        usage = type("Usage", (), {"free": free})
        monkeypatch.setattr("shutil.disk_usage", lambda path, usage=usage: usage)
        found = refuse(tmp_path, overwrite=True, exporting=True)
        assert (found is None) == fits, found


def test_another_configuration_is_named_before_a_run_is_called_finished(tmp_path):
    write_run(tmp_path, trained=15, evaluated=15)
    atomic_files.write_json(tmp_path / run_dir.CONFIG, CONFIG)
    assert "is finished" in str(refuse(tmp_path))
    assert "--batch_size=64, not 32" in str(refuse(tmp_path, batch_size=32))


def test_a_run_that_was_finished_while_the_data_was_loaded_is_refused_under_the_lock(tmp_path):
    devices = strategy.join("one_device")
    opened = opening.Run(tmp_path, None, Config(), CONFIG, devices)
    write_run(tmp_path, trained=15, evaluated=15)
    atomic_files.write_json(tmp_path / run_dir.CONFIG, CONFIG)
    with (
        pytest.raises(UserError, match="is finished"),
        opening.lock_run(opened, Config(), exporting=False),
    ):
        pass
    with opening.lock_run(opened, Config(epochs=16), exporting=False):
        pass


def test_a_key_that_an_old_configuration_lacks_is_compared_with_its_default(tmp_path):
    new = (
        "deterministic",
        "seed",
        "teachers",
        "initial_weights",
        "freeze",
        *recipes.RECIPES["tuned"],
    )
    old = {name: value for name, value in CONFIG.items() if name not in new}
    old |= {"batch_size": 64, "learning_rate": 5e-4}
    atomic_files.write_json(tmp_path / run_dir.CONFIG, old)
    with pytest.raises(UserError, match="--seed=0, not 1"):
        opening.write_record(tmp_path, CONFIG | {"seed": 1})
    with pytest.raises(UserError, match="--deterministic=false, not true"):
        opening.write_record(tmp_path, CONFIG | {"deterministic": True})
    opening.write_record(tmp_path, CONFIG)


@pytest.mark.parametrize("key", ["precision", "threads", "jit_compile"])
def test_what_the_device_decided_and_an_old_configuration_lacks_cannot_be_passed(tmp_path, key):
    config = CONFIG | {"deterministic": True}
    old = {name: value for name, value in config.items() if name != key}
    atomic_files.write_json(tmp_path / run_dir.CONFIG, old)
    with pytest.raises(UserError, match=f"an older version, which did not record its {key}"):
        opening.write_record(tmp_path, config)


@pytest.mark.parametrize(("exported", "is_finished"), [(13, True), (12, False), (15, False)])
def test_the_best_epoch_is_compared_as_well(tmp_path, exported, is_finished):
    write_run(tmp_path, trained=15)
    metrics = {"epochs": 15, "checkpoint": "best", "epoch": 13}
    atomic_files.write_json(tmp_path / run_dir.METRICS, metrics)
    weights = {"checkpoint": "best", "epoch": exported}
    atomic_files.write_json(tmp_path / run_dir.EXPORT / "manifest.json", {"weights": weights})
    options = Config(export_checkpoint="best")
    if is_finished:
        with pytest.raises(UserError, match="is finished"):
            finished.refuse_finished(tmp_path, options, exporting=True)
    else:
        finished.refuse_finished(tmp_path, options, exporting=True)


def test_overwriting_leaves_a_running_export_alone(tmp_path):
    opening.write_record(tmp_path, CONFIG)
    (tmp_path / ".export-abc").mkdir()
    devices = strategy.Devices(None, cluster.WorkerInfo())
    opened = opening.Run(tmp_path, None, Config(), CONFIG, devices)
    held = run_dir.locked(tmp_path, run_dir.EXPORT_LOCK, busy="")
    with (
        held,
        pytest.raises(UserError, match="another process is exporting it"),
        opening.lock_run(opened, Config(overwrite=True), exporting=False),
    ):
        pass
    assert (tmp_path / ".export-abc").is_dir()
    assert (tmp_path / run_dir.CONFIG).exists()
    with opening.lock_run(opened, Config(overwrite=True), exporting=False):
        assert not (tmp_path / ".export-abc").exists()


def test_without_export_a_run_is_finished_once_it_is_evaluated(tmp_path):
    write_run(tmp_path, trained=15, evaluated=15)
    with pytest.raises(UserError, match="is finished"):
        finished.refuse_finished(tmp_path, Config(), exporting=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 0.1}, "--learning_rate=0.0005, not 0.1"),
        ({"seed": 1}, "--seed=0, not 1"),
        ({"fingerprint": "0" * 64}, "other images"),
        ({"teachers": ["abc"]}, "other teachers"),
        ({"class_weight": "balanced"}, "--class_weight=none, not balanced"),
        ({"ferplus_labels": "distribution"}, "--ferplus_labels=majority, not distribution"),
        ({"initial_weights": "abc"}, "other --init_weights"),
        # Of how many epochs there will be these depend from their first step on.
        ({"schedule": "linear"}, "--schedule=plateau, not linear"),
    ],
)
def test_another_configuration_is_refused_and_the_old_one_kept(tmp_path, change, said):
    opening.write_record(tmp_path, CONFIG)
    with pytest.raises(UserError, match=said):
        opening.write_record(tmp_path, CONFIG | change)
    assert json.loads((tmp_path / run_dir.CONFIG).read_text()) == CONFIG


@pytest.mark.parametrize("what", [{"schedule": "linear"}, {"augment": "flip,shift:2"}])
def test_epochs_count_where_a_step_depends_on_them(tmp_path, what):
    opening.write_record(tmp_path, CONFIG | what)
    with pytest.raises(UserError, match="--epochs=15, not 50"):
        opening.write_record(tmp_path, CONFIG | what | {"epochs": 50})
    assert "--epochs=15, not 50" in str(refuse(tmp_path, epochs=50, **what))
    assert refuse(tmp_path, **what) is None


def test_a_run_is_continued_with_a_setting_that_it_was_started_with_in_vain(tmp_path):
    opening.write_record(tmp_path, CONFIG | {"distill": 0.3})
    assert refuse(tmp_path, distill=0.3) is None
    assert "--distill=0.3: has no effect" in str(refuse(tmp_path, distill=0.3, overwrite=True))


@pytest.mark.parametrize("change", [{"epochs": 50}, {"threads": 4}, {"devices": 2}])
def test_what_does_not_change_what_is_computed_is_the_same_run(tmp_path, change):
    opening.write_record(tmp_path, CONFIG)
    opening.write_record(tmp_path, CONFIG | change)
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
    opening.write_record(tmp_path, config)
    with pytest.raises(UserError, match=said):
        opening.write_record(tmp_path, config | change)


def test_what_was_left_out_is_counted_by_ending(monkeypatch, capsys):
    empty = Split(np.zeros((0, 48, 48, 1), np.uint8), np.zeros(0, np.int32))
    others = ("a/notes.txt", "b/face.HEIC", "c/more.txt", "c/README")
    loaded = datasets.Loaded(Splits(empty, empty, empty), "faces", left_out=others)
    monkeypatch.setattr(datasets, "load", lambda *_, **__: loaded)
    opening.load_data(Config(data="faces"))
    said = (
        "4 files that are no images were left out (no ending 1, .heic 1, .txt 2), first a/notes.txt"
    )
    assert said in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("flag", ["teacher", "init_weights"])
def test_overwriting_does_not_delete_what_the_run_is_to_learn_from(tmp_path, monkeypatch, flag):
    run = tmp_path / "run"
    opening.write_record(run, CONFIG)
    checkpoint = checkpoints.Checkpoint([], [], [], {"epoch": 1})
    checkpoints.save(run, checkpoint)
    (tmp_path / "link").symlink_to(run)
    monkeypatch.chdir(run)
    for source in (run, tmp_path / "link", "."):
        said = str(refuse(run, overwrite=True, **{flag: str(source)}))
        assert said == f"--{flag}={source}: --overwrite would delete it; pass another --run_dir"
    assert refuse(tmp_path / "other", overwrite=True, **{flag: str(run)}) is None
    exported, beside = run / run_dir.EXPORT / "model.keras", run / "kept" / "model.keras"
    for file in (exported, beside):
        atomic_files.write_text(file, "")
    said = str(refuse(run, overwrite=True, init_weights=str(exported)))
    assert "model.keras: --overwrite would delete it" in said
    # A user's own file in the folder of a run stays.
    assert refuse(run, overwrite=True, init_weights=str(beside)) is None


def test_a_run_that_cannot_be_trained_further_is_not_said_to_be(tmp_path):
    write_run(tmp_path, trained=15, evaluated=15)
    for options, further in (({}, True), ({"schedule": "linear"}, False)):
        with pytest.raises(UserError, match="is finished") as raised:
            finished.refuse_finished(tmp_path, Config(**options), exporting=False)
        assert ("more --epochs" in str(raised.value)) == further


@pytest.mark.parametrize(
    "options", [{"validation_fraction": 0.5}, {"ferplus_labels": "distribution"}, {"ferplus": "f"}]
)
def test_a_setting_that_arrays_do_not_follow_is_refused(tmp_path, options):
    config = recipes.resolve(Config(data=datasets.ARRAYS, **options))
    found = opening.find_problem(tmp_path, config, chief=True, exporting=False, loading=False)
    assert (
        str(found) == f"{next(iter(options))}: the faces are arrays; pass it to load_data instead"
    )


def arrays(**changes):
    """Two parts of 14 faces, the training images with these changes."""
    part = Split(np.zeros((14, 48, 48, 1), np.uint8), np.arange(14) % 7)
    return Splits(part._replace(**changes), part, part)


def test_labels_of_any_whole_numbers_are_those_of_the_steps(tmp_path):
    config = recipes.resolve(Config(data=datasets.ARRAYS, run_dir=str(tmp_path)))
    for dtype in (np.int64, np.uint8):
        given = arrays(labels=(np.arange(14) % 7).astype(dtype))
        splits = opening.open_run(tmp_path, config, splits=given).splits
        for part in (splits.train, splits.validation, splits.test):
            assert part.labels.dtype == np.int32
            assert part.labels.tolist() == [*range(7)] * 2


def test_where_a_cache_lies_is_recorded_for_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    for given, recorded in (("a cache", f"{tmp_path}/a cache"), ("~/cache", "/home/me/cache")):
        config = recipes.resolve(Config(data=datasets.ARRAYS, cache_dir=given))
        opened = opening.open_run(tmp_path / "run", config, splits=arrays())
        assert opened.record["cache_dir"] == recorded


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": np.zeros(14)}, r"train: its labels are float64 \[14\], not a whole number"),
        ({"labels": np.zeros(13, int)}, r"not a whole number for each of its 14 images"),
        ({"labels": np.full(14, 2**32)}, "train: has labels from 4294967296 to 4294967296, and"),
        ({"labels": np.full(14, -(2**40))}, "has labels from -1099511627776 to -1099511627776"),
        ({"labels": np.full(14, 8)}, "has labels from 8 to 8, and the 7 classes are 0 to 6"),
        ({"labels": [[0], [0, 1]]}, "train: is no array of images and one of labels"),
        ({"images": [np.zeros(shape) for shape in ((1, 2), (1, 3))]}, "is no array of images"),
        ({"images": np.zeros((14, 48, 48, 1))}, r"train: its images are float64 \[14, 48, 48, 1\]"),
        ({"images": np.zeros((14, 48, 48), np.uint8)}, r"uint8 \[14, 48, 48\], not uint8 \[N, 48"),
        ({"images": np.zeros((0, 48, 48, 1), np.uint8), "labels": np.zeros(0, int)}, "no images"),
    ],
)
def test_arrays_that_are_no_faces_are_one_line(tmp_path, changes, said):
    config = recipes.resolve(Config(data=datasets.ARRAYS, run_dir=str(tmp_path / "run")))
    with pytest.raises(UserError, match=said):
        opening.open_run(tmp_path / "run", config, splits=arrays(**changes))


def test_votes_are_one_for_each_training_image_and_class(tmp_path):
    config = recipes.resolve(Config(data=datasets.ARRAYS, run_dir=str(tmp_path / "run")))

    def opened(shape):
        voted = arrays()._replace(train_votes=np.zeros(shape))
        return opening.open_run(tmp_path / "run", config, splits=voted)

    assert opened((14, 7)).splits.train_votes.dtype == np.float32
    # Training images were left out of the arrays, and their votes were not.
    for shape in ((15, 7), (14, 6), (14,)):
        with pytest.raises(UserError, match=r"train_votes: are .*, not one for each of 14"):
            opened(shape)


def test_a_run_is_continued_only_with_the_list_of_its_start(tmp_path, capsys):
    run, listed = tmp_path / "run", tmp_path / "list.txt"
    images = np.arange(21, dtype=np.uint8).repeat(48 * 48).reshape(21, 48, 48, 1)
    part = Split(images, np.arange(21, dtype=np.int32) % 7)
    listed.write_text(f"{hashlib.sha256(images[0].tobytes()).hexdigest()}\n")
    config = Config(data=datasets.ARRAYS, run_dir=str(run), exclude=str(listed))
    opened = opening.open_run(run, recipes.resolve(config), splits=Splits(part, part, part))
    assert len(opened.splits.train.labels) == len(opened.splits.validation.labels) == 20
    assert len(opened.splits.test.labels) == 21
    assert "left out 1 training and 1 validation images, by 1 line\n" in capsys.readouterr().out
    digest = hashlib.sha256(listed.read_bytes()).hexdigest()
    assert opened.record["exclude_sha256"] == digest
    run.mkdir()
    opening.write_record(run, opened.record)
    assert refuse(run, exclude=str(listed)) is None
    moved = listed.rename(tmp_path / "moved.txt")
    assert refuse(run, exclude=str(moved)) is None
    assert "started with another --exclude list" in str(refuse(run))
    moved.write_text("other\n")
    said = str(refuse(run, exclude=str(moved)))
    assert "started with another --exclude list; pass that, or --overwrite" in said
    assert "no such.txt: No such file" in str(refuse(run, exclude=str(tmp_path / "no such.txt")))
