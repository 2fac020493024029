"""The files of LiteRT.js that a web page needs, taken from npm's packages and checked.

They are not part of this software: 19 MB. https://www.npmjs.com/package/@litertjs/core, Apache-2.0.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fer_pipeline.errors import UserError

VERSION = "2.5.3"

#: What brings the packages here, into npm's cache too.
INSTALL = f"npm install @litertjs/core@{VERSION} @litertjs/wasm-utils@{VERSION}"

#: SHA-512 of each package, as npm names it: it finds them in npm's cache.
_PACKAGES = {
    "core": (
        "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ=="
    ),
    "wasm-utils": (
        "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ=="
    ),
}


class _File(NamedTuple):
    package: str
    path: str
    sha256: str


#: By their names in a page's folder. The pair with ``compat`` is for browsers without relaxed SIMD.
_FILES = {
    name: _File(*described)
    for name, described in {
        "index.js": (
            "core",
            "dist/index.js",
            "e7daccc3a31eef890848a737ccb863ded5f046a6b40c3fdc0556495adeb5d9b3",
        ),
        "wasm-utils.js": (
            "wasm-utils",
            "dist/index.js",
            "e0e20bc28ab001ac732cf40d15b6eebd24fb0deaeb95eeba5100f51eebf015f2",
        ),
        "litert_wasm_internal.js": (
            "core",
            "wasm/litert_wasm_internal.js",
            "68efb69f770e3f76aff36a377de629ca496c131b86ac0f0f4b592a1543a898eb",
        ),
        "litert_wasm_internal.wasm": (
            "core",
            "wasm/litert_wasm_internal.wasm",
            "7280cf4471774867e385e6c3cd53e2b45e2975b80fea338fff4ef359b0865614",
        ),
        "litert_wasm_compat_internal.js": (
            "core",
            "wasm/litert_wasm_compat_internal.js",
            "4d8f894b7883654fd6e8439730aa41e79ceaab7d19184fc4f1f0b0f1a2a2c8a5",
        ),
        "litert_wasm_compat_internal.wasm": (
            "core",
            "wasm/litert_wasm_compat_internal.wasm",
            "5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c",
        ),
    }.items()
}

NAMES = tuple(_FILES)

#: Gives the bytes of a file of a package; raises OSError, KeyError or tarfile.TarError.
_Read = Callable[[_File], bytes]


def read(folder: str | os.PathLike[str] | None = None) -> dict[str, bytes]:
    """Reads and checks the files.

    Args:
      folder: holds npm's packages: a ``node_modules``, what it lies in, or the package itself. None
        looks into ``node_modules`` of the working directory, then into npm's cache.

    Returns:
      Their contents, by the names in ``NAMES``.

    Raises:
      UserError: they are not there, or are others; says what to type.
    """
    read_file, where = _from_folder(Path(folder)) if folder else _find()
    contents = {}
    for name, file in _FILES.items():
        try:
            contents[name] = read_file(file)
        except (OSError, KeyError, tarfile.TarError) as error:
            raise _missing(f"{where}: has no {file.path} of @litertjs/{file.package}") from error
        if hashlib.sha256(contents[name]).hexdigest() != file.sha256:
            raise _missing(
                f"{where}: its {file.path} of @litertjs/{file.package} is not that of {VERSION}"
            )
    return contents


def _missing(problem: str) -> UserError:
    return UserError(f"{problem}; type: {INSTALL}")


def _find() -> tuple[_Read, str]:
    if Path("node_modules/@litertjs/core").is_dir():
        return _from_folder(Path())
    named = os.environ.get("npm_config_cache")  # noqa: SIM112 (npm's own name for it)
    cache = Path(named or Path.home() / ".npm")
    paths = {package: _cached(cache, digest) for package, digest in _PACKAGES.items()}
    if not all(path.is_file() for path in paths.values()):
        raise _missing("LiteRT.js is neither in node_modules here nor in npm's cache")
    return lambda file: _unpacked(paths[file.package], file.path), str(cache)


def _from_folder(folder: Path) -> tuple[_Read, str]:
    around = (folder / "node_modules/@litertjs", folder / "@litertjs", folder, folder.parent)
    scope = next((path for path in around if (path / "core/dist/index.js").is_file()), None)
    if scope is None:
        raise _missing(f"--litertjs={folder}: holds no @litertjs/core")
    return lambda file: (scope / file.package / file.path).read_bytes(), str(scope)


def _cached(cache: Path, digest: str) -> Path:
    """Where npm's cache keeps what has this SHA-512 (the package ``cacache``)."""
    name = base64.b64decode(digest).hex()
    return cache / "_cacache/content-v2/sha512" / name[:2] / name[2:4] / name[4:]


def _unpacked(package: Path, path: str) -> bytes:
    with tarfile.open(package) as archive:
        found = archive.extractfile(f"package/{path}")
        if found is None:
            raise KeyError(path)
        return found.read()
