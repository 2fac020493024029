"""The commands after a training, as a shell reads them."""

import shlex
from pathlib import Path

import pytest

from fer_pipeline.terminal.next_steps import next_steps


@pytest.mark.parametrize(
    ("exported", "commands"),
    [
        (
            True,
            {
                "see the report": "xdg-open {run}/report.html",
                "name a face": "python -m fer_pipeline.predict --model={run}/export face.jpg",
                "measure the speed": "python -m fer_pipeline.benchmark --quick",
            },
        ),
        (
            False,
            {
                "see the report": "xdg-open {run}/report.html",
                "name a face": "python -m fer_pipeline.predict --model={run} face.jpg",
                "export it": "python -m fer_pipeline export --run_dir={run}",
            },
        ),
    ],
)
def test_every_command_can_be_copied(exported, commands):
    first, *lines = next_steps(Path("runs/it's <mine>"), exported=exported).splitlines()
    assert first == "next:"
    for line, (what, command) in zip(lines, commands.items(), strict=True):
        assert line.startswith(f"  {what}  ")
        words = [word.format(run="runs/it's <mine>") for word in command.split()]
        assert shlex.split(line.removeprefix(f"  {what}")) == words
