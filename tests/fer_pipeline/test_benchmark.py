"""How contenders are run, timed and shown; and the real ones on a few images."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from fer_pipeline import contest, peers, throughput
from fer_pipeline.contest import Contender, Row
from fer_pipeline.datasets.splits import Split
from fer_pipeline.datasets.synthetic import render
from fer_pipeline.errors import UserError


class Clock:
    """A clock that contenders advance by the seconds that they take."""

    def __init__(self):
        self.now = 0.0
        self.turns = []

    def __call__(self):
        return self.now

    def contender(self, name, images, seconds):
        """One that takes the next of ``seconds`` at each of its turns."""
        remaining = iter(seconds)

        def run():
            self.turns.append(name)
            self.now += next(remaining)
            return images

        return Contender(name, run)


def test_contenders_warm_up_and_then_alternate():
    clock = Clock()
    contenders = [
        clock.contender("slow", 10, [100, 1, 2, 5]),
        Contender("absent", None, "it needs a thing"),
        clock.contender("fast", 60, [100, 1, 3, 2]),
    ]
    rows = contest.compete(contenders, 3, clock=clock)
    assert clock.turns == ["slow", "fast", "slow", "fast", "fast", "slow", "slow", "fast"]
    assert rows == [
        Row("slow", (10, 5, 2)),
        Row("absent", (), "it needs a thing"),
        Row("fast", (60, 20, 30)),
    ]
    assert rows[0].median == 5
    assert np.isnan(rows[1].median)


def test_a_round_lasts_as_long_as_asked():
    clock = Clock()
    step = clock.contender("", 64, [0.4] * 20).run
    assert contest.for_seconds(step, 1.0, clock)() == 3 * 64
    assert contest.for_seconds(step, 0.0, clock)() == 64


def test_table_shows_median_spread_and_ratio():
    rows = [
        Row("slow", (10.0, 5.0, 2.0)),
        Row("absent", (), "it needs a thing"),
        Row("fast", (6000.0, 2000.0, 3000.0), "a note"),
    ]
    assert contest.table(rows, baseline="slow").splitlines() == [
        "        images/s      min-max    ratio",
        "slow           5         2-10    1.00x",
        "absent         -            -        -  it needs a thing",
        "fast       3,000  2,000-6,000  600.00x  a note",
    ]
    with_steps = contest.table(rows, baseline="absent", batch_size=60).splitlines()
    assert with_steps[0].split() == ["images/s", "min-max", "ms/step", "ratio"]
    assert with_steps[1].split() == ["slow", "5", "2-10", "12,000.0", "-"]
    assert with_steps[3].split() == ["fast", "3,000", "2,000-6,000", "20.0", "-", "a", "note"]


def test_json_holds_every_round_and_null_for_what_did_not_run():
    rows = [Row("slow", (10.0, 5.0, 2.0)), Row("absent", (), "why")]
    slow, absent = json.loads(json.dumps(contest.as_json(rows, baseline="slow")))
    assert slow == {
        "name": "slow",
        "images_per_second": 5.0,
        "min": 2.0,
        "max": 10.0,
        "rounds": [10.0, 5.0, 2.0],
        "ratio": 1.0,
        "note": "",
    }
    assert absent["images_per_second"] is absent["ratio"] is absent["min"] is None


def test_splits_are_repeated_in_order():
    split = Split(np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1), np.array([4, 5, 6]))
    longer = peers.repeated(split, 8)
    np.testing.assert_array_equal(longer.images.ravel(), [0, 1, 2, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(longer.labels, [4, 5, 6, 4, 5, 6, 4, 5])
    assert peers.repeated(split, 2) is split


@pytest.fixture(scope="module")
def train():
    labels = (np.arange(140) % 7).astype(np.int32)
    return Split(render(labels, seed=0), labels)


def test_class_folders_hold_the_images_while_they_are_needed(train):
    with peers.class_folders(train) as (folder, part):
        assert sorted(path.name for path in folder.iterdir()) == sorted(peers.CLASS_NAMES)
        assert all(len(list(path.iterdir())) == 20 for path in folder.iterdir())
        np.testing.assert_array_equal(part.images, train.images)
    assert not folder.exists()


def test_input_contenders_deliver_images(train, monkeypatch):
    monkeypatch.setattr(peers, "EPOCH_IMAGES", 140)
    monkeypatch.setattr(peers, "MAX_FILES", 64)
    with peers.class_folders(train) as (folder, part):
        assert len(part.labels) == 64
        contenders = peers.input_contenders(folder, part, batch_size=32, seconds=0)
        rows = contest.compete(contenders, 1)
    assert rows[0].name == peers.INPUT_BASELINE
    with_pillow = importlib.util.find_spec("PIL") is not None
    for row in rows[0 if with_pillow else 1 :]:
        assert len(row.rates) == 1, row
        assert row.rates[0] > 0


def test_without_pillow_the_generators_row_says_so(train, monkeypatch, capsys):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "PIL" else find_spec(name)
    )
    with peers.class_folders(train) as (folder, part):
        monkeypatch.setattr(peers, "EPOCH_IMAGES", 140)
        first, *others = peers.input_contenders(folder, part, batch_size=32, seconds=0)
    assert first.run is None
    assert "Pillow" in first.note
    assert all(contender.run for contender in others)


def fake_stage(train, **options):
    rows = contest.compete([Contender("fake", lambda: len(train.labels))], options["rounds"])
    return contest.as_json(rows, baseline="fake")


def test_measure_runs_the_stages_and_writes_the_figures(train, tmp_path, monkeypatch, capsys):
    class Loaded:
        splits = type("Splits", (), {"train": train, "test": train, "selected_on": "test"})

    monkeypatch.setattr(throughput.datasets, "load", lambda data: Loaded)
    monkeypatch.setattr(throughput, "STAGES", {"fake": fake_stage})
    options = {"batch_size": 32, "rounds": 2, "seconds": 0, "steps": 1, "out": tmp_path / "out"}
    result = throughput.measure("some faces", stages=["fake"], **options)
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text()) == result
    assert result["load"]["images"] == 280
    assert len(result["fake"][0]["rounds"]) == 2
    assert result["machine"]["cores"] >= 1
    shown = capsys.readouterr().out
    assert result["machine"]["cpu"] in shown
    assert "280 images loaded cold" in shown
    with pytest.raises(UserError, match="--stages=input: choose from fake"):
        throughput.measure("some faces", stages=["input"], **options)


def test_a_folder_that_cannot_be_made_is_a_mistake_of_the_user(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out="):
        throughput.measure(
            "synthetic",
            stages=["input"],
            batch_size=1,
            rounds=1,
            seconds=0,
            steps=1,
            out=tmp_path / "file" / "out",
        )


def test_help_and_mistakes_need_no_tensorflow():
    command = [sys.executable, "-X", "importtime", "-m", "fer_pipeline.benchmark"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert "--batch_size" in shown.stdout
    assert "| tensorflow" not in shown.stderr
    assert "numpy" not in shown.stderr
