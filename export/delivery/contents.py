"""Whether a folder holds an export: the files of its manifest, byte for byte, and no others."""

from __future__ import annotations

import contextlib
import stat
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from export.delivery.manifest import SCHEMA, format_hash_line, list_files
from export.formats import web
from export.spec import artifacts
from export.spec.artifacts import ARTIFACTS
from export.spec.gates import Gate
from export.spec.io_spec import (
    PREPROCESSING,
    format_labels,
    format_postprocessing,
    get_io_specs,
)
from fer_pipeline import classes as classes_lib
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.errors import UserError
from fer_pipeline.evaluation import temperature
from fer_pipeline.inference import export_files, integrity
from fer_pipeline.inference.export_files import MANIFEST, MANIFEST_HASH
from fer_pipeline.inference.integrity import MAX_MANIFEST, sha256

#: Files that operating systems leave in every folder that is opened, and their largest size.
_LEFT_BY_SYSTEMS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_MAX_LEFT = 2**16

#: What an export holds besides its artifacts.
_COMPANIONS = frozenset(
    {export_files.LABELS, export_files.GOLDEN, export_files.MODEL_CARD, export_files.REPORT}
)

#: The files that a page in it may have.
_PAGE = frozenset(f"{web.NAME}/{name}" for name in web.NAMES)

#: The largest number where there is no other limit.
_ENDLESS = sys.float_info.max

#: A copy of the labels inside an artifact.
_LABELS_ASSET = f"{export_files.SAVED_MODEL}/assets/{export_files.LABELS}"

#: What TensorFlow writes of an export's SavedModel: all variables go in one share.
_SAVED_MODEL_FILES = (
    f"{export_files.SAVED_MODEL}/{export_files.SAVED_MODEL_GRAPH}",
    f"{export_files.SAVED_MODEL}/fingerprint.pb",
    f"{export_files.SAVED_MODEL}/variables/variables.index",
    f"{export_files.SAVED_MODEL}/variables/variables.data-00000-of-00001",
    _LABELS_ASSET,
)


def check_files(folder: Path) -> dict[str, Any]:
    """Checks that a folder holds the files of its manifest, byte for byte, and no others.

    Returns:
      The manifest, whose parts have the types and ranges that an export's have.

    Raises:
      UserError: names the first file that is missing, extra, truncated or changed, or says what is
        wrong with the manifest or the labels.
    """
    try:
        manifest, listed = _read_manifest(folder)
        # Sorted: the first one is named.
        problems = sorted(_strangers(folder, set(listed))) + sorted(_damages(folder, listed))
        problems += sorted(_unaccounted(folder, manifest, set(listed)))
        problems += sorted(_wrong_sizes(folder, manifest, listed))
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise UserError(escape_unprintable(problems[0]) + more)
        for name in {export_files.LABELS, _LABELS_ASSET} & set(listed):
            if (folder / name).read_bytes() != format_labels(manifest["labels"]).encode():
                raise UserError(f"{folder / name}: holds other labels than the models answer with")
    except OSError as error:
        raise _unreadable(error, folder) from error
    return manifest


@contextlib.contextmanager
def unreplaced(folder: Path) -> Iterator[None]:
    """Says so where another export takes the place of a folder while the block reads it.

    What the block finds then is of no export: files of the old one beside figures of the new one.

    Raises:
      UserError: it was replaced or deleted meanwhile, whatever the block raises; or what the block
        wants to read cannot be read.
    """
    before, raised = _manifest_digest(folder), None
    try:
        yield
    except Exception as error:
        raised = error
    if _manifest_digest(folder) != before:
        raise UserError(f"{folder}: was replaced meanwhile; start again") from raised
    if isinstance(raised, OSError):
        raise _unreadable(raised, folder) from raised
    if raised:
        raise raised


def _manifest_digest(folder: Path) -> str | None:
    """None where there is no manifest to read, or nothing that can be one."""
    with contextlib.suppress(OSError):
        if _is_file(folder / MANIFEST, MAX_MANIFEST):
            return sha256(folder / MANIFEST)
    return None


def _is_file(path: Path, most: int) -> bool:
    """Whether it is a file of at most so many bytes, and no link to one."""
    about = path.lstat()
    return stat.S_ISREG(about.st_mode) and about.st_size <= most


def escape_unprintable(text: str) -> str:
    """A stranger's text on one line: what would move a terminal's cursor is spelled out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _unreadable(error: OSError, folder: Path) -> UserError:
    return UserError(f"{error.filename or folder}: cannot be read ({error.strerror or error})")


def _read_manifest(folder: Path) -> tuple[dict[str, Any], dict[str, integrity.Listed]]:
    """The manifest and its list of files."""
    for path in (folder / MANIFEST, folder / MANIFEST_HASH):
        if not path.is_file():
            raise UserError(f"{path}: is missing; {folder} is no whole export")
        # What it leads to may be exchanged without a trace in the folder.
        if path.is_symlink():
            raise UserError(f"{path}: is a link")
        if not _is_file(path, MAX_MANIFEST):
            raise UserError(f"{path}: is too large for one")
    # Bytes: a changed one need not be text.
    if (folder / MANIFEST_HASH).read_bytes() != format_hash_line(folder).encode():
        raise UserError(f"{folder / MANIFEST}: its SHA-256 is not the one in {MANIFEST_HASH}")
    try:
        manifest = integrity.read(folder)
        listed = integrity.listed_files(manifest)
        problem = next(_problems(manifest), None)
    except ValueError as error:
        raise UserError(f"{folder / MANIFEST}: is no manifest of an export ({error})") from error
    if problem:
        raise UserError(f"{folder / MANIFEST}: {escape_unprintable(problem)}")
    return manifest, listed


def _strangers(folder: Path, listed: set[str]) -> Iterator[str]:
    """What lies in the folder and is not listed, empty folders too."""
    parents = {str(parent) for name in listed for parent in PurePosixPath(name).parents}
    for path in set(list_files(folder)) - listed:
        name = PurePosixPath(path)
        left = name.name in _LEFT_BY_SYSTEMS and str(name.parent) in parents
        if not (left and _is_file(folder / path, _MAX_LEFT)):
            yield f"{folder / path}: is not of this export"
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            name = path.relative_to(folder).as_posix()
            if name not in parents and not any(path.iterdir()):
                yield f"{path}: is not of this export"


def _damages(folder: Path, listed: dict[str, integrity.Listed]) -> Iterator[str]:
    present = set(list_files(folder))
    for name, (size, digest) in listed.items():
        path = folder / name
        if name not in present:
            yield f"{path}: is missing"
        elif path.is_symlink():
            yield f"{path}: is a link"
        elif not path.is_file():
            yield f"{path}: is no file"
        elif (found := path.stat().st_size) != size:
            yield f"{path}: is {found} bytes long, not {size}; it was cut short or exchanged"
        elif sha256(path) != digest:
            yield f"{path}: its SHA-256 is not the manifest's; it was damaged or exchanged"


def _unaccounted(folder: Path, manifest: dict[str, Any], listed: set[str]) -> Iterator[str]:
    """Files that would not be opened, and artifacts without files."""
    expected = {path for name in manifest["artifacts"] for path in _files_of(name)}
    # A pretrained folder has the weights without an artifact that opens them.
    weights = {export_files.MODEL_WEIGHTS} if "pretrained" in manifest else set()
    for name in listed - _COMPANIONS - weights - _PAGE - expected:
        yield f"{folder / name}: is listed, but of no artifact of the manifest"
    for name in (expected | {export_files.GOLDEN}) - listed:
        yield f"{folder / name}: is not listed by the manifest"


def _files_of(name: str) -> tuple[str, ...]:
    """The files of a format, none of them a folder."""
    artifact = ARTIFACTS[name]
    return _SAVED_MODEL_FILES if artifact.runtime == "saved_model" else artifact.files


def _wrong_sizes(
    folder: Path, manifest: dict[str, Any], listed: dict[str, integrity.Listed]
) -> Iterator[str]:
    for name, entry in manifest["artifacts"].items():
        found = sum(listed[file].size or 0 for file in _files_of(name) if file in listed)
        if entry.get("size") != found:
            yield (
                f"{folder / MANIFEST}: its size of {name} is {entry.get('size')!r:.50}, and its"
                f" files have {found}"
            )


def _problems(manifest: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a manifest, its list of files apart. Only the first one is asked for.

    What comes after it may rely on it.
    """
    if manifest.get("schema") != SCHEMA:
        yield "is a manifest of another version of this software"
    labels = manifest.get("labels")
    if not isinstance(labels, list) or classes_lib.problem_of(labels):
        yield "its labels are no names of classes"
        return
    texts = {
        "preprocessing": PREPROCESSING,
        "postprocessing": format_postprocessing(
            len(labels), mirror=manifest.get("mirror", False) is True
        ),
    }
    for part, text in texts.items():
        if manifest.get(part) != text:
            yield f"its {part} is not what the models need; export again"
    yield from (f"is no manifest of an export ({problem})" for problem in _odd_parts(manifest))
    if labels != manifest["run"].get("classes", list(CLASS_NAMES)):
        yield "its labels are not those that the models answer with, in their order"
    for name, entry in manifest["artifacts"].items():
        if name not in ARTIFACTS:
            yield f"is a manifest of another version of this software (it has {name!r:.50})"
            return
        odd = _odd_entries(name, entry, manifest.get("tflite_batch", 1), len(labels))
        yield from (f"is no manifest of an export ({part} of {name})" for part in odd)


def _odd_parts(manifest: dict[str, Any]) -> Iterator[str]:
    for part in ("artifacts", "run", "evaluation"):
        if not isinstance(manifest.get(part), dict):
            yield f"its {part!r} is missing"
    if not manifest["artifacts"]:
        yield "it has no artifact"
    batch = manifest.get("tflite_batch", 1)
    if not isinstance(batch, int) or not 1 <= batch <= artifacts.MAX_TFLITE_BATCH:
        yield f"its 'tflite_batch' is {batch!r:.50}"
    if not isinstance(manifest.get("mirror", False), bool):
        yield f"its 'mirror' is {manifest['mirror']!r:.50}"
    if "temperature" in manifest and not temperature.is_valid(manifest["temperature"]):
        yield "its 'temperature' is none"
    if not _are_lines(manifest.get("warnings", [])):
        yield "its 'warnings' are none"
    kept_back = manifest.get("kept_back", {})
    if not isinstance(kept_back, dict) or not all(map(_is_kept_back, kept_back.values())):
        yield "its 'kept_back' is none"
    source, images = (manifest["evaluation"].get(name) for name in ("source", "images"))
    if not isinstance(source, str | None):
        yield f"its evaluation's 'source' is {source!r:.50}"
    if images is not None and not (isinstance(images, int) and _is_number(images, _ENDLESS)):
        yield f"its evaluation's 'images' is {images!r:.50}"
    for name, kind, most in (("seed", int, _ENDLESS), ("validation_fraction", int | float, 1)):
        given = manifest["run"].get(name)
        if given is not None and not (isinstance(given, kind) and _is_number(given, most)):
            yield f"its run's {name!r} is {given!r:.50}"


def _odd_entries(name: str, entry: Any, tflite_batch: int, num_classes: int) -> Iterator[str]:
    if not isinstance(entry, dict) or entry.get("path") != ARTIFACTS[name].path:
        yield "the path"
    gate = entry.get("gate", {})
    if not isinstance(gate, dict):
        yield "the gate"
    for field in Gate._fields:
        most = 1 if field == "agreement" else _ENDLESS
        if gate.get(field) is not None and not _is_number(gate[field], most):
            yield f"the gate's {field}"
    if not _are_lines(entry.get("failures", [])):
        yield "the list of failures"
    # What failed at export need not have figures, and need not have good ones.
    if entry.get("failures"):
        return
    cap = ARTIFACTS[name].gate.golden_difference
    recorded = entry.get("golden_max_difference")
    if not _is_number(recorded, cap):
        yield f"the difference on the golden faces, {recorded!r:.50}, at most {cap:g},"
    if not _is_number(entry.get("accuracy"), most=1):
        yield "the accuracy"
    agreed = get_io_specs(name, tflite_batch, num_classes)
    for part in agreed[0]:
        if entry.get(part) not in [io_spec[part] for io_spec in agreed]:
            yield f"the {part}"


def _is_number(value: Any, most: float) -> bool:
    """Whether it is a finite number from 0 to ``most``; an integer may have any length."""
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return known and 0 <= value <= most


def _are_lines(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _is_kept_back(entry: Any) -> bool:
    known = isinstance(entry, dict) and isinstance(entry.get("path"), str)
    return known and _are_lines(entry.get("failures"))
