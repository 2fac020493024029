"""Data sets on Kaggle, by kagglehub over a local server of its two answers, and by a stand-in."""

import http.server
import io
import json
import sys
import threading
import types
import zipfile

import numpy as np
import pytest

from fer_pipeline import datasets, recipes
from fer_pipeline.config import Config
from fer_pipeline.datasets import kaggle_hub
from fer_pipeline.errors import UserError
from fer_pipeline.stages import opening


@pytest.fixture(autouse=True)
def forgotten():
    """What an earlier test has downloaded."""
    kaggle_hub._download.cache_clear()


@pytest.fixture
def faces(make_files):
    return make_files("train", "1.png") | make_files("test", "1.png", first_level=100)


class Kaggle:
    """A server that knows version 3 of owner/faces."""

    def __init__(self, contents):
        self.status, self.asked = 200, []
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            for name, data in contents.items():
                file.writestr(name, data)
        answers = {
            "GetDataset": json.dumps({"currentVersionNumber": 3}).encode(),
            "DownloadDataset": archive.getvalue(),
        }
        kaggle = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                call = self.path.rpartition("/")[2]
                kaggle.asked.append(call)
                body = answers[call] if kaggle.status == 200 else b"{}"
                self.send_response(kaggle.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def kaggle(faces, tmp_path, monkeypatch):
    pytest.importorskip("kagglehub")
    from kagglesdk import kaggle_env

    served = Kaggle(faces)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # The variable knows a fixed port alone.
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.TEST, served.address)
    yield served
    served.stop()


def test_a_data_set_is_downloaded_once_and_read_as_its_folder_is(
    kaggle, faces, make_source, tmp_path, capsys
):
    loaded = datasets.load("kaggle:owner/faces")
    plain = datasets.load(make_source.folder(faces, "plain"))
    assert loaded.name == "faces"
    listed = datasets.image_files("kaggle:owner/faces", loaded.splits.classes)
    assert listed.path(0) == "train/angry/1.png"
    assert kaggle.asked == ["GetDataset", "DownloadDataset"]
    for one, other in zip(loaded.splits[:3], plain.splits[:3], strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
    kaggle_hub._download.cache_clear()
    datasets.check("kaggle:owner/faces")
    assert kaggle.asked == ["GetDataset", "DownloadDataset", "GetDataset"]
    # What is kept serves without a network, too.
    kaggle.stop()
    kaggle_hub._download.cache_clear()
    folder = tmp_path / "kept/datasets/owner/faces/versions/3"
    assert kaggle_hub.resolve("kaggle:owner/faces") == str(folder)
    assert f"Kaggle cannot be reached; {folder} is used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "does not give it without an account; set KAGGLE_API_TOKEN"),
        (403, "does not give it without an account; set KAGGLE_API_TOKEN"),
        (404, "Kaggle has no such data set; check the owner, the name and the version"),
        (500, "could not be downloaded"),
    ],
)
def test_what_kaggle_refuses_is_one_line_before_tensorflow(kaggle, tmp_path, status, said):
    kaggle.status = status
    config = recipes.resolve(Config(data="kaggle:owner/faces"))
    problem = opening.find_problem(tmp_path / "run", config, chief=False, exporting=False)
    assert str(problem).startswith("--data=kaggle:owner/faces: ")
    assert said in str(problem)
    assert len(str(problem).splitlines()) == 1


def test_without_a_network_a_line_names_the_page(kaggle):
    kaggle.stop()
    page = "https://www.kaggle.com/datasets/owner/faces in a browser"
    with pytest.raises(UserError, match=f"cannot be reached; .* or download {page}"):
        datasets.load("kaggle:owner/faces")


def test_without_kagglehub_a_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(UserError, match=r"pip install 'fer_pipeline\[kaggle\]'"):
        datasets.check("kaggle:owner/faces")


def give(monkeypatch, folder):
    """Has kagglehub download a folder."""
    module = types.SimpleNamespace(dataset_download=lambda handle: str(folder))
    monkeypatch.setitem(sys.modules, "kagglehub", module)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["train/x", "test/x", "notes.csv"], "."),
        (["archive.zip"], "archive.zip"),
        (["fer2013.csv", "fer2013.bib", "example_submission.csv"], "fer2013.csv"),
        (["icml_face_data.csv", "test.csv", "train.csv"], "icml_face_data.csv"),
        (["inner/train/x"], "."),
    ],
)
def test_the_faces_in_a_download_are_found(monkeypatch, make_source, names, chosen):
    folder = make_source.folder(dict.fromkeys(names, b""))
    give(monkeypatch, folder)
    assert kaggle_hub.resolve("kaggle:owner/faces") == str(folder / chosen)


def test_of_several_files_the_user_chooses(monkeypatch, make_source):
    give(monkeypatch, make_source.folder({"a.zip": b"", "b.zip": b""}))
    with pytest.raises(UserError, match=r"holds a.zip, b.zip; pass --data="):
        kaggle_hub.resolve("kaggle:owner/faces")


@pytest.mark.parametrize(
    "name", ["", "faces", "owner/faces/3", "owner/../..", "../..", "a/..", "./b", "a/b c", "/x"]
)
def test_what_is_no_data_set_is_refused_without_asking(monkeypatch, name):
    give(monkeypatch, "never asked for")
    with pytest.raises(UserError, match="expected kaggle:OWNER/NAME"):
        datasets.check(f"kaggle:{name}")


def test_a_run_is_named_after_the_data_set():
    name = "kaggle:msambare/fer2013/versions/1"
    assert datasets.source_name(name) == "fer2013"
    assert not datasets.is_path(name)
