"""Whether a folder holds an export: the files of its manifest, byte for byte, and no others."""

from __future__ import annotations

import contextlib
import stat
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from export import artifacts as catalogue
from export.artifacts import ARTIFACTS, MANIFEST, MANIFEST_HASH
from export.contract import POSTPROCESSING, PREPROCESSING, contracts_of, labels_text
from export.gates import Gate
from export.manifest import SCHEMA, files, hash_line, sha256
from fer_pipeline import integrity
from fer_pipeline.errors import UserError
from fer_pipeline.expressions import CLASS_NAMES

#: Files that systems leave in every folder that somebody looks into, and bytes of them: a folder
#: of so few files needs no more.
_LEFT_BY_SYSTEMS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_MAX_LEFT = 2**16

#: What an export holds besides its artifacts.
_COMPANIONS = frozenset(
    {catalogue.LABELS, catalogue.GOLDEN, catalogue.MODEL_CARD, catalogue.REPORT}
)

#: Bytes. An export's manifest has 20 thousand.
_MAX_MANIFEST = 2**24

#: The largest number where there is no other limit.
_ENDLESS = sys.float_info.max

#: A copy of the labels inside an artifact.
_LABELS_ASSET = f"{catalogue.SAVED_MODEL}/assets/{catalogue.LABELS}"

#: What TensorFlow writes of an export's SavedModel: all variables go in one shard.
_SAVED_MODEL_FILES = (
    f"{catalogue.SAVED_MODEL}/saved_model.pb",
    f"{catalogue.SAVED_MODEL}/fingerprint.pb",
    f"{catalogue.SAVED_MODEL}/variables/variables.index",
    f"{catalogue.SAVED_MODEL}/variables/variables.data-00000-of-00001",
    _LABELS_ASSET,
)


def check_files(folder: Path) -> dict[str, Any]:
    """Proves that a folder holds the files of its manifest, byte for byte, and no others.

    Returns:
      The manifest, whose parts have the types and ranges that an export's have.

    Raises:
      UserError: names the first file that is missing, extra, truncated or changed, or says what is
        wrong with the manifest or the labels.
    """
    try:
        return _checked(folder)
    except OSError as error:
        raise _unreadable(error, folder) from error


@contextlib.contextmanager
def unreplaced(folder: Path) -> Iterator[None]:
    """Says so where another export takes the place of a folder while the block reads it.

    What the block finds then is of no export: files of the old one beside figures of the new one.

    Raises:
      UserError: it was replaced or deleted meanwhile, whatever the block raises; or what the block
        wants to read cannot be read.
    """
    before = _manifest_digest(folder)
    try:
        yield
    except Exception as error:
        if _manifest_digest(folder) != before:
            raise _replaced(folder) from error
        if isinstance(error, OSError):
            raise _unreadable(error, folder) from error
        raise
    if _manifest_digest(folder) != before:
        raise _replaced(folder)


def _manifest_digest(folder: Path) -> str | None:
    """None where there is no manifest to read, or nothing that can be one."""
    with contextlib.suppress(OSError):
        if _is_file(folder / MANIFEST, _MAX_MANIFEST):
            return sha256(folder / MANIFEST)
    return None


def _is_file(path: Path, most: int) -> bool:
    """Whether it is a file of at most so many bytes, and no link to one."""
    about = path.lstat()
    return stat.S_ISREG(about.st_mode) and about.st_size <= most


def printable(text: str) -> str:
    """A stranger's text on one line: what would move a terminal's cursor is spelled out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _replaced(folder: Path) -> UserError:
    return UserError(f"{folder}: was replaced meanwhile; start again")


def _unreadable(error: OSError, folder: Path) -> UserError:
    return UserError(f"{error.filename or folder}: cannot be read ({error.strerror or error})")


def _checked(folder: Path) -> dict[str, Any]:
    for name in (MANIFEST, MANIFEST_HASH):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: is missing; {folder} is no whole export")
        # What it leads to may be exchanged without a trace in the folder.
        if (folder / name).is_symlink():
            raise UserError(f"{folder / name}: is a link")
        if not _is_file(folder / name, _MAX_MANIFEST):
            raise UserError(f"{folder / name}: is too large for one")
    # Bytes: a changed one need not be text.
    if (folder / MANIFEST_HASH).read_bytes() != hash_line(folder).encode():
        raise UserError(f"{folder / MANIFEST}: its SHA-256 is not the one in {MANIFEST_HASH}")
    try:
        manifest = integrity.read(folder)
        listed = integrity.listed_files(manifest)
        problem = next(_problems(manifest), None)
    except ValueError as error:
        raise UserError(f"{folder / MANIFEST}: is no manifest of an export ({error})") from error
    if problem:
        raise UserError(f"{folder / MANIFEST}: {printable(problem)}")
    # Sorted: the first one is named.
    problems = sorted(_strangers(folder, set(listed))) + sorted(_damages(folder, listed))
    problems += sorted(_unaccounted(folder, manifest, set(listed)))
    problems += sorted(_wrong_sizes(folder, manifest, listed))
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(printable(problems[0]) + more)
    for name in {catalogue.LABELS, _LABELS_ASSET} & set(listed):
        if (folder / name).read_bytes() != labels_text().encode():
            raise UserError(f"{folder / name}: holds other labels than the models answer with")
    return manifest


def _strangers(folder: Path, listed: set[str]) -> Iterator[str]:
    """What lies in the folder and is not listed, empty folders too."""
    parents = {str(parent) for name in listed for parent in PurePosixPath(name).parents}
    for path in set(files(folder)) - listed:
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
    present = set(files(folder))
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
    for name in listed - _COMPANIONS - expected:
        yield f"{folder / name}: is listed, but of no artifact of the manifest"
    for name in (expected | {catalogue.GOLDEN}) - listed:
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
    """What is wrong with a manifest, its list of files apart."""
    if manifest.get("schema") != SCHEMA:
        yield "is a manifest of another version of this software"
    if manifest.get("labels") != list(CLASS_NAMES):
        yield "its labels are not those that the models answer with, in their order"
    for part, text in (("preprocessing", PREPROCESSING), ("postprocessing", POSTPROCESSING)):
        if manifest.get(part) != text:
            yield f"its {part} is not what the models need; export again"
    for part in ("artifacts", "run", "evaluation"):
        if not isinstance(manifest.get(part), dict):
            yield f"is no manifest of an export (its {part!r} is missing)"
            return
    if not manifest["artifacts"]:
        yield "is no manifest of an export (it has no artifact)"
    batch = manifest.get("tflite_batch", 1)
    if not isinstance(batch, int) or not 1 <= batch <= catalogue.MAX_TFLITE_BATCH:
        yield f"is no manifest of an export (its 'tflite_batch' is {batch!r:.50})"
    if not _are_lines(manifest.get("warnings", [])):
        yield "is no manifest of an export (its 'warnings' are none)"
    kept_back = manifest.get("kept_back", {})
    if not isinstance(kept_back, dict) or not all(map(_is_kept_back, kept_back.values())):
        yield "is no manifest of an export (its 'kept_back' is none)"
    for name, kind, most in (("seed", int, _ENDLESS), ("validation_fraction", int | float, 1)):
        given = manifest["run"].get(name)
        if given is not None and not (isinstance(given, kind) and _is_number(given, most)):
            yield f"is no manifest of an export (its run's {name!r} is {given!r:.50})"
    for name, entry in manifest["artifacts"].items():
        if name not in ARTIFACTS:
            yield f"is a manifest of another version of this software (it has {name!r:.50})"
            return
        yield from (
            f"is no manifest of an export ({p} of {name})"
            for p in _entry_problems(name, entry, batch)
        )


def _entry_problems(name: str, entry: Any, tflite_batch: int) -> Iterator[str]:
    if not isinstance(entry, dict) or entry.get("path") != ARTIFACTS[name].path:
        yield "the path"
        return
    if not isinstance(entry.get("gate", {}), dict):
        yield "the gate"
        return
    for field in Gate._fields:
        limit = entry.get("gate", {}).get(field)
        most = 1 if field == "agreement" else _ENDLESS
        if limit is not None and not _is_number(limit, most):
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
    agreed = contracts_of(name, tflite_batch)
    for part in agreed[0]:
        if entry.get(part) not in [contract[part] for contract in agreed]:
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
