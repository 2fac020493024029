"""python -m fer_pipeline, and a user's own files of the same name."""

import configparser
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fer_pipeline import __main__

COMMANDS = ("describe", "train", "evaluate", "report", "predict", "export", "serve", "benchmark")


def run(*arguments, cwd):
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_without_a_command_they_are_listed(tmp_path, arguments):
    result = run("-m", "fer_pipeline", *arguments, cwd=tmp_path)
    assert result.returncode == 0
    listed = [line.split()[3] for line in result.stdout.splitlines() if "python -m" in line]
    assert listed == list(COMMANDS)


@pytest.mark.parametrize(
    ("name", "said"),
    [("trian", "did you mean train?"), ("xyz", f"{', '.join(COMMANDS)} are")],
)
def test_what_is_no_command_is_one_line(capsys, name, said):
    assert __main__.main([name, "--epochs=1"]) == 1
    assert tuple(capsys.readouterr()) == ("", f"error: {name}: no such command; {said}\n")


def test_the_console_script_takes_commands_and_flags_alone_train(monkeypatch):
    started = []
    monkeypatch.setattr(
        "runpy.run_module", lambda module, **_: started.append((module, sys.argv[1:]))
    )
    console = configparser.ConfigParser()
    console.read(Path(__file__).parents[2] / "setup.cfg")
    script, target = console["options.entry_points"]["console_scripts"].strip().split(" = ")
    module, function = target.split(":")
    assert script == "fer-pipeline"
    entry = getattr(importlib.import_module(module), function)
    for arguments in (["--epochs=15"], ["predict", "face.jpg"], ["export", "--run_dir=x"]):
        monkeypatch.setattr(sys, "argv", ["/usr/bin/fer-pipeline", *arguments])
        with pytest.raises(SystemExit) as ended:
            entry()
        assert ended.value.code == 0
    assert started == [
        ("fer_pipeline.train", ["--epochs=15"]),
        ("fer_pipeline.predict", ["face.jpg"]),
        ("export", ["--run_dir=x"]),
    ]


def test_a_list_that_nobody_reads_ends_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-u", "-m", "fer_pipeline"]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, "")


def test_a_users_program_that_imports_the_package_hears_ctrl_c(tmp_path):
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("import fer_pipeline\n")
    (package / "tool.py").write_text(
        "import os, signal\n"
        "try: os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt: print('cleaned up')\n"
    )
    result = run("-m", "mine.tool", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "cleaned up\n")


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
        "from fer_pipeline import export_package; print(export_package.load())\n"
        "from export.spec import artifacts; print(artifacts.__name__, export_package.load())"
    )
    result = run("-c", script, cwd=with_own_export)
    assert result.returncode == 0, result.stderr
    shadow, rest = result.stdout.splitlines()
    assert shadow.startswith(str(with_own_export))
    assert rest == "export.spec.artifacts None"


@pytest.mark.parametrize("call", ["train(epochs=0)", "export_model('gone')"])
def test_the_library_beside_a_users_own_export_uses_ours(with_own_export, call):
    script = f"""
import fer_pipeline
from fer_pipeline.errors import UserError
try: fer_pipeline.{call}
except UserError as error: print(error)
"""
    result = run("-c", script, cwd=with_own_export)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(("--epochs=0: must be", "gone"))


def test_a_training_beside_a_users_own_export_says_so_and_uses_ours(with_own_export):
    result = run("-m", "fer_pipeline.train", "--data=missing", cwd=with_own_export)
    assert result.returncode == 1
    assert f"{with_own_export}/export" in result.stdout
    assert "is not this software's package export, which is used instead" in result.stdout
    assert result.stderr.startswith("error: missing: no such file")
