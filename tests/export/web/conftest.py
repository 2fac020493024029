"""One browser, and one server with a page of every kind that the tests look at."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image

from export.delivery import contents, server
from export.formats import litertjs, web
from fer_pipeline.errors import UserError
from fer_pipeline.inference import pretrained

# At the end: the folders beside it have the packages' names.
sys.path.append(str(Path(__file__).parents[2]))
import chromium


@pytest.fixture(scope="session")
def runtime():
    try:
        return litertjs.read()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def photograph():
    """Grace Hopper, by the US Navy: the path of a JPEG of 512x600 pixels."""
    return Path(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


@pytest.fixture(scope="session")
def browser(photograph, tmp_path_factory):
    """Chromium, whose camera sees the photograph."""
    if not chromium.find():
        pytest.skip("no browser: apt-get install chromium")
    film = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    frame = Image.new("RGB", (640, 480), (96, 120, 144))
    frame.paste(Image.open(photograph).resize((410, 480)), (115, 0))
    with open(film, "wb") as file:
        for _ in range(3):
            frame.save(file, "JPEG", quality=95)
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with chromium.Browser(*flags, f"--use-file-for-fake-video-capture={film}") as opened:
        yield opened


@pytest.fixture(scope="session")
def add_page(runtime):
    """Writes the page of an export's file of one format."""

    def add(folder, source, name):
        given = contents.check_files(source)
        assert web.write(folder, source, given, runtime, formats=(name,))

    return add


@pytest.fixture(scope="session")
def site(add_page, tmp_path_factory):
    """The address of the folder of pages, and that folder."""
    root = tmp_path_factory.mktemp("site")
    (root / "index.html").write_text("<!DOCTYPE html><title>Pages</title>")
    add_page(root / "int8", pretrained.FOLDER, "int8")
    with server.open_server(root, 0) as opened:
        thread = threading.Thread(target=opened.serve_forever, daemon=True)
        thread.start()
        yield f"http://{server.HOST}:{opened.server_address[1]}", root
        opened.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def page(browser, site):
    """The page of the pretrained int8 file, ready to answer."""
    with browser.open(f"{site[0]}/int8/") as opened:
        opened.wait("document.querySelector('#camera').disabled === false")
        opened.run("import('./page.js').then(m => { window.page = m; })")
        opened.run("import('./pixels.js').then(m => { window.pixels = m; })")
        yield opened
        assert opened.problems() == []


@pytest.fixture(scope="session")
def pictures():
    """Twenty pictures: wide and high, larger and smaller than a face, in colour and grey."""
    random = np.random.default_rng(0)
    sizes = [(48, 48), (47, 49), (20, 31), (64, 64), (96, 96), (100, 48), (150, 211), (333, 77)]
    sizes += [(480, 640), (301, 501), (48, 200), (31, 90), (144, 144), (97, 97), (49, 49)]
    sizes += [(240, 320), (128, 64), (190, 48), (60, 333), (255, 256)]
    found = []
    for height, width in sizes:
        # Noise, so that every weight of every pixel counts, over waves of other scales.
        waves = np.sin(np.arange(height)[:, None, None] / 7 + np.arange(width)[:, None] / 5)
        levels = 128 + 60 * waves + random.normal(0, 40, (height, width, 3))
        found.append(levels.clip(0, 255).astype(np.uint8))
    return found
