"""How entry points end, each in a process of its own: absl's flags are global."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from absl import flags
from fer_pipeline import cli, errors
COUNT = flags.DEFINE_integer("count", 3, "How many.")

def main(argv):
    with cli.narration():
        print("working")
    if COUNT.value == 0:
        raise errors.UserError("--count=0: nothing to count; pass 1 or more")
    if COUNT.value == 1:
        raise KeyboardInterrupt
    if COUNT.value == 2:
        raise RuntimeError("a defect")
    print(COUNT.value, *argv[1:])

cli.run_app(main, "Counts.")
"""


def run(*arguments):
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_success():
    result = run("--count=5", "more")
    assert (result.returncode, result.stdout, result.stderr) == (0, "working\n5 more\n", "")


@pytest.mark.parametrize("flag", ["--help", "-h", "--helpfull"])
def test_help_is_a_success_and_shows_our_flags_alone(flag):
    result = run(flag)
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.splitlines()[:4] == ["Counts.", "", "Flags:", "  --count"]
    assert "How many. (default: '3')" in result.stdout
    assert "pdb" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["--count=0"], 1, "error: --count=0: nothing to count; pass 1 or more"),
        (["--count=many"], 1, "error: flag --count=many: invalid literal"),
        (["--coumt=4"], 1, "error: Unknown command line flag 'coumt'"),
        (["--count=1"], 130, "interrupted"),
    ],
)
def test_a_failure_is_one_line(arguments, status, line):
    result = run(*arguments)
    assert result.returncode == status
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(line)


def test_a_defect_keeps_its_traceback():
    result = run("--count=2")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "RuntimeError: a defect" in result.stderr


def test_verbosity_of_errors_drops_the_narration_and_not_the_result():
    assert run("--verbosity=-2").stdout == "3\n"
    assert run("--verbosity=-1").stdout == "working\n3\n"
