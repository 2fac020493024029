"""A run of three classes, whose names are long or run from right to left, and the page of it."""

import functools
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from export import again, page
from export.delivery import contents
from export.formats import litertjs
from export.formats.inference_model import inference_model
from export.spec import golden
from fer_pipeline import datasets
from fer_pipeline.datasets.splits import Split, Splits, fingerprint
from fer_pipeline.errors import UserError
from fer_pipeline.inference import pretrained
from fer_pipeline.training import checkpoints

#: Too long for a row, right to left with signs at both ends, and without spaces.
NAMES = (
    "sehr " * 12 + "Aufmerksamkeitsbeeinträchtigung",
    "(שמח) 5%",
    "とても嬉しそうで落ち着いた表情<b>",
)

#: The classes of the drawn faces that bear these names.
DRAWN = [0, 3, 6]


@pytest.fixture(scope="module")
def run(faces, weights, runtime, narrow, tmp_path_factory):
    """A finished run, from whose checkpoint the int8 file and the page were made together."""
    import keras

    folder = tmp_path_factory.mktemp("three")
    chosen = np.isin(faces.labels, DRAWN)
    labels = np.searchsorted(DRAWN, faces.labels[chosen]).astype(np.int32)
    split = Split(faces.images[chosen], labels)
    splits = Splits(split, split, split, classes=NAMES)
    config = {
        "data": "faces.zip",
        "seed": 0,
        "cache": "memory",
        "classes": list(NAMES),
        "fingerprint": fingerprint(splits),
        "versions": {},
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    three = [*weights[:-2], weights[-2][:, DRAWN], weights[-1][DRAWN]]
    with pytest.MonkeyPatch.context() as patch:
        narrow(patch)
        patch.setattr(datasets, "load", lambda *_, **__: SimpleNamespace(splits=splits))
        state = checkpoints.capture(inference_model(three), keras.optimizers.Adam(), {"epoch": 1})
        checkpoints.save(folder, state)
        export = functools.partial(again.export_again, folder)
        page.make(folder, ["int8"], export=lambda formats: export(formats=formats))
    return folder


@pytest.fixture(scope="module")
def opened(browser, site, run):
    address, root = site
    shutil.copytree(run / "export/web", root / "three")
    with browser.open(f"{address}/three/") as found:
        found.wait("document.querySelector('#camera').disabled === false")
        found.run("import('./page.js').then(m => { window.page = m; })")
        yield found
        assert found.problems() == []


@pytest.mark.slow
def test_the_model_and_its_page_are_made_together(run):
    given = contents.check_files(run / "export")
    assert list(given["artifacts"]) == ["int8"]
    assert given["labels"] == list(NAMES)
    about = json.loads((run / "export/web/page.json").read_text("utf-8"))
    assert about["labels"] == list(NAMES)
    model = (run / "export/model_int8.tflite").read_bytes()
    assert (run / "export/web" / about["model"]).read_bytes() == model


def test_a_run_without_an_export_gets_one_for_its_page(monkeypatch, tmp_path):
    monkeypatch.setattr(litertjs, "read", lambda _: {name: b"1" for name in litertjs.NAMES})
    asked = []

    def export(formats):
        asked.append(formats)
        shutil.copytree(pretrained.FOLDER, tmp_path / "export")

    page.make(tmp_path, [], export=export)
    page.make(tmp_path, [], export=export)
    assert asked == [["int8"]]
    assert "web/index.html" in contents.check_files(tmp_path / "export")["files"]


@pytest.mark.parametrize(
    ("formats", "tflite_batch", "problem"),
    [
        (["keras", "saved_model"], 1, "--formats=keras,saved_model,web: has no file that"),
        (["int8", "float32_rgb"], 8, "the TFLite files take 8 images a call"),
        (["int9"], 1, "unknown format 'int9'"),
    ],
)
def test_a_page_that_cannot_be_made_is_refused_before_the_export(
    monkeypatch, tmp_path, formats, tflite_batch, problem
):
    monkeypatch.setattr(litertjs, "read", lambda _: {name: b"1" for name in litertjs.NAMES})

    def export(_):
        raise AssertionError("the export that was there would be gone")

    with pytest.raises(UserError, match=problem):
        page.make(tmp_path, formats, export=export, tflite_batch=tflite_batch)


@pytest.mark.slow
def test_three_classes_are_answered_by_their_names(opened, run, litert):
    face = golden.read(run / "export/golden.npz", 3).images[0]
    expected = litert((run / "export/model_int8.tflite").read_bytes(), face[None])[0] / 256
    grey = json.dumps(np.repeat(face.ravel(), 4).tolist())
    found = opened.run(
        f"page.find({{ data: new Uint8ClampedArray({grey}), width: 48, height: 48, channels: 4 }})"
    )
    np.testing.assert_allclose(found[0]["probabilities"], expected, rtol=0, atol=1 / 256)
    rows = opened.run(
        "[...document.querySelectorAll('#bars li')].map(r => r.children[0].innerText)"
    )
    assert rows == list(NAMES)
    # As a visitor pastes it.
    opened.run(
        f"""(async () => {{
          const canvas = new OffscreenCanvas(48, 48), pen = canvas.getContext('2d');
          const pixels = Uint8ClampedArray.from({grey}, (v, i) => i % 4 === 3 ? 255 : v);
          pen.putImageData(new ImageData(pixels, 48, 48), 0, 0);
          const data = new DataTransfer(), content = [await canvas.convertToBlob()];
          data.items.add(new File(content, 'face.png', {{ type: 'image/png' }}));
          document.dispatchEvent(new ClipboardEvent('paste', {{ clipboardData: data }}));
        }})()"""
    )
    # The marks keep the signs of a name with it, whichever way it runs.
    name = NAMES[expected.argmax()]
    opened.wait(f"document.querySelector('#status').textContent.includes({json.dumps(name)})")
    said = opened.run("document.querySelector('#status').textContent")
    assert said == f"This face looks \u2068{name}\u2069"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(320, True), (1200, False)])
def test_long_names_leave_room_for_the_bars(opened, width, dark):
    opened.look_like(width=width, dark=dark)
    assert opened.run("document.documentElement.scrollWidth") <= width
    sizes = opened.run(
        "[...document.querySelectorAll('.track')].map(b => b.getBoundingClientRect().width)"
    )
    assert len(set(sizes)) == 1
    assert sizes[0] > 50
    directions = opened.run(
        "[...document.querySelectorAll('#bars li')].map("
        "row => row.children[0].matches(':dir(rtl)'))"
    )
    assert directions == [False, True, False]
