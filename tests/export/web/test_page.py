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
from fer_pipeline.inference.faces import asking, crops, detector, tracking

#: Reads the file in ``encoded`` as the page reads what a visitor chooses.
DECODE = "page.decode(new Blob([Uint8Array.from(atob('{encoded}'), c => c.charCodeAt(0))]))"


#: Drops a file on the page.
DROP = """{ const data = new DataTransfer(), bytes = atob('CONTENT');
data.items.add(new File([Uint8Array.from(bytes, c => c.charCodeAt(0))], 'noise.png'));
document.dispatchEvent(new DragEvent('drop', { dataTransfer: data })); }"""

#: Has the camera see a canvas: ``show(box, ...)`` puts the photograph into boxes of a frame. The
#: streams that the page was given are in ``given``; what it asks has no answer before ``allow``.
STAGE = """new Promise(ready => {
  const stage = document.createElement('canvas'), portrait = new Image();
  Object.assign(stage, { width: 640, height: 480 });
  const pen = stage.getContext('2d');
  window.given = [];
  window.allow = [];
  window.show = (...boxes) => {
    pen.fillStyle = '#607890';
    pen.fillRect(0, 0, 640, 480);
    for (const box of boxes) pen.drawImage(portrait, 82, 20, 360, 360, ...box);
  };
  navigator.mediaDevices.getUserMedia = () => new Promise((give, refuse) => allow.push(yes => {
    if (!yes) return refuse(new DOMException('no', 'NotAllowedError'));
    given.push(stage.captureStream());
    give(given.at(-1));
  }));
  portrait.onload = ready;
  portrait.src = 'data:image/jpeg;base64,CONTENT';
})"""

#: What the page says, without the marks around a class's name.
SAID = r"document.querySelector('#status').innerText.replace(/[\u2068\u2069]/g, '')"


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


@pytest.mark.parametrize("enlarged", [1, 2])
def test_faces_lie_where_predict_finds_them(page, photograph, enlarged):
    portrait = Image.open(photograph)
    scene = Image.new("RGB", (640, 480), (96, 120, 144))
    for place, side in (((30, 60), 180), ((350, 100), 234)):
        scene.paste(portrait.crop((82, 20, 442, 380)).resize((side, side)), place)
    picture = np.asarray(scene.resize((640 * enlarged, 480 * enlarged)))
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
    page.wait(f"{SAID} === 'This face looks neutral'")
    labels = page.run(
        "[...document.querySelectorAll('#bars li')].map(r => r.innerText.split('\\n'))"
    )
    stated = json.loads((pretrained.FOLDER / "manifest.json").read_text())
    assert [label[0] for label in labels] == stated["labels"]
    shares = [float(label[-1].removesuffix(" %")) for label in labels]
    assert abs(sum(shares) - 100) < 1
    assert " ms a frame" in page.run("document.querySelector('#time').innerText")


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
    # Control and + are the browser's: they enlarge the page.
    prevented = """(event => [canvas.dispatchEvent(event), event.defaultPrevented][1])(
      new KeyboardEvent('keydown', { key: '+', ctrlKey: true, cancelable: true }))"""
    assert page.run(prevented) is False
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


def test_what_was_asked_before_a_picture_is_not_answered_after_it(page, photograph):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    page.run(DROP.replace("CONTENT", base64.b64encode(encoded(noise)).decode()))
    page.wait("page.shown.drawn")
    # The photograph waits in the queue as the square of the picture before is moved.
    drop = DROP.replace("CONTENT", base64.b64encode(photograph.read_bytes()).decode())
    press = "canvas.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft' }));"
    page.run(f"{drop} {press}")
    page.wait(f"{SAID} === 'This face looks neutral'")
    page.run("new Promise(done => setTimeout(done, 100))")
    expected = page.run("Math.max(...page.shown.faces[0].probabilities)")
    shown = page.run("document.querySelector('.first').innerText")
    assert shown.endswith(f"{100 * expected:.1f} %")


def test_a_picture_too_large_for_a_phone_is_scaled_down(page):
    pixels = np.zeros((3400, 5000, 3), np.uint8)
    pixels[:, 2500:] = 255
    width, height, left, right = page.run(
        f"{decode(encoded(pixels))}.then(i => [i.width, i.height, i.data[4000], i.data.at(-2)])"
    )
    assert width * height <= 2**24
    assert abs(width / height - 5000 / 3400) < 1e-3
    assert (left, right) == (0, 255)
    [same] = page.run(f"{decode(encoded(pixels[:9, :9]))}.then(i => [[i.width, i.height]])")
    assert same == [9, 9]


def test_a_picture_longer_than_a_browser_can_draw_is_scaled_down(page):
    wide = np.full((70, 70_000, 3), 255, np.uint8)
    face = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    width, height, middle = page.run(
        f"{decode(encoded(wide))}.then(i => [i.width, i.height, i.data[i.data.length / 2]])"
    )
    assert (width, height, middle) == (16_384, 17, 255)
    # The next one is not black.
    red = page.run(f"{decode(encoded(face))}.then(i => [...i.data].filter((_, n) => n % 4 === 0))")
    assert red == face.ravel().tolist()


def test_what_is_no_picture_is_said(page, photograph):
    page.run(DROP.replace("CONTENT", base64.b64encode(photograph.read_bytes()).decode()))
    page.wait(f"{SAID} === 'This face looks neutral'")
    page.run(
        """{ const data = new DataTransfer();
        data.items.add(new File(['hello'], 'hello.png', { type: 'image/png' }));
        document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data })); }"""
    )
    page.wait("document.querySelector('#status.wrong').innerText.startsWith('Choose a JPEG')")
    # The answer for the picture before is not taken for this one's.
    assert page.run(SAID).endswith("What is shown is the picture before.")


def test_the_camera_is_answered_until_it_is_stopped(page):
    page.run("document.querySelector('#camera').click()")
    page.wait(f"page.shown.live && {SAID} === 'This face looks neutral'")
    [face] = page.run("page.shown.faces")
    # In a frame of 640x480 her face is 160 pixels wide, and its middle 325 from the left.
    left, _, side = face["square"]
    assert 150 < side < 230
    assert abs(left + side / 2 - 325) < 12
    assert page.run("document.querySelector('#camera').innerText") == "Stop the camera"
    page.run("document.querySelector('#camera').click()")
    assert page.run("document.querySelector('#camera').innerText") == "Use the camera"
    assert page.run("document.querySelector('#video').srcObject.active") is False


def test_faces_are_followed_as_predict_follows_them(page):
    random = np.random.default_rng(0)
    boxes = np.array([[0, 0, 60, 60], [400, 100, 80, 80], [200, 300, 40, 44], [420, 300, 70, 70]])
    steps = np.array([[20, 3, 0, 0], [-20, 2, 1, 1], [1, -9, 0, 0], [0, 0, -1, -1]])
    frames = []
    for frame in range(60):
        # Each goes its way, and is out of sight now and then, also for more than ten frames.
        seen = [i for i in range(4) if random.random() < 0.7 and (i != 3 or not 9 < frame < 24)]
        rows = random.dirichlet(np.ones(7), len(seen))
        frames.append(((boxes + frame % 25 * steps)[seen].tolist(), rows.tolist()))
    tracks, expected = tracking.Tracks(), []
    smooth = asking.Question().smooth
    for found, rows in frames:
        given = [tuple(box) for box in found]
        probabilities = np.array(rows).reshape(-1, 7)
        tracks, _ = tracking.follow(tracks, given, probabilities, smooth=smooth)
        expected.append(tracks.current)
    follow = """import('./tracks.js').then(({ follower }) => {
      const follow = follower();
      return FRAMES.map(([boxes, rows]) => follow(boxes.map(([left, top, width, height], i) =>
        ({ edges: [left, top, left + width, top + height], probabilities: rows[i] }))));
    })"""
    found = page.run(follow.replace("FRAMES", json.dumps(frames)))
    assert max(track.number for track in expected[-1]) > 4
    for ours, theirs in zip(found, expected, strict=True):
        known = [(track.number, track.missed) for track in theirs]
        assert [(one["number"], one["missed"]) for one in ours] == known
        for one, track in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one["probabilities"], track.probabilities, rtol=1e-12)


@pytest.fixture
def stage(browser, site, photograph):
    """A page of its own, whose camera is the test's."""
    content = base64.b64encode(photograph.read_bytes()).decode()
    with browser.open(f"{site[0]}/int8/") as opened:
        opened.wait("document.querySelector('#camera').disabled === false")
        opened.run("import('./page.js').then(m => { window.page = m; })")
        opened.run(STAGE.replace("CONTENT", content))
        yield opened
        assert opened.problems() == []


def test_a_visitor_sees_whose_face_is_whose(stage):
    camera = "document.querySelector('#camera')"
    stage.run(f"{camera}.click(); show([40, 60, 180, 180], [350, 100, 234, 234]); allow[0](true)")
    numbers = "page.shown.faces.map(face => face.number).join() === '{}'"
    # The larger one's bars are shown, and the other's by the button; then they stay with her.
    stage.wait(f"{numbers.format('1,2')} && {SAID} === 'Face 2 looks neutral'")
    stage.run("document.querySelector('#next').click()")
    stage.run("show([80, 60, 180, 180], [310, 120, 234, 234])")
    stage.wait(f"{numbers.format('1,2')} && page.shown.faces[0].square[0] > 80")
    assert stage.run(SAID) == "Face 1 looks neutral"
    # Out of sight they are waited for, then forgotten; nobody gets their numbers.
    stage.run("show()")
    missed = "page.shown.faces.every(face => face.missed > 2)"
    stage.wait(f"{missed} && {numbers.format('1,2')} && {SAID} === 'Face 1 looks neutral'")
    stage.wait(f"{SAID} === 'No face in sight.'")
    assert stage.run("document.querySelectorAll('.first').length") == 0
    assert stage.run("document.querySelector('#next').hidden") is True
    stage.run("show([310, 120, 234, 234])")
    stage.wait(f"{numbers.format('3')} && {SAID} === 'This face looks neutral'")


def test_no_camera_stays_on_whatever_a_visitor_does(stage):
    camera = "document.querySelector('#camera')"
    is_on = "given.map(stream => stream.active)"
    # Started twice before the first is allowed, and allowed in the other order.
    stage.run(f"for (let i = 0; i < 3; i++) {camera}.click()")
    stage.run("allow[1](true); setTimeout(show, 50, [40, 60, 180, 180])")
    stage.wait("page.shown.live && page.shown.faces.length")
    stage.run("allow[0](true)")
    stage.wait("given.map(s => s.getTracks()[0].readyState).join() === 'live,ended'")
    # A picture ends the camera.
    content = base64.b64encode(encoded(np.zeros((48, 48), np.uint8))).decode()
    stage.run(DROP.replace("CONTENT", content))
    stage.wait("!page.shown.live && page.shown.faces.length === 1")
    assert stage.run(is_on) == [False, False]
    assert stage.run(f"{camera}.innerText") == "Use the camera"
    # It is pulled out.
    stage.run(f"{camera}.click(); allow[2](true); setTimeout(show, 50, [40, 60, 180, 180])")
    stage.wait("page.shown.live")
    stage.run("document.querySelector('#video').srcObject.getTracks()[0].stop()")
    stage.wait("document.querySelector('#status.wrong').innerText.includes('no camera')")
    assert stage.run(f"{camera}.innerText") == "Use the camera"
    # It is refused.
    stage.run(f"{camera}.click()")
    assert stage.run(f"{camera}.innerText") == "Stop the camera"
    stage.run("allow[3](false)")
    stage.wait(f"{camera}.innerText === 'Use the camera'")
    assert stage.run("document.querySelector('#status.wrong').innerText.includes('no camera')")


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
    assert page.run("document.querySelector('details[open] pre').textContent") == card
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    named = {
        node["name"]["value"]
        for node in nodes
        if node.get("role", {}).get("value") in ("button", "image", "list", "status", "region")
    }
    assert {"Choose a picture", "Use the camera", "Probability of each class"} <= named
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


def test_bars_are_seen_in_colours_of_the_system(page, photograph, tmp_path):
    page.look_like(width=1200, forced=True)
    page.choose("#file", photograph)
    page.wait(f"{SAID} === 'This face looks neutral'")
    box = page.run(
        "(b => [b.x, b.y, b.width, b.height])("
        "document.querySelector('.first .track').getBoundingClientRect())"
    )
    page.screenshot(tmp_path / "forced.png")
    page.look_like(width=1200)
    left, top, width, height = box
    with Image.open(tmp_path / "forced.png") as image:
        full, empty = (
            image.convert("RGB").getpixel((round(left + part * width), round(top + height / 2)))
            for part in (0.1, 0.95)
        )
    assert max(abs(a - b) for a, b in zip(full, empty, strict=True)) > 60
