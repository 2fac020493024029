"""A web page that answers in the visitor's browser: a folder for any web server.

The page itself lies in ``export/web``. Its model is a TFLite file of the export as it is, which
LiteRT.js runs, and so is the network that finds faces.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from export.formats import litertjs
from export.spec.artifacts import ARTIFACTS
from fer_pipeline import atomic_files
from fer_pipeline.errors import UserError
from fer_pipeline.inference import export_files
from fer_pipeline.inference.faces import blazeface, crops, detector

#: The name that ``--formats`` takes, and that of the folder in an export.
NAME = "web"

#: What a page asks first: the model, and what it needs to know to ask it.
ABOUT = "page.json"

_PAGE = Path(__file__).parents[1] / "web"
_HTML = "index.html"
_STATIC = ("page.css", "page.js", "faces.js", "pixels.js", "tracks.js")

#: The folder of LiteRT.js, and its licence, which its packages lack.
_LITERT, _LICENSE = "litert", "LICENSE"

#: Formats that can answer, the one that is taken first: small and quick, then exact.
FORMATS = ("int8", "float32", "float16", "dynamic_range")

#: LiteRT.js names a package by another; a page without a bundler needs this to find it.
_IMPORTS = '{"imports": {"@litertjs/wasm-utils": "./litert/wasm-utils.js"}}'

#: The row of a class: its name in whichever direction it is written, its bar and its probability.
_ROW = '<li><span dir="auto">{}</span><span class="track"></span><span></span></li>'

#: What the browser lets the page do (https://www.w3.org/TR/CSP3/). It may ask its own server for
#: files and no other for anything. The import map is the one script that is written in the page.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval' "
        f"'sha256-{base64.b64encode(hashlib.sha256(_IMPORTS.encode()).digest()).decode()}'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "media-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
    )
)

#: Every file that a page may have.
NAMES = frozenset(
    {
        _HTML,
        ABOUT,
        *_STATIC,
        export_files.MODEL_CARD,
        detector.NETWORK.file,
        *(ARTIFACTS[name].path for name in FORMATS),
        *(f"{_LITERT}/{name}" for name in (*litertjs.NAMES, _LICENSE)),
    }
)


def write(
    folder: Path,
    source: Path,
    manifest: dict[str, Any],
    runtime: Mapping[str, bytes],
    *,
    formats: Sequence[str] = FORMATS,
) -> bool:
    """Writes a page.

    Args:
      folder: to write into; made if it is not there.
      source: the export whose model it shows.
      manifest: of that export, checked.
      runtime: from ``litertjs.read``.
      formats: which file to take, the first that is there.

    Returns:
      Whether it finds faces: the network for that comes with the extra ``web``.

    Raises:
      UserError: the export has no file that a browser can run.
    """
    name = choose(str(source), manifest["artifacts"], manifest.get("tflite_batch", 1), formats)
    entry = manifest["artifacts"][name]
    network = blazeface.find_file(detector.NETWORK)
    (folder / _LITERT).mkdir(parents=True)
    contents = {f"{_LITERT}/{file}": content for file, content in runtime.items()}
    contents[f"{_LITERT}/{_LICENSE}"] = (_PAGE / "LICENSE.litert").read_bytes()
    for path in (source / entry["path"], source / export_files.MODEL_CARD, network):
        if path:
            contents[path.name] = path.read_bytes()
    for file in _STATIC:
        contents[file] = (_PAGE / file).read_bytes()
    card = (source / export_files.MODEL_CARD).read_text("utf-8", errors="replace")
    contents[_HTML] = _html(manifest, name, card).encode()
    about = _about(manifest, name, network and network.name)
    contents[ABOUT] = f"{json.dumps(about, indent=2, allow_nan=False)}\n".encode()
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    return network is not None


def choose(
    where: str, artifacts: Collection[str], tflite_batch: int, formats: Sequence[str] = FORMATS
) -> str:
    """The artifact that a page takes.

    Args:
      where: begins the message of an error: the export, or the flag that names the artifacts.
      artifacts: the names of those that there are or will be.
      tflite_batch: images that a call of their TFLite files takes.
      formats: as for ``write``.

    Raises:
      UserError: none is one that a browser can run.
    """
    name = next((name for name in formats if name in artifacts), None)
    if name is None:
        raise UserError(
            f"{where}: has no file that a browser can run; export with --formats={FORMATS[0]},web"
        )
    if tflite_batch != 1:
        raise UserError(
            f"{where}: the TFLite files take {tflite_batch} images a call, and a page wants 1; "
            "export with --tflite_batch=1"
        )
    return name


def _html(manifest: dict[str, Any], name: str, card: str) -> str:
    """The page with all that is said of its model, which escapes whatever stands in a manifest."""
    entry, evaluation = manifest["artifacts"][name], manifest["evaluation"]
    model = f"{manifest['run'].get('model', 'notebook')}, {name}"
    data, images = evaluation.get("source") or "its own data", evaluation.get("images") or 0
    parts = {
        "POLICY": POLICY,
        "IMPORTS": _IMPORTS,
        "ROWS": "".join(_ROW.format(html.escape(label)) for label in manifest["labels"]),
        "FACTS": f"Model: <strong>{html.escape(model)}</strong> ({entry['size'] / 1000:,.0f} kB), "
        f"right on <strong>{entry['accuracy']:.1%}</strong> of {images:,} faces "
        f"({html.escape(data)}).",
        "CARD": html.escape(card),
    }
    page = (_PAGE / _HTML).read_text("utf-8")
    # The data may have any name.
    return atomic_files.to_utf8(re.sub(r"@([A-Z]+)@", lambda found: parts[found[1]], page))


def _about(manifest: dict[str, Any], name: str, network: str | None) -> dict[str, Any]:
    """What the page needs to know to ask its model, and the network that finds faces."""
    entry = manifest["artifacts"][name]
    [end], [start] = entry["outputs"], entry["inputs"]
    return {
        "model": entry["path"],
        "labels": manifest["labels"],
        "input": start["shape"][1],
        "scale": end["quantization"]["scale"] if end["quantization"] else 1.0,
        "detector": network,
        "side": crops.SIDE,
        "up": crops.UP,
    }
