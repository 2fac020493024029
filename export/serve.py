"""Serves a web page of --formats=web to this computer: python -m export.serve web"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from fer_pipeline.errors import UserError
from fer_pipeline.terminal import cli

_DESCRIPTION = """
Serves the folder of a web page to browsers on this computer, until Ctrl-C.

  python -m export.serve runs/NAME          the page of a run: runs/NAME/export/web/
  python -m export.serve                    the folder web/

python -m fer_pipeline serve does the same. Any other web server does as well: the folder is static.
"""

_PORT = flags.DEFINE_integer(
    "port", 8000, "The port, or 0 for any that is free.", lower_bound=0, upper_bound=65535
)

#: What ``--formats=web`` writes for the pretrained model.
_FOLDER = "web"


def main(argv: list[str]) -> None:
    """Reads the flags and runs the stage."""
    if len(argv) > 2:
        raise UserError(f"unexpected argument {argv[2]!r}; name one folder")
    from export.delivery import server

    folder = server.find_page(Path(argv[1] if len(argv) > 1 else _FOLDER))
    with server.open_server(folder, _PORT.value) as opened:
        host, port = opened.server_address[:2]
        print(f"{folder} is at http://{host}:{port}/ until Ctrl-C", flush=True)
        opened.serve_forever()


def run() -> None:
    """The module's entry."""
    cli.run_app(main, _DESCRIPTION)


if __name__ == "__main__":
    run()
