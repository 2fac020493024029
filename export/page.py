"""A run's web page, and the export that it is of where that is to be made first."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from export.delivery import web as delivery
from export.formats import litertjs, web
from export.spec import artifacts
from fer_pipeline import run_dir
from fer_pipeline.errors import UserError
from fer_pipeline.inference import export_files


def make(
    run: Path,
    formats: Sequence[str],
    *,
    export: Callable[[list[str]], object],
    litert: str | os.PathLike[str] | None = None,
    output_dir: str | os.PathLike[str] | None = None,
    tflite_batch: int = 1,
) -> None:
    """Exports a run if that is wanted or needed, and makes the page.

    Args:
      run: the run, or the folder of an export.
      formats: to export first; none takes the export that is there. Where there is none, the format
        that a page prefers is exported.
      export: exports the run in the formats that it is given.
      litert: as for ``litertjs.read``.
      output_dir: where the page goes; by default into the run's export, and into ``web`` of the
        working directory for an export without a run.
      tflite_batch: images of a call of the files that are exported.

    Raises:
      UserError: LiteRT.js is missing, or a browser can run none of ``formats``, which is said
        before anything is exported; ``run`` is an export and ``formats`` are wanted of it; or as
        ``export``, ``write_folder`` and ``add_to_export`` do.
    """
    litertjs.read(litert)
    is_export = (run / export_files.MANIFEST).is_file()
    if is_export and formats:
        raise UserError(f"--run_dir={run}: is an export and no run; a page alone can be made of it")
    if formats:
        where = f"--formats={','.join([*formats, web.NAME])}"
        web.choose(where, artifacts.choose(formats), tflite_batch)
    if formats or not (is_export or (run / run_dir.EXPORT).is_dir()):
        export(list(formats) or [web.FORMATS[0]])
    if is_export or output_dir:
        source = run if is_export else run / run_dir.EXPORT
        delivery.write_folder(source, Path(output_dir or web.NAME), litert=litert)
    else:
        delivery.add_to_export(run, litert=litert)
