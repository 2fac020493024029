"""One process at a time, and nothing deleted that is not the run's."""

import re
import subprocess
import sys

import pytest

from fer_pipeline import run_dir
from fer_pipeline.errors import UserError


def test_a_second_process_is_refused(tmp_path):
    attempt = (
        "import sys; from pathlib import Path; from fer_pipeline import run_dir, errors\n"
        "try:\n"
        "    with run_dir.owned(Path(sys.argv[1])): print('mine')\n"
        "except errors.UserError as error: print(error)\n"
    )

    def other_process():
        command = [sys.executable, "-c", attempt, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with run_dir.owned(tmp_path):
        assert "another process is training there" in other_process()
    assert other_process() == "mine\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BlockingIOError(11, "Resource temporarily unavailable"), "another process is training"),
        (OSError(37, "No locks available"), r"keeps no locks \(No locks available\)"),
        (OSError(95, "Operation not supported"), r"keeps no locks \(Operation not supported\)"),
    ],
)
def test_a_lock_that_cannot_be_had_says_why(tmp_path, monkeypatch, error, said):
    def refused(*_):
        raise error

    monkeypatch.setattr("fcntl.flock", refused)
    with pytest.raises(UserError, match=said), run_dir.owned(tmp_path):
        pass


def test_a_disk_that_is_too_small_is_found(tmp_path, monkeypatch):
    run_dir.check_space(tmp_path / "not" / "there", 1, "its checkpoints")
    usage = type("Usage", (), {"free": 100_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="100 MB are free and its checkpoints need 200 MB"):
        run_dir.check_space(tmp_path, 200_000_000, "its checkpoints")


def test_clear_deletes_what_a_run_writes_and_nothing_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "epoch_0001.npz").write_text("on a larger disk")
    (tmp_path / run_dir.CHECKPOINTS).symlink_to(tmp_path / "elsewhere")
    run_dir.write_json(tmp_path / run_dir.CONFIG, {})
    run_dir.write_text(tmp_path / run_dir.CURVES_FIGURE, "")
    run_dir.clear(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["elsewhere", "notes.txt"]
    assert (tmp_path / "elsewhere" / "epoch_0001.npz").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    run_dir.check_usable(tmp_path / "new")
    run_dir.check_usable(tmp_path)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        run_dir.check_usable(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        run_dir.check_usable(tmp_path / "thesis.tex")
    # Many tools keep a config.json; only that of a run makes a run.
    run_dir.write_json(tmp_path / "config.json", {"model_type": "bert"})
    with pytest.raises(UserError, match=r"config\.json: not written by a training run"):
        run_dir.check_usable(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"epochs": null, "checkpoint": "last"}'])
def test_a_damaged_json_file_is_named(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match=r"metrics\.json: not .*; restore it or delete it"):
        run_dir.read_metrics(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: not .*; restore it or delete it"):
        run_dir.read_config(tmp_path)


def test_what_a_killed_process_left_half_written_is_cleared(tmp_path):
    half = tmp_path / run_dir.CHECKPOINTS / ".tmp-k2j3.npz"
    run_dir.write_text(half, "half")
    with run_dir.owned(tmp_path):
        assert not half.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "three"}, "its seed is 'three'"),
        ({"validation_fraction": [0.1]}, "its validation_fraction is"),
        ({"seed": -1}, "its seed is -1"),
        ({"validation_fraction": 7.5}, "its validation_fraction is 7.5"),
        ({"on_bad_image": 1}, "its on_bad_image is 1"),
        ({"cache": {}}, "its cache is"),
        ({"export_checkpoint": "newest"}, "its export_checkpoint is 'newest'"),
        ({"export_checkpoint": []}, "its export_checkpoint is"),
        ({"data": None}, "not written by a training run"),
    ],
)
def test_an_odd_configuration_is_one_line(tmp_path, change, words):
    config = {"data": "synthetic", "fingerprint": "f", "versions": {}}
    run_dir.write_json(tmp_path / run_dir.CONFIG, config)
    assert run_dir.read_config(tmp_path) == config
    run_dir.write_json(tmp_path / run_dir.CONFIG, config | change)
    with pytest.raises(UserError, match=rf"config\.json: {re.escape(words)}") as caught:
        run_dir.read_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_configuration_that_is_nested_too_deeply_is_one_line(tmp_path):
    (tmp_path / run_dir.CONFIG).write_text("[" * 200_000)
    with pytest.raises(UserError, match=r"config\.json: not readable"):
        run_dir.read_config(tmp_path)
