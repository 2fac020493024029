"""Whole files, one owner, and nothing deleted that is not the run's."""

import json
import subprocess
import sys

import pytest

from fer_pipeline import run_dir
from fer_pipeline.errors import UserError


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "metrics.json"
    run_dir.write_json(path, {"old": 1})

    def write_half():
        with run_dir.whole_file(path) as temporary:
            temporary.write_text("half")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write_half()
    assert json.loads(path.read_text()) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"]


def test_a_write_makes_folders_and_a_file_others_may_read(tmp_path):
    path = tmp_path / "a" / "b.txt"
    run_dir.write_text(path, "text")
    plain = tmp_path / "plain.txt"
    plain.write_text("text")
    assert path.read_text() == "text"
    assert path.stat().st_mode == plain.stat().st_mode


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


def test_clear_deletes_what_a_run_writes_and_nothing_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    run_dir.write_json(tmp_path / run_dir.CONFIG, {})
    run_dir.write_text(tmp_path / run_dir.CURVES_FIGURE, "")
    run_dir.clear(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    run_dir.check_usable(tmp_path / "new")
    run_dir.check_usable(tmp_path)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"thesis\.tex"):
        run_dir.check_usable(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        run_dir.check_usable(tmp_path / "thesis.tex")


def test_a_damaged_json_file_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json"):
        run_dir.read_json(tmp_path / "config.json")
