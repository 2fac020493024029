"""The page in headless Chromium answers as LiteRT, Pillow and NumPy do in Python."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from export.formats import web
from export.spec import golden
from fer_pipeline import images
from fer_pipeline.inference import pretrained
from fer_pipeline.inference.faces import crops, detector

#: Reads the file in ``encoded`` as the page reads what a visitor chooses.
DECODE = "page.decode(new Blob([Uint8Array.from(atob('{encoded}'), c => c.charCodeAt(0))]))"


#: Drops a file on the page.
DROP = """{ const data = new DataTransfer(), bytes = atob('CONTENT');
data.items.add(new File([Uint8Array.from(bytes, c => c.charCodeAt(0))], 'noise.png'));
document.dispatchEvent(new DragEvent('drop', { dataTransfer: data })); }"""


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    quick = {"compress_level": 1} if kind == "PNG" else {}
    Image.fromarray(pixels).save(file, kind, **quick, **options)
    return file.getvalue()


def decode(content):
    return DECODE.format(encoded=base64.b64encode(content).decode())


def test_faces_are_predicts_to_the_pixel(page, pictures):
    for number, picture in enumerate(pictures):
        # Every fifth is grey, every fourth lies on its side and its tag says so.
        pixels = picture[..., 0] if number % 5 == 0 else picture
        exif = Image.Exif()
        exif[0x0112] = 6 if number % 4 == 0 else 1
        jpeg = encoded(pixels, "JPEG", quality=95, exif=exif, subsampling=2)
        for content, most in ((encoded(pixels), 0), (jpeg, 1)):
            face = page.run(f"{decode(content)}.then(i => [...pixels.toFace(i, 48)])")
            expected = images.read_face(content).ravel()
            difference = np.abs(np.array(face) - expected.astype(int)).max()
            assert difference <= most, (number, pixels.shape)


def test_crops_are_predicts_to_the_pixel(page, pictures):
    picture = pictures[8]
    page.run(f"{decode(encoded(picture))}.then(i => {{ window.whole = i; }})")
    for box in ((100.4, 80.2, 90.0, 90.0), (-20.0, -30.0, 99.5, 99.5), (560.0, 430.0, 120.0, 80.0)):
        left, top, side = crops.square(box)
        face = page.run(
            f"[...pixels.toFace(pixels.part(whole, {left}, {top}, {side}, {side}), 48)]"
        )
        np.testing.assert_array_equal(np.array(face), crops.cut(picture, box).ravel())


def answers(page, faces):
    """The probabilities that a page finds for faces cut out already: ``[N, 7]``."""
    script = "{}.then(page.find)"
    found = [page.run(script.format(decode(encoded(face[..., 0])))) for face in faces]
    assert all(len(one) == 1 and one[0]["square"] is None for one in found)
    return np.array([one[0]["probabilities"] for one in found])


def test_int8_probabilities_are_litert_s(page, litert):
    faces = golden.read(pretrained.FOLDER / "golden.npz").images[:8]
    expected = litert(pretrained.pretrained_path().read_bytes(), faces) / 256
    np.testing.assert_allclose(answers(page, faces), expected, rtol=0, atol=1 / 256)


def test_float32_probabilities_are_litert_s(browser, site, add_page, exported, litert):
    address, root = site
    add_page(root / "float32", exported.folder, "float32")
    faces = golden.read(exported.folder / "golden.npz").images[:8]
    expected = litert((exported.folder / "model_float32.tflite").read_bytes(), faces)
    with browser.open(f"{address}/float32/") as opened:
        opened.wait("document.querySelector('#camera').disabled === false")
        opened.run("import('./page.js').then(m => { window.page = m; })")
        np.testing.assert_allclose(answers(opened, faces), expected, rtol=0, atol=1e-5)
        assert opened.problems() == []


def test_faces_lie_where_predict_finds_them(page, photograph):
    portrait = Image.open(photograph)
    scene = Image.new("RGB", (640, 480), (96, 120, 144))
    for place, side in (((30, 60), 180), ((350, 100), 234)):
        scene.paste(portrait.crop((82, 20, 442, 380)).resize((side, side)), place)
    picture = np.asarray(scene)
    expected = sorted(face.box for face in detector.open_detector()(picture))
    found = page.run(f"{decode(encoded(picture))}.then(i => page.find(i))")
    assert len(found) == len(expected) == 2
    for face, box in zip(found, expected, strict=True):
        left, top, right, bottom = face["edges"]
        # Pillow scales what the detector sees in other steps: half a percent of the face.
        found_box = (left, top, right - left, bottom - top)
        np.testing.assert_allclose(found_box, box, rtol=0, atol=0.02 * box[2])
        np.testing.assert_allclose(face["square"], crops.square(box), rtol=0, atol=0.03 * box[2])


def test_a_chosen_photograph_is_answered(page, photograph):
    page.choose("#file", photograph)
    page.wait("page.shown.faces.length === 1")
    labels = page.run(
        "[...document.querySelectorAll('#bars li')].map(r => r.innerText.split('\\n'))"
    )
    stated = json.loads((pretrained.FOLDER / "manifest.json").read_text())
    assert [label[0] for label in labels] == stated["labels"]
    shares = [float(label[-1].removesuffix(" %")) for label in labels]
    assert abs(sum(shares) - 100) < 1
    assert page.run("document.querySelector('#status').innerText") == "This face looks neutral"
    assert " ms a frame" in page.run("document.querySelector('#time').innerText")
    said = page.run("document.querySelector('dl').innerText")
    accuracy = stated["artifacts"]["int8"]["accuracy"]
    assert f"{accuracy:.1%}".replace("%", " %") in said
    assert "compact, int8" in said
    assert "625 kB" in said


def test_a_picture_without_a_face_has_a_square_to_move(page):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    page.run(f"{decode(encoded(noise))}.then(i => {{ window.whole = i; }})")
    # It is dropped on the page.
    content = base64.b64encode(encoded(noise)).decode()
    page.run(DROP.replace("CONTENT", content))
    page.wait("document.querySelector('#status').innerText.startsWith('No face was found')")
    before = page.run("page.shown.drawn")
    assert before == [110, 60, 180]
    page.run("document.querySelector('#canvas').focus()")
    page.press("ArrowRight")
    page.press("-")
    assert page.run("page.shown.drawn") == [137, 69, 162]
    box = page.run("(b => [b.x, b.y])(document.querySelector('#canvas').getBoundingClientRect())")
    scale = page.run("document.querySelector('#canvas').clientWidth / 400")
    at = [[box[i] + scale * (40 + far) for i in range(2)] for far in (0, 100)]
    page.drag(*at)
    np.testing.assert_allclose(page.run("page.shown.drawn"), [40, 40, 100], atol=2)
    left, top, side = page.run("page.shown.drawn")
    expected = page.run(f"page.answer(pixels.part(whole, {left}, {top}, {side}, {side}))")
    first = f"{max(expected) * 100:.1f} %"
    page.wait(f"document.querySelector('.first').innerText.endsWith('{first}')")


def test_what_is_no_picture_is_said(page):
    page.run(
        """{ const data = new DataTransfer();
        data.items.add(new File(['hello'], 'hello.png', { type: 'image/png' }));
        document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data })); }"""
    )
    page.wait("document.querySelector('#status.wrong').innerText.startsWith('Choose a JPEG')")


def test_the_camera_is_answered_until_it_is_stopped(page):
    page.run("document.querySelector('#camera').click()")
    page.wait("document.querySelector('#status').innerText === 'This face looks neutral'")
    [face] = page.run("page.shown.faces")
    # In a frame of 640x480 her face is 160 pixels wide, and its middle 325 from the left.
    left, _, side = face["square"]
    assert 150 < side < 230
    assert abs(left + side / 2 - 325) < 12
    assert page.run("document.querySelector('#camera').innerText") == "Stop the camera"
    page.run("document.querySelector('#camera').click()")
    assert page.run("document.querySelector('#camera').innerText") == "Use the camera"
    assert page.run("document.querySelector('#video').srcObject.active") is False


def test_nothing_may_leave(page):
    forbidden = page.run(
        """new Promise(resolve => {
          const seen = new Set();
          document.addEventListener('securitypolicyviolation', event => {
            seen.add(event.effectiveDirective);
            if (seen.size === 3) resolve([...seen].sort());
          });
          fetch('http://127.0.0.2:9/').catch(() => {});
          new Image().src = 'http://127.0.0.2:9/x.png';
          const script = document.createElement('script');
          script.src = 'http://127.0.0.2:9/x.js';
          document.head.append(script);
        })"""
    )
    # What was forbidden is this test's doing, and the page does no such thing.
    page.forget_problems()
    assert forbidden == ["connect-src", "img-src", "script-src-elem"]
    # On a host that sends no headers, too.
    meta = page.run("document.querySelector('meta[http-equiv]').content")
    assert meta == web.POLICY


def test_the_card_is_one_click_away_and_all_has_a_name(page):
    page.run("document.querySelector('summary').click()")
    card = (pretrained.FOLDER / "MODEL_CARD.md").read_text()
    page.wait("document.querySelector('#card pre').textContent")
    assert page.run("document.querySelector('#card pre').textContent") == card
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {
        node["name"]["value"]
        for node in nodes
        if node.get("role", {}).get("value") in ("button", "image", "list", "status", "region")
    }
    assert {"Choose a picture", "Use the camera", "Probability of each expression"} <= named
    assert "" not in {
        node["name"]["value"]
        for node in nodes
        if node.get("role", {}).get("value") in ("button", "image", "list")
    }


def test_a_broken_model_is_said(browser, site):
    address, root = site
    path = root / "int8/model_int8.tflite"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: len(whole) // 2])
        with browser.open(f"{address}/int8/") as opened:
            said = opened.wait("document.querySelector('#status.wrong').innerText")
            assert said.startswith("model_int8.tflite cannot be opened")
            assert opened.run("document.querySelector('#camera').disabled") is True
            assert opened.problems() == []
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(("width", "dark"), [(320, False), (800, True), (1200, False)])
def test_the_page_fits(page, width, dark):
    page.look_like(width=width, dark=dark)
    assert page.run("document.documentElement.scrollWidth") <= width
    ink = page.run("getComputedStyle(document.querySelector('h1')).color")
    assert ink == ("rgb(255, 255, 255)" if dark else "rgb(0, 0, 0)")
