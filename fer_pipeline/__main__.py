"""Lists the commands, and runs one of them: python -m fer_pipeline train --epochs=15"""

from __future__ import annotations

import difflib
import runpy
import sys

from fer_pipeline import export_package
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import cli

_HELP = ("--help", "-help", "-h")

#: The module of each command, and what it does.
_COMMANDS = {
    "describe": ("fer_pipeline.describe", "shows what a data set holds, and which labels to doubt"),
    "train": ("fer_pipeline.train", "trains the network and exports it"),
    "evaluate": ("fer_pipeline.evaluate", "measures a run again, on other faces if asked"),
    "report": ("fer_pipeline.report", "shows a run, or several side by side, as a web page"),
    "predict": ("fer_pipeline.predict", "names the expression on pictures of faces"),
    "export": ("export", "exports a run again, or audits an export"),
    "serve": ("export.serve", "shows the web page of an export in a browser"),
    "benchmark": ("fer_pipeline.benchmark", "measures the throughput beside its rivals"),
}


def main(arguments: list[str]) -> int:
    """Runs the command that ``arguments`` begin with; lists them where there are none.

    Flags without a command are those of ``train``.
    """
    if not arguments or arguments[0] in _HELP:
        with cli.exit_on_broken_pipe():
            print(_listing())
        return 0
    name, *rest = ["train", *arguments] if arguments[0].startswith("-") else arguments
    if name not in _COMMANDS:
        print(f"error: {name}: no such command; {_suggestion(name)}", file=sys.stderr)
        return 1
    try:
        # Whatever the working folder holds under that name.
        export_package.load()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    module, _ = _COMMANDS[name]
    sys.argv[1:] = rest
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


def _suggestion(name: str) -> str:
    near = difflib.get_close_matches(name, _COMMANDS, n=1)
    return f"did you mean {near[0]}?" if near else f"{', '.join(_COMMANDS)} are"


def _listing() -> str:
    lines = [f"  python -m fer_pipeline {name:10} {does}" for name, (_, does) in _COMMANDS.items()]
    return "\n".join(
        [
            "Commands, also of the program fer-pipeline:",
            *lines,
            "",
            "Each lists its flags with --help. Flags without a command are those of train.",
        ]
    )


def run() -> None:
    """The console script ``fer-pipeline``."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
