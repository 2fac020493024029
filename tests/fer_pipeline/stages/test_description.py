"""The page and the list of a description, and which images a model is asked about."""

import csv
import hashlib
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fer_pipeline import datasets
from fer_pipeline import describe as command
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import splitting, synthetic
from fer_pipeline.datasets.splits import fingerprint
from fer_pipeline.errors import UserError
from fer_pipeline.inference import pretrained
from fer_pipeline.stages import description, out_of_fold


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Four training, two validation and four test faces of each class; a test face is known."""
    root = tmp_path_factory.mktemp("data") / "a <b> faces"
    for seed, (split, count) in enumerate((("train", 28), ("validation", 14), ("test", 28))):
        labels = np.arange(count) % 7
        for i, (label, image) in enumerate(
            zip(labels, synthetic.render(labels, seed=seed), strict=True)
        ):
            path = root / split / CLASS_NAMES[label] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(path)
    known = (root / "train/happy/3.png").read_bytes()
    (root / "test/happy/3.png").write_bytes(known)
    return root


@pytest.fixture(scope="module")
def written(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "description"
    return description.describe(str(source), folder, model="pretrained"), folder


def test_page_figure_and_list(written, source):
    described, folder = written
    assert sorted(path.name for path in folder.iterdir()) == [
        "description.html",
        "description.png",
        "doubtful.csv",
    ]
    assert Image.open(folder / "description.png").size[0] > 500
    page = (folder / "description.html").read_text()
    assert "<h1>a &lt;b&gt; faces</h1>" in page
    assert not re.search(r"""(src|href)=["'](?!data:image/png;base64,|#)""", page)
    assert "<script" not in page
    for note in described.doubted.notes:
        assert note.replace("'", "&#x27;") in page
    table = description.table(described)
    assert re.search(r"^all +28 +14 +28$", table, re.M)
    assert re.search(r"^equal, in train +- +0 +1$", table, re.M)


def test_the_list_says_what_the_model_said_and_is_a_list_to_exclude(written, source, tmp_path):
    _, folder = written
    with open(folder / "doubtful.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows, "the faces are drawn, the model knows photographs: it must doubt some"
    from fer_pipeline import predict

    for row, answer in zip(rows, predict([source / row["name"] for row in rows]), strict=True):
        pixels = np.asarray(Image.open(source / row["name"]))
        assert row["sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()
        assert row["split"] == row["name"].split("/")[0]
        assert row["label"] == row["name"].split("/")[1] != row["suggested"]
        assert float(row["label_probability"]) == pytest.approx(
            answer.probabilities[row["label"]], abs=1e-4
        )
        assert float(row["suggested_probability"]) == pytest.approx(
            answer.probabilities[row["suggested"]], abs=1e-4
        )
    assert not any(row["split"] == "train" for row in rows)
    # All of them would leave classes without a validation image.
    header, *lines = (folder / "doubtful.csv").read_text().splitlines()
    [first, *_] = [line for line in lines if ",validation," in line]
    of_test = [line for line in lines if ",test," in line]
    (tmp_path / "edited.csv").write_text("\n".join([header, first, *of_test]))
    excluded = datasets.load(source, exclude=tmp_path / "edited.csv").excluded
    assert (excluded.train, excluded.validation) == (0, 1)
    assert (excluded.kept_test, excluded.unmatched) == (len(of_test), [])


def test_no_name_of_a_list_is_a_formula_and_each_still_means_its_class(tmp_path):
    names = ("=1+1", "'=1+1", "@SUM(A1)", "-x", " +y ", "#z", 'a, "b"', "\uff1d2")
    root = tmp_path / "faces"
    for i, label in enumerate(np.arange(5 * len(names)) % len(names)):
        path = root / names[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((48, 48), i, np.uint8)).save(path)
    faces = datasets.read(root)
    train = splitting.positions(str(root), faces).train
    places = train[[np.flatnonzero(faces.labels[train] == label)[0] for label in range(8)]]
    found = SimpleNamespace(
        faces=faces, split_of=np.zeros(40, int), splits=("train",), classes=faces.classes
    )
    suggested = (faces.labels[places] + 1) % 8
    doubts = SimpleNamespace(
        doubts=SimpleNamespace(places=places, suggested=suggested), probabilities=np.zeros((40, 8))
    )
    named = datasets.names(root, faces, places)
    listed = tmp_path / "doubtful.csv"
    listed.write_text(description.as_csv(found, doubts, named), "utf-8")
    with open(listed, encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.lstrip()[:1] in tuple("=+-@\uff1d")]
    excluded = datasets.load(root, exclude=listed).excluded
    assert (excluded.train, excluded.unmatched) == (8, [])
    # The column of names by itself is a list, too.
    paths = tmp_path / "paths.txt"
    paths.write_text(
        "\n".join(row.split(",train,")[0] for row in listed.read_text().splitlines()[1:])
    )
    excluded = datasets.load(root, exclude=paths).excluded
    assert (excluded.train, excluded.unmatched) == (8, [])


def test_images_of_a_training_photograph_are_not_asked_about(written):
    described, _ = written
    found, doubted = described.data, described.doubted
    train = set(found.hashes[found.places.train].tolist())
    assert len(doubted.asked) <= 41
    assert not train & set(found.hashes[doubted.asked].tolist())
    everything, left_out = description.held_out(found, ["train", "test"])
    assert (len(everything), left_out) == (56, 0)
    with pytest.raises(UserError, match="--splits=trian: the data have train, validation, test"):
        description.held_out(found, ["trian"])


@pytest.mark.parametrize(
    ("own", "known", "splits", "said"),
    [
        (True, True, None, "These images were held out"),
        (True, True, ["train"], "knows many of their labels by heart"),
        (False, True, None, "cannot be told"),
        (False, False, None, "Nothing tells what this model was trained on"),
    ],
)
def test_it_is_said_whether_they_were_held_out(written, own, known, splits, said):
    path = pretrained.pretrained_path()
    asked = description.ask(written[0].data, path, splits, name="m", own=own, known=known)
    assert any(said in note for note in asked.notes)


def test_a_runs_own_faces_are_known_by_their_fingerprint(source, tmp_path):
    faces = datasets.read(source)
    listed = tmp_path / "list.txt"
    listed.write_text("train/happy/3.png\n")
    options = {"validation_fraction": 0.5, "seed": 3, "exclude": str(listed)}
    record = options | {"fingerprint": fingerprint(datasets.load(source, **options).splits)}
    places = description.own_places(str(source), faces, record)
    # As in the run, but with the images that it left out.
    wanted = splitting.positions(str(source), faces, validation_fraction=0.5, seed=3)
    np.testing.assert_array_equal(places.train, wanted.train)
    np.testing.assert_array_equal(places.validation, wanted.validation)
    assert description.own_places(str(source), faces, record | {"seed": 4}) is None
    assert description.own_places(str(source), faces, record | {"exclude": "gone.txt"}) is None


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (None, False),
        ({"fingerprint": "0"}, True),
        ({"fingerprint": "0", "exclude": None, "ferplus": None}, True),
        ({"fingerprint": "0", "exclude": "list.csv"}, False),
        ({"fingerprint": "0", "ferplus": "fer2013new.csv"}, False),
    ],
)
def test_a_fingerprint_of_other_labels_tells_nothing_of_the_images(record, told):
    assert description.tells_its_data(record) is told


def test_what_a_model_was_trained_on_stands_beside_it(tmp_path):
    path = pretrained.pretrained_path()
    manifest = json.loads((path.parent / "manifest.json").read_text())
    for place in (path, path.parent):
        assert description.training_record(place)["fingerprint"] == manifest["run"]["fingerprint"]
    stranger = tmp_path / "model.tflite"
    stranger.write_bytes(path.read_bytes())
    assert description.training_record(stranger) is None


def test_an_edited_list_is_kept(source, written):
    _, folder = written
    with pytest.raises(UserError, match=r"doubtful.csv: is there already.*--overwrite"):
        description.describe(str(source), folder, model="pretrained")
    description.check_folder(folder, listing=False, overwrite=False)
    description.check_folder(folder, listing=True, overwrite=True)
    with pytest.raises(UserError, match="is a file; name a folder"):
        description.check_folder(folder / "description.html", listing=False, overwrite=True)


def test_no_network_is_asked_about_a_photograph_it_has_seen(written, monkeypatch):
    found = written[0].data
    seen = []

    def fit_and_ask(faces, fitted, asked, epochs):
        seen.append((fitted, asked))
        return np.eye(7, dtype=np.float32)[faces.labels[asked]]

    monkeypatch.setattr(out_of_fold, "_fit_and_ask", fit_and_ask)
    doubted = description.cross_validate(found, 2)
    train = found.places.train
    for fitted, asked in seen:
        np.testing.assert_array_equal(np.sort(np.concatenate([fitted, asked])), train)
        assert not set(found.photographs[fitted]) & set(found.photographs[asked])
        assert np.bincount(found.faces.labels[asked]).tolist() == [2] * 7
    assert len(seen) == 2
    np.testing.assert_array_equal(doubted.asked, train)
    # Each answer came to the face it was about.
    assert doubted.accuracy == {"train": 1.0}
    with pytest.raises(UserError, match="--folds: a class has too few images"):
        description.cross_validate(found, 5)


def test_images_of_a_photograph_share_a_fold():
    rng = np.random.default_rng(1)
    photographs = rng.integers(0, 60, 200).astype(np.uint64)
    labels = rng.integers(0, 7, 200)
    folds = out_of_fold.folds_of(photographs, labels, 3, seed=0)
    assert all(len(set(folds[photographs == p])) == 1 for p in set(photographs.tolist()))
    assert np.bincount(folds).min() > 40


@pytest.mark.parametrize(
    ("arguments", "flags", "said"),
    [
        ([], {}, "no data given; name one folder, .zip or .csv of faces, kaggle:OWNER/NAME, or"),
        (["a", "b"], {}, "unexpected argument 'b'"),
        (["missing.zip"], {}, "missing.zip: no such file or folder"),
        (["synthetic"], {"model": "gone.tflite"}, "--model=gone.tflite: no such file"),
        (["synthetic"], {"model": "pretrained", "folds": 2}, "--folds: trains networks of its own"),
        (["synthetic"], {"splits": ["train"]}, "--splits: has no effect without --model"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(tmp_path, monkeypatch, arguments, flags, said):
    monkeypatch.chdir(tmp_path)
    for name in ("out", "model", "splits", "folds", "on_bad_image", "overwrite"):
        holder = getattr(command, f"_{name.upper()}")
        value = flags.get(name, holder.default)
        monkeypatch.setattr(command, f"_{name.upper()}", type("Flag", (), {"value": value}))
    with pytest.raises(UserError, match=re.escape(said)):
        command.main(["describe", *arguments])
    assert list(tmp_path.iterdir()) == []
