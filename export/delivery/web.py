"""Puts the web page of an export into that export, or into a folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from export.delivery import contents, manifest, staging
from export.formats import litertjs, web
from fer_pipeline import run_dir

#: How to look at a page.
_SERVE = "python -m fer_pipeline serve"


def add_to_export(
    run: Path,
    *,
    litert: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Adds the page to a run's export, or replaces the one that it has; all the rest stays.

    Args:
      run: the run directory; it is exported.
      litert: as for ``litertjs.read``.
      say: shows a line.

    Returns:
      The page's folder.

    Raises:
      UserError: LiteRT.js is missing, the export is damaged or has no file for a browser, or the
        run cannot be written. The export is as it was then.
    """
    runtime = litertjs.read(litert)
    with staging.staged(run) as workshop, staging.no_room_explained(run):
        source = run / run_dir.EXPORT
        given = contents.check_files(source)
        others = shutil.ignore_patterns(web.NAME)
        shutil.copytree(source, workshop.next, ignore=others, dirs_exist_ok=True)
        finds = web.write(workshop.next / web.NAME, source, given, runtime)
        manifest.write(workshop.next, given)
        staging.publish(workshop, drop_failed=False)
    _tell(source / web.NAME, finds, say)
    return source / web.NAME


def write_folder(
    source: Path,
    target: Path,
    *,
    litert: str | os.PathLike[str] | None = None,
    formats: Sequence[str] = web.FORMATS,
    say: Callable[[str], None] = print,
) -> None:
    """Writes the page of an export into a folder of its own; the export is only read.

    Args:
      source: the export, such as the pretrained model's folder.
      target: the folder to write; an older page is replaced, whole or not at all.
      litert: as for ``litertjs.read``.
      formats: as for ``web.write``.
      say: shows a line.

    Raises:
      UserError: as ``add_to_export``, or ``target`` holds something else.
    """
    staging.check_replaceable(target, "a page", lambda: (target / web.ABOUT).is_file())
    runtime = litertjs.read(litert)
    with contents.unreplaced(source), staging.beside(target) as folder:
        finds = web.write(folder, source, contents.check_files(source), runtime, formats=formats)
        staging.replace(folder, target)
    _tell(target, finds, say)


def _tell(folder: Path, finds: bool, say: Callable[[str], None]) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    say(f"{folder}: a page of {size / 1e6:.1f} MB for any web server; {_SERVE} {folder} shows it")
    if not finds:
        say(
            "warning: it finds no faces by itself, and the visitor marks them; for that, "
            "pip install 'fer_pipeline[web]' (from a checkout '.[web]') and start again"
        )
