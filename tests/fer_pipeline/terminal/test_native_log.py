"""Descriptor 2 goes to the file, Python's stderr to the terminal."""

import subprocess
import sys

SCRIPT = """
import os, sys
from fer_pipeline import errors
from fer_pipeline.terminal import native_log
raised = {"none": None, "defect": ValueError("defect"), "user": errors.UserError("user")}
try:
    with native_log.redirected(sys.argv[1]):
        os.write(2, b"from C++\\n")
        print("from Python", file=sys.stderr)
        if raised[sys.argv[2]]:
            raise raised[sys.argv[2]]
except (ValueError, errors.UserError):
    pass
os.write(2, b"afterwards\\n")
"""


def terminal(log, raised):
    command = [sys.executable, "-c", SCRIPT, str(log), raised]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return result.stderr.splitlines()


NESTED = """
import os, sys
from fer_pipeline.terminal import native_log
try:
    with native_log.redirected(sys.argv[1]):
        with native_log.redirected(sys.argv[1]):
            print("from Python", file=sys.stderr)
            os.write(2, b"from C++\\n")
        os.write(2, b"still redirected\\n")
        raise ValueError
except ValueError:
    pass
print("afterwards", file=sys.stderr)
"""


def test_nested_blocks_repeat_once_and_leave_python_on_the_terminal(tmp_path):
    log = tmp_path / "tf.log"
    command = [sys.executable, "-c", NESTED, str(log)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert log.read_text() == "from C++\nstill redirected\n"
    assert result.stderr == "from Python\nfrom C++\nstill redirected\nafterwards\n"


def test_native_lines_go_to_the_file(tmp_path):
    log = tmp_path / "logs" / "tf.log"
    assert terminal(log, "none") == ["from Python", "afterwards"]
    assert log.read_text() == "from C++\n"


def test_they_are_shown_when_the_stage_fails_by_a_defect(tmp_path):
    log = tmp_path / "tf.log"
    log.write_text("of an earlier stage\n")
    assert terminal(log, "defect") == ["from Python", "from C++", "afterwards"]


def test_a_users_mistake_shows_its_own_line_alone(tmp_path):
    assert terminal(tmp_path / "tf.log", "user") == ["from Python", "afterwards"]
