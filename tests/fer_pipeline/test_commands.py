"""python -m fer_pipeline, and a user's own files of the same name."""

import subprocess
import sys

import pytest

COMMANDS = ("train", "evaluate", "predict", "export", "benchmark")


def run(*arguments, cwd):
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_command_they_are_listed(tmp_path, arguments):
    result = run("-m", "fer_pipeline", *arguments, cwd=tmp_path)
    assert result.returncode == 0
    listed = [line.split()[3] for line in result.stdout.splitlines() if "python -m" in line]
    assert listed == list(COMMANDS)


def test_an_unknown_command_is_one_line(tmp_path):
    result = run("-m", "fer_pipeline", "trian", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (
        "error: trian: no such command; train, evaluate, predict, export, benchmark are\n"
    )


@pytest.fixture(params=["module", "package"])
def with_own_export(tmp_path, request):
    """A working folder with a user's own export, which has no part in this."""
    path = tmp_path / ("export.py" if request.param == "module" else "export/__init__.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise SystemExit('the user's own')\n")
    return tmp_path


def test_a_users_own_export_is_not_taken_for_ours(with_own_export):
    result = run("-m", "fer_pipeline", "export", "--help", cwd=with_own_export)
    assert result.returncode == 0, result.stderr
    assert "--verify_only" in result.stdout
    script = (
        "from fer_pipeline import export_package; print(export_package.shadowed_by())\n"
        "export_package.load(); from export import artifacts; print(artifacts.__name__)\n"
        "print(export_package.shadowed_by())"
    )
    result = run("-c", script, cwd=with_own_export)
    assert result.returncode == 0, result.stderr
    shadow, name, after = result.stdout.splitlines()
    assert shadow.startswith(str(with_own_export))
    assert (name, after) == ("export.artifacts", "None")
