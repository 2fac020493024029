import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from export import staging
from fer_pipeline.errors import UserError


def _write(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text(text)


def _read(run, name="export"):
    return (run / name / "file").read_text()


def _workshops(run):
    return [path.name for path in run.glob(".export-*")]


def test_publishes_in_the_place_of_the_old_export(tmp_path):
    _write(tmp_path / "export", "old")
    (tmp_path / "export" / "only in the old one").touch()
    _write(tmp_path / "export.failed", "failed")
    with staging.staged(tmp_path) as (folder, _):
        _write(folder, "new")
        assert _read(tmp_path) == "old"
        staging.publish(tmp_path, folder)
        assert _read(tmp_path) == "new"
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["file"]
    assert not (tmp_path / "export.failed").exists()
    assert _workshops(tmp_path) == []


def test_a_failed_one_replaces_the_failed_one_alone(tmp_path):
    _write(tmp_path / "export", "old")
    _write(tmp_path / "export.failed", "failed before")
    with staging.staged(tmp_path) as (folder, _):
        _write(folder, "failed now")
        assert staging.keep_failed(tmp_path, folder) == tmp_path / "export.failed"
    assert _read(tmp_path) == "old"
    assert _read(tmp_path, "export.failed") == "failed now"
    assert _workshops(tmp_path) == []


def test_an_exception_leaves_the_old_export_and_nothing_else(tmp_path):
    _write(tmp_path / "export", "old")

    def fail():
        with staging.staged(tmp_path) as (folder, _):
            _write(folder, "half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert _read(tmp_path) == "old"
    assert _workshops(tmp_path) == []


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_stopped_between_the_renames_the_old_export_comes_back(tmp_path, monkeypatch, error):
    rename = Path.rename

    def stopped(self, target):
        if self.name == "next":
            raise error
        return rename(self, target)

    def publish():
        with staging.staged(tmp_path) as (folder, _):
            _write(folder, "new")
            monkeypatch.setattr(Path, "rename", stopped)
            staging.publish(tmp_path, folder)

    _write(tmp_path / "export", "old")
    with pytest.raises(error):
        publish()
    assert _read(tmp_path) == "old"
    assert _workshops(tmp_path) == []


def test_killed_between_the_renames_the_old_export_comes_back(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from export import staging\n"
        "run = Path(sys.argv[1])\n"
        "rename = Path.rename\n"
        "def killed(self, target):\n"
        "    if self.name == 'next':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return rename(self, target)\n"
        "Path.rename = killed\n"
        "with staging.staged(run) as (folder, _):\n"
        "    (folder / 'file').write_text('new')\n"
        "    staging.publish(run, folder)\n"
    )
    _write(tmp_path / "export", "old")
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert result.returncode == -9
    assert not (tmp_path / "export").exists()
    with staging.staged(tmp_path):
        assert _read(tmp_path) == "old"
    assert _read(tmp_path) == "old"
    assert _workshops(tmp_path) == []


def test_two_exports_of_one_run_do_not_meet(tmp_path):
    with (
        staging.staged(tmp_path),
        pytest.raises(UserError, match="another process is exporting"),
        staging.staged(tmp_path),
    ):
        pass
    with staging.staged(tmp_path) as (folder, scratch):
        assert list(folder.iterdir()) == list(scratch.iterdir()) == []


def test_a_run_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(UserError, match="missing: cannot be written"),
        staging.staged(tmp_path / "missing"),
    ):
        pass


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        # As h5py, TensorFlow and a child process put it.
        OSError("Can't write data (file write failed: errno = 28, 'No space left on device')"),
        RuntimeError("the SavedModel could not be written: ... No space left on device [Op:Save]"),
        PermissionError(errno.EACCES, os.strerror(errno.EACCES), "tf.log"),
    ],
)
def test_a_full_or_closed_disk_is_told_in_one_line(tmp_path, error):
    with (
        pytest.raises(UserError, match=r"cannot be written .*; the export was not replaced"),
        staging.no_room_explained(tmp_path),
    ):
        raise error


def test_a_defect_stays_one(tmp_path):
    with pytest.raises(RuntimeError, match="a defect"), staging.no_room_explained(tmp_path):
        raise RuntimeError("a defect")


def test_a_link_that_leads_nowhere_is_replaced(tmp_path):
    (tmp_path / "export").symlink_to(tmp_path / "nowhere")
    with staging.staged(tmp_path) as (folder, _):
        _write(folder, "new")
        staging.publish(tmp_path, folder)
    assert _read(tmp_path) == "new"
