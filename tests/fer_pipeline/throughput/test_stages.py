"""The stages, the files they leave, and the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from fer_pipeline.errors import UserError
from fer_pipeline.throughput import cases, machine, stages
from fer_pipeline.throughput.cases import Case, Column, Table, Timing


def fake_stage(splits, options, scratch):
    train = splits.train
    assert scratch.is_dir()
    rows = cases.measure_rates(
        [Case("fake", lambda: lambda: Timing(len(train.labels), 1.0), {"kind": "ours"})],
        options.rounds,
        baseline="fake",
        opener=cases.in_process,
    )
    yield Table("one table", cases.RATE_COLUMNS, rows)
    yield Table(
        "another", (Column("seconds", "seconds"),), [{"name": "a", "note": "", "seconds": 2}]
    )


@pytest.fixture
def loaded(train, monkeypatch):
    class Loaded:
        splits = type("Splits", (), {"train": train, "test": train, "selected_on": "test"})

    done = []
    monkeypatch.setattr(machine, "hide_gpus", lambda: done.append("hidden"))
    monkeypatch.setattr(stages.datasets, "load", lambda data: done.append("loaded") or Loaded)
    monkeypatch.setattr(stages, "STAGES", {"fake": fake_stage})
    return done


@pytest.mark.usefixtures("loaded")
def test_measure_runs_the_stages_and_writes_the_figures(tmp_path, capsys):
    out = tmp_path / "out"
    options = stages.Options(rounds=2)
    result = stages.measure("some faces", options, stages=["fake"], out=out)
    assert json.loads((out / "benchmark.json").read_text()) == result
    assert result["load"]["images"] == 280
    assert not (out / "benchmark.partial.json").exists()
    first, second = result["stages"]["fake"]
    assert first["title"] == "one table"
    assert len(first["rows"][0]["rounds"]) == 2
    assert second["rows"][0]["seconds"] == 2
    assert result["machine"]["cores"] >= 1
    shown = capsys.readouterr().out
    assert result["machine"]["cpu"] in shown
    assert "280 images loaded cold" in shown
    assert "fake, one table" in shown
    picture = imread(out / "benchmark.png")
    assert picture.shape[1] > 500
    endless = stages.Options(seconds=float("nan"))
    for chosen, asked, said in (
        (["input"], options, "--stages=input: choose from fake"),
        (["fake", "fake"], options, "--stages=fake,fake: .* at most once"),
        (["fake"], endless, "--seconds=nan"),
    ):
        with pytest.raises(UserError, match=said):
            stages.measure("some faces", asked, stages=chosen, out=out)


def test_where_nothing_could_be_measured_a_line_says_so(loaded, tmp_path, monkeypatch, capsys):
    del loaded

    def absent():
        raise ImportError("it needs a thing")

    def broken(train, options, scratch):
        entrants = [Case("a", absent), Case("b", absent)]
        rows = cases.measure_rates(entrants, 1, baseline="a", opener=cases.in_process)
        yield Table("one table", cases.RATE_COLUMNS, rows)

    monkeypatch.setattr(stages, "STAGES", {"broken": broken, "fake": fake_stage})
    (tmp_path / "benchmark.json").write_text("an earlier one")
    with pytest.raises(UserError, match="nothing could be measured: the rows above") as told:
        stages.measure("faces", stages.Options(), stages=["broken"], out=tmp_path)
    assert "\n" not in str(told.value)
    assert capsys.readouterr().out.count("not measured: it needs a thing") == 2
    kept = json.loads((tmp_path / "benchmark.partial.json").read_text())
    assert [row["name"] for row in kept["stages"]["broken"][0]["rows"]] == ["a", "b"]
    assert (tmp_path / "benchmark.json").read_text() == "an earlier one"
    # One table with figures is enough for a chart.
    stages.measure("faces", stages.Options(rounds=1), stages=["broken", "fake"], out=tmp_path)
    assert (tmp_path / "benchmark.png").exists()


def test_the_benchmark_itself_leaves_gpus_to_its_processes(loaded, tmp_path):
    stages.measure("faces", stages.Options(rounds=1), stages=["fake"], out=tmp_path)
    # Loading decodes in TensorFlow.
    assert loaded == ["hidden", "loaded"]


def test_hidden_gpus_are_no_devices_of_tensorflow(monkeypatch):
    import tensorflow as tf

    hidden = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *asked: hidden.append(asked))
    machine.hide_gpus()
    assert hidden == [([], "GPU")]


@pytest.mark.usefixtures("loaded")
def test_a_folder_that_cannot_be_made_is_a_mistake_of_the_user(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out="):
        stages.measure("faces", stages.Options(), stages=["fake"], out=tmp_path / "file" / "out")


@pytest.mark.usefixtures("loaded")
def test_what_was_measured_before_a_stage_broke_off_is_kept(tmp_path, monkeypatch):
    def full(train, options, scratch):
        yield Table("one table", (), [])
        raise OSError(28, "No space left on device", str(scratch / "a file"))

    monkeypatch.setattr(stages, "STAGES", {"full": full})
    (tmp_path / "benchmark.json").write_text("an earlier one")
    with pytest.raises(UserError, match="a file: No space left on device; TMPDIR"):
        stages.measure("faces", stages.Options(), stages=["full"], out=tmp_path)
    kept = json.loads((tmp_path / "benchmark.partial.json").read_text())
    assert kept["stages"]["full"] == [{"title": "one table", "rows": []}]
    assert (tmp_path / "benchmark.json").read_text() == "an earlier one"


def test_as_many_processes_as_memory_holds_are_alive_at_once(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: 8 * 2**30)
    assert stages._fit(4, 2.0)
    assert not stages._fit(5, 2.0)
    monkeypatch.setattr(machine, "available_memory", lambda: None)
    assert stages._fit(5, 2.0)


def test_quick_takes_fewer_and_a_given_batch_size_is_taken_alone():
    quick, given = stages.Options(quick=True), stages.Options(batch_size=32)
    assert stages._batch_sizes(stages.Options(), (64, 256)) == (64, 256)
    assert stages._batch_sizes(quick, (64, 256)) == (64,)
    assert stages._batch_sizes(given, (64, 256)) == (32,)


def test_the_machine_is_told_in_one_line():
    line = machine.format_line(machine.describe())
    assert np.__version__ in line
    assert "\n" not in line


def test_help_and_mistakes_need_no_tensorflow():
    command = [sys.executable, "-X", "importtime", "-m", "fer_pipeline.benchmark"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert "--batch_size" in shown.stdout
    assert "| tensorflow" not in shown.stderr
    assert "numpy" not in shown.stderr
