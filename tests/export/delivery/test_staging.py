import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from export.delivery import staging
from fer_pipeline import run_dir
from fer_pipeline.errors import UserError


def _write(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text(text)


def _read(run, name="export"):
    return (run / name / "file").read_text()


def _workshops(run):
    return [path.name for path in run.glob(".export-*")]


@pytest.fixture
def no_exchange(monkeypatch):
    """A system that cannot exchange two directories."""
    monkeypatch.setattr(staging, "exchange", lambda first, second: False)


@pytest.mark.parametrize("exchange", [True, False])
def test_publishes_in_the_place_of_the_old_export(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(staging, "exchange", lambda first, second: False)
    _write(tmp_path / "export", "old")
    (tmp_path / "export" / "only in the old one").touch()
    _write(tmp_path / "export.failed", "failed")
    with staging.staged(tmp_path) as workshop:
        _write(workshop.next, "new")
        assert _read(tmp_path) == "old"
        staging.publish(workshop)
        assert _read(tmp_path) == "new"
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["file"]
    assert not (tmp_path / "export.failed").exists()
    assert _workshops(tmp_path) == []


def test_a_failed_one_replaces_the_failed_one_alone(tmp_path):
    _write(tmp_path / "export", "old")
    _write(tmp_path / "export.failed", "failed before")
    with staging.staged(tmp_path) as workshop:
        _write(workshop.failed, "failed now")
        assert staging.keep_failed(workshop) == tmp_path / "export.failed"
    assert _read(tmp_path) == "old"
    assert _read(tmp_path, "export.failed") == "failed now"
    assert _workshops(tmp_path) == []


def test_an_exception_leaves_the_old_export_and_nothing_else(tmp_path):
    _write(tmp_path / "export", "old")

    def fail():
        with staging.staged(tmp_path) as workshop:
            _write(workshop.next, "half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert _read(tmp_path) == "old"
    assert _workshops(tmp_path) == []


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_stopped_between_the_renames_the_old_export_comes_back(
    tmp_path, monkeypatch, no_exchange, error
):
    rename = Path.rename

    def stopped(self, target):
        if self.name == "next":
            raise error
        return rename(self, target)

    def publish():
        with staging.staged(tmp_path) as workshop:
            _write(workshop.next, "new")
            monkeypatch.setattr(Path, "rename", stopped)
            staging.publish(workshop)

    _write(tmp_path / "export", "old")
    with pytest.raises(error):
        publish()
    assert _read(tmp_path) == "old"
    assert _workshops(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from export.delivery import staging
run = Path(sys.argv[1])
staging.exchange = lambda first, second: False
rename = Path.rename
def killed(self, target):
    if self.name == "next":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = killed
with staging.staged(run) as workshop:
    (workshop.next / "file").write_text("new")
    staging.publish(workshop)
"""


@pytest.fixture
def killed(tmp_path):
    """A run whose export was killed between the two renames."""
    _write(tmp_path / "export", "old")
    result = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert result.returncode == -9
    assert not (tmp_path / "export").exists()
    return tmp_path


def test_killed_between_the_renames_the_old_export_comes_back(killed):
    with staging.staged(killed):
        assert _read(killed) == "old"
    assert _read(killed) == "old"
    assert _workshops(killed) == []


@pytest.mark.parametrize(
    "named", [".", "export", "export/model_int8.tflite", "export/saved_model/1"]
)
def test_whoever_reads_next_finds_it(killed, named):
    run_dir.recover_export(killed / named)
    assert _read(killed) == "old"
    assert _workshops(killed) == []


def test_a_run_below_a_folder_named_export_is_found(killed):
    moved = killed.rename(killed.with_name("moved"))
    run = killed / "export/runs/fer"
    run.parent.mkdir(parents=True)
    moved.rename(run)
    run_dir.recover_export(run)
    assert _read(run) == "old"


def test_a_file_with_the_name_of_a_workshop_is_left_alone(killed):
    (killed / ".export-note").write_text("mine")
    (killed / "kept").mkdir()
    (killed / ".export-link").symlink_to(killed / "kept")
    run_dir.recover_export(killed)
    assert _read(killed) == "old"
    with staging.staged(killed):
        pass
    assert (killed / ".export-note").read_text() == "mine"
    assert (killed / ".export-link").is_symlink()


def test_every_command_looks_for_it(killed):
    # Each gets no further than to see that a text is no export.
    for module, arguments in (
        ("export", [f"--run_dir={killed}", "--verify_only"]),
        ("export", [f"--run_dir={killed / 'export'}", "--verify_only"]),
    ):
        with run_dir.locked(killed, run_dir.EXPORT_LOCK, busy="never"):
            workshop = killed / ".export-1"
            workshop.mkdir()
            for path in killed.glob("export"):
                path.rename(workshop / "previous")
            for path in killed.glob(".export-*/previous"):
                path.rename(workshop / "previous")
        command = [sys.executable, "-m", module, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "manifest.json: is missing" in result.stderr
        assert _read(killed) == "old"


def test_a_reader_leaves_a_running_export_alone(tmp_path):
    _write(tmp_path / "export", "old")
    with staging.staged(tmp_path) as workshop:
        run_dir.recover_export(tmp_path)
        assert workshop.next.is_dir()
    assert _read(tmp_path) == "old"


def test_killed_right_after_an_exchange_the_new_one_is_there(tmp_path):
    _write(tmp_path / "first", "old")
    _write(tmp_path / "second", "new")
    # As man 2 renameat2 says: one step, so there is no moment in between.
    assert staging.exchange(tmp_path / "first", tmp_path / "second")
    assert (_read(tmp_path, "first"), _read(tmp_path, "second")) == ("new", "old")
    with pytest.raises(FileNotFoundError):
        staging.exchange(tmp_path / "first", tmp_path / "third")


def test_two_exports_of_one_run_do_not_meet(tmp_path):
    with (
        staging.staged(tmp_path),
        pytest.raises(UserError, match="another process is exporting"),
        staging.staged(tmp_path),
    ):
        pass
    with staging.staged(tmp_path) as workshop:
        assert [list(path.iterdir()) for path in workshop[1:]] == [[], [], []]


def test_who_is_told_to_waits_for_the_other(tmp_path):
    code = (
        "import sys; from pathlib import Path; from export.delivery import staging\n"
        "with staging.staged(Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    waited = []

    def wait():
        waited.append(_workshops(tmp_path))
        other.stdin.close()

    with staging.staged(tmp_path, wait=wait) as workshop:
        # The other's is gone, and was there before.
        assert _workshops(tmp_path) == [workshop.next.parent.name]
    assert other.wait() == 0
    assert len(waited) == 1
    assert waited[0] != [workshop.next.parent.name]


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


def test_no_room_for_the_first_folder_is_one_line_too(tmp_path, monkeypatch):
    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(staging.tempfile, "mkdtemp", full)
    with (
        pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"),
        staging.staged(tmp_path),
    ):
        pass


def test_a_defect_stays_one(tmp_path):
    with pytest.raises(RuntimeError, match="a defect"), staging.no_room_explained(tmp_path):
        raise RuntimeError("a defect")


def test_a_link_that_leads_nowhere_is_replaced(tmp_path):
    (tmp_path / "export").symlink_to(tmp_path / "nowhere")
    with staging.staged(tmp_path) as workshop:
        _write(workshop.next, "new")
        staging.publish(workshop)
    assert _read(tmp_path) == "new"


@pytest.mark.parametrize("exchange", [True, False])
def test_a_new_folder_takes_the_place_of_the_old_one(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(staging, "exchange", lambda first, second: False)
    new, target = tmp_path / "work/next", tmp_path / "page"
    for folder, text in ((new, "new"), (target, "old")):
        folder.mkdir(parents=True)
        (folder / "file").write_text(text)
    staging.replace(new, target)
    assert (target / "file").read_text() == "new"
