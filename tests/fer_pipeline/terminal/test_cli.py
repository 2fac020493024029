"""How entry points end, each in a process of its own: absl's flags are global."""

import os
import subprocess
import sys

import pytest
from absl import flags

from fer_pipeline.terminal import cli

SCRIPT = """
import sys
from absl import flags
from fer_pipeline.terminal import cli
from fer_pipeline import errors
COUNT = flags.DEFINE_integer("count", 3, "How many.")
flags.DEFINE_float("share", 0.5, "How much of it.")
FROM = flags.DEFINE_string("from", None, "Where they are.")

def main(argv):
    with cli.narration():
        print("working")
    if COUNT.value == 0:
        raise errors.UserError("--count=0: nothing to count; pass 1 or more")
    if COUNT.value == 1:
        raise KeyboardInterrupt
    if COUNT.value == 2:
        raise RuntimeError("a defect")
    print(COUNT.value, *argv[1:], *filter(None, [FROM.value]))

cli.run_app(main, "Counts.", narrates=True)
"""


def run(*arguments):
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_success():
    result = run("--count=5", "more")
    assert (result.returncode, result.stdout, result.stderr) == (0, "working\n5 more\n", "")


def test_a_name_that_is_not_utf_8_is_printed_byte_by_byte():
    result = run(b"a\xffb")
    assert (result.returncode, result.stdout, result.stderr) == (0, "working\n3 a\\udcffb\n", "")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("--from=~/a", "/home/one/a"),
        ("--from=~", "/home/one"),
        ("--from=a,~/b", "a,~/b"),
        ("--from=/lr=~/b", "/lr=~/b"),
        ("--from=a~/b", "a~/b"),
        ("--from=~two/a", "~two/a"),
        ("~/a", "~/a"),
    ],
)
def test_a_flag_that_begins_with_a_tilde_means_the_home_folder(monkeypatch, given, found):
    monkeypatch.setenv("HOME", "/home/one")
    assert run(given).stdout == f"working\n3 {found}\n"


def test_a_tilde_behind_two_dashes_stays(monkeypatch):
    monkeypatch.setenv("HOME", "/home/one")
    assert run("--", "--from=~/a").stdout == "working\n3 --from=~/a\n"


def test_a_home_that_is_the_root_adds_no_second_slash(monkeypatch):
    monkeypatch.setenv("HOME", "/")
    assert run("--from=~/a").stdout == "working\n3 /a\n"


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
        (["--count=many"], 1, "error: flag --count=many: not a whole number ("),
        (["--share=half"], 1, "error: flag --share=half: not a number ("),
        (["--share=nan"], 1, "error: flag --share=nan: not a number ("),
        (["--coumt=4"], 1, "error: Unknown command line flag 'coumt'. Did you mean --count? ("),
        (["--count=1"], 130, "interrupted"),
    ],
)
def test_a_failure_is_one_line(arguments, status, line):
    result = run(*arguments)
    assert result.returncode == status
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(line)


@pytest.mark.parametrize("argument", ["--count=5", "--help"])
def test_output_that_nobody_reads_ends_quietly(argument):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", SCRIPT, argument]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, "")


def test_all_flags_that_may_be_meant_are_named():
    defined = flags.FlagValues()
    for name in ("share", "shard"):
        flags.DEFINE_bool(name, False, "", flag_values=defined)
    with pytest.raises(flags.Error) as raised:
        defined(["", "--sharp"])
    said = cli._plain(str(raised.value))
    assert said.endswith(("Did you mean --share or --shard?", "Did you mean --shard or --share?"))


@pytest.mark.parametrize("argument", ["--count=5", "--help"])
def test_output_that_a_full_disk_does_not_take_is_one_line(argument):
    command = [sys.executable, "-c", SCRIPT, argument]
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("error: the output cannot be written (No space left on device)")


@pytest.mark.parametrize(
    ("closed", "seen"),
    [
        ("2>&-", "working\n5\n"),
        ("<&-", "working\n5\n"),
        (">&-", ""),
        ("<&- >&- 2>&-", ""),
    ],
)
def test_closed_streams_are_no_mistake(tmp_path, closed, seen):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = f'"$0" script.py --count=5 {closed}'
    result = subprocess.run(
        ["sh", "-c", command, sys.executable],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, seen, "")


def test_verbosity_is_promised_by_commands_that_narrate_alone():
    assert "--verbosity" in run("--help").stdout
    silent = SCRIPT.replace(", narrates=True", "")
    command = [sys.executable, "-c", silent, "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--verbosity" not in result.stdout


def test_gpu_memory_is_taken_as_needed_unless_the_user_chose():
    script = SCRIPT.replace("print(COUNT.value", "print(__import__('os').environ[NAME]").replace(
        "def main", "NAME = 'TF_FORCE_GPU_ALLOW_GROWTH'\ndef main"
    )
    for chosen, found in (({}, "true"), ({"TF_FORCE_GPU_ALLOW_GROWTH": "false"}, "false")):
        environ = {k: v for k, v in os.environ.items() if k != "TF_FORCE_GPU_ALLOW_GROWTH"}
        command = [sys.executable, "-c", script, "--verbosity=-2"]
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environ | chosen
        )
        assert result.stdout == f"{found}\n"


def test_a_defect_keeps_its_traceback():
    result = run("--count=2")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "RuntimeError: a defect" in result.stderr


def test_verbosity_of_errors_drops_the_narration_and_not_the_result():
    assert run("--verbosity=-2").stdout == "3\n"
    assert run("--verbosity=-1").stdout == "working\n3\n"
