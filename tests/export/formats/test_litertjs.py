"""LiteRT.js is found where npm leaves it, and only the files that are known are taken."""

import base64
import hashlib
import io
import tarfile

import pytest

from export.formats import litertjs
from fer_pipeline.errors import UserError


@pytest.fixture
def files(monkeypatch):
    """The files by package and path, each known by its hash."""
    contents = {}
    for name, file in litertjs._FILES.items():
        contents[file.package, file.path] = content = f"// {name}".encode()
        known = file._replace(sha256=hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(litertjs._FILES, name, known)
    return contents


@pytest.fixture
def modules(files, tmp_path):
    """A folder in which npm has installed the packages."""
    for (package, path), content in files.items():
        target = tmp_path / "node_modules/@litertjs" / package / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return tmp_path


@pytest.mark.parametrize(
    "named", [".", "node_modules", "node_modules/@litertjs", "node_modules/@litertjs/core"]
)
def test_any_folder_around_the_packages_will_do(modules, named):
    found = litertjs.read(modules / named)
    assert found == {name: f"// {name}".encode() for name in litertjs.NAMES}


def test_without_a_folder_the_working_directory_is_looked_into(modules, monkeypatch):
    monkeypatch.chdir(modules)
    assert litertjs.read()["index.js"] == b"// index.js"


def test_npm_s_cache_is_enough(files, tmp_path, monkeypatch):
    for package in ("core", "wasm-utils"):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            for (of, path), content in files.items():
                if of == package:
                    member = tarfile.TarInfo(f"package/{path}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        digest = hashlib.sha512(archive.getvalue())
        known = base64.b64encode(digest.digest()).decode()
        monkeypatch.setitem(litertjs._PACKAGES, package, known)
        name = digest.hexdigest()
        path = tmp_path / "_cacache/content-v2/sha512" / name[:2] / name[2:4] / name[4:]
        path.parent.mkdir(parents=True)
        path.write_bytes(archive.getvalue())
    monkeypatch.setenv("npm_config_cache", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert set(litertjs.read()) == set(litertjs.NAMES)


def test_what_is_missing_or_another_is_named_with_the_way_out(modules, tmp_path, monkeypatch):
    typed = "npm install @litertjs/core@2.5.3 @litertjs/wasm-utils@2.5.3"
    wasm = modules / "node_modules/@litertjs/core/wasm/litert_wasm_internal.wasm"
    wasm.write_bytes(b"another")
    with pytest.raises(UserError, match=r"its wasm/litert_wasm_internal\.wasm .* not that of 2\.5"):
        litertjs.read(modules)
    wasm.unlink()
    with pytest.raises(UserError, match=f"has no wasm/litert_wasm_internal.wasm .*; type: {typed}"):
        litertjs.read(modules)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=f"--litertjs={empty}: holds no @litertjs/core; type: "):
        litertjs.read(empty)
    monkeypatch.setenv("npm_config_cache", str(empty))
    monkeypatch.chdir(empty)
    with pytest.raises(UserError, match=f"neither in node_modules here nor in .*; type: {typed}"):
        litertjs.read()
