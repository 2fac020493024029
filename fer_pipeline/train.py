"""Trains the CNN and exports it: python -m fer_pipeline.train --epochs=15 [--data=fer2013.zip]"""

from __future__ import annotations

from absl import flags

from fer_pipeline import export_package
from fer_pipeline.errors import UserError
from fer_pipeline.terminal import cli, setting_flags

#: A user's own file or folder of that name, in the place of which ours is used.
_OTHER_EXPORT = export_package.load()

from export.spec import artifacts  # noqa: E402 - only now is it certain to be ours

_DESCRIPTION = """
Trains the facial-expression CNN and exports it for phones and servers.

  python -m fer_pipeline.train --epochs=15                    the embedded synthetic faces
  python -m fer_pipeline.train --epochs=15 --data=fer2013.zip a folder, a .zip or a .csv

The same command continues a run that was interrupted.
"""

_settings = setting_flags.define_flags()
_EXPORT = flags.DEFINE_bool("export", True, "Export the trained network to <run_dir>/export.")
_FORMATS = flags.DEFINE_list(
    "formats",
    None,
    f"Comma-separated formats to export, by default all: {', '.join(artifacts.ARTIFACTS)}.",
)


def main(argv: list[str]) -> None:
    """Reads the flags and runs the stages."""
    cli.refuse_arguments(argv)
    artifacts.choose(_FORMATS.value)
    if _FORMATS.value and not _EXPORT.value:
        raise UserError("--formats: has no effect with --noexport; leave one of them out")
    settings = _settings()
    from fer_pipeline import stages

    with cli.narration():
        if _OTHER_EXPORT:
            print(f"{_OTHER_EXPORT}: is not this software's package export, which is used instead")
        stages.run_training(settings, export_stage=_export if _EXPORT.value else None)


def _export(**arguments) -> None:
    """Hands the trained weights to the export package, imported only now."""
    from export import pipeline

    pipeline.export_run(formats=_FORMATS.value, **arguments)


def run() -> None:
    """The module's entry."""
    cli.run_app(main, _DESCRIPTION, narrates=True)


if __name__ == "__main__":
    run()
