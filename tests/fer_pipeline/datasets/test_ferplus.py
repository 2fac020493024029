"""Labels of FER+, in a file written here by Microsoft's description of it."""

import hashlib

import numpy as np
import pytest

from fer_pipeline import datasets, library, recipes
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.config import Config
from fer_pipeline.datasets import ferplus, run_data
from fer_pipeline.datasets.splits import fingerprint
from fer_pipeline.errors import UserError
from fer_pipeline.stages import opening
from fer_pipeline.training import epoch as epoch_lib

HEADER = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
)

#: Votes of ten people, in the order of the header, and what they come to.
ROWS = [
    ("Training", "fer0000000.png", "10,0,0,0,0,0,0,0,0,0", "neutral"),
    ("Training", "fer0000001.png", "1,7,2,0,0,0,0,0,0,0", "happy"),
    ("Training", "fer0000002.png", "0,0,9,1,0,0,0,0,0,0", "surprise"),
    ("Training", "fer0000003.png", "2,0,0,6,0,0,2,0,0,0", "sad"),
    ("Training", "fer0000004.png", "0,0,0,0,8,0,0,2,0,0", "angry"),
    ("Training", "fer0000005.png", "0,0,0,0,2,8,0,0,0,0", "disgust"),
    ("Training", "fer0000006.png", "0,0,0,0,0,0,10,0,0,0", "fear"),
    ("Training", "", "0,0,0,0,0,0,0,0,0,10", None),
    ("Training", "fer0000008.png", "2,0,0,0,0,0,0,8,0,0", None),  # contempt
    ("Training", "fer0000009.png", "3,0,0,0,0,0,0,0,7,0", None),  # unknown
    ("Training", "fer0000010.png", "1,0,0,0,0,0,0,0,0,9", None),  # no face
    ("Training", "fer0000011.png", "5,0,0,5,0,0,0,0,0,0", None),  # a tie
    ("Training", "fer0000012.png", "4,3,3,0,0,0,0,0,0,0", None),  # the most, but not the half
    # Five of eight, once the votes of single people are left out.
    ("Training", "fer0000013.png", "5,1,1,3,0,0,0,0,0,0", "neutral"),
    ("Training", "fer0000014.png", "1,1,1,1,1,1,1,1,1,1", None),  # nobody agrees
]
ROWS += [
    (usage, f"{usage}{i}.png", ",".join("9" if j == i else "0" for j in range(10)), name)
    for usage in ("PublicTest", "PrivateTest")
    for i, name in enumerate("neutral happy surprise sad angry disgust fear".split())
]

KEPT = [i for i, row in enumerate(ROWS) if row[-1]]
SAID = (
    "FER+ has labels for 22 of 29 faces; left out: 1 without an image name, 1 contempt, 1 unknown, "
    "1 no face, 3 without a majority"
)


def write_labels(path, rows=ROWS, header=HEADER):
    path.write_text("\r\n".join([header, *(",".join(row[:3]) for row in rows)]) + "\r\n")
    return path


@pytest.fixture
def labels(tmp_path):
    return write_labels(tmp_path / "fer2013new.csv")


@pytest.fixture
def faces(tmp_path):
    """``fer2013.csv``; the level of a face is its row, and every label is angry's 0."""
    lines = [f"0,{' '.join([str(i)] * 2304)},{row[0]}" for i, row in enumerate(ROWS)]
    path = tmp_path / "fer2013.csv"
    path.write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n")
    return path


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_the_majority_labels_a_face_or_leaves_it_out(faces, labels, tmp_path, cache):
    for _ in range(2):  # The second time from the cache, if there is one.
        loaded = datasets.load(faces, ferplus=labels, cache=cache, cache_dir=tmp_path / "cache")
        assert loaded.relabelled == SAID
        found = []
        for split in loaded.splits[:3]:
            levels = split.images[:][:, 0, 0, 0]
            names = [CLASS_NAMES[label] for label in split.labels]
            assert split.labels.dtype == np.int32
            found += zip(levels.tolist(), names, strict=True)
        assert found == [(i, ROWS[i][-1]) for i in KEPT]
        assert [len(split.labels) for split in loaded.splits[:3]] == [8, 7, 7]
        assert loaded.splits.train_votes is None
        assert loaded.splits.label_digest == hashlib.sha256(labels.read_bytes()).hexdigest()


def test_the_distribution_is_of_the_votes_that_count(faces, labels):
    splits = datasets.load(faces, ferplus=labels, ferplus_labels="distribution").splits
    assert splits.train_votes.dtype == np.float32
    expected = [
        {"neutral": 1.0},
        {"happy": 7 / 9, "surprise": 2 / 9},
        {"surprise": 1.0},
        {"neutral": 0.2, "sad": 0.6, "fear": 0.2},
        {"angry": 1.0},  # Contempt is no class.
        {"angry": 0.2, "disgust": 0.8},
        {"fear": 1.0},
        {"neutral": 5 / 8, "sad": 3 / 8},
    ]
    rows = [[shares.get(name, 0.0) for name in CLASS_NAMES] for shares in expected]
    np.testing.assert_allclose(splits.train_votes, rows, rtol=1e-6)
    majority = datasets.load(faces, ferplus=labels).splits
    np.testing.assert_array_equal(splits.train_votes.argmax(axis=1), majority.train.labels)


def test_votes_follow_the_training_images_through_a_cut(faces, labels):
    splits = datasets.load(
        faces, ferplus=labels, ferplus_labels="distribution", validation_fraction=0.5
    ).splits
    levels = splits.train.images[:, 0, 0, 0]
    assert len(levels) == len(splits.train_votes) < 8
    for level, votes in zip(levels, splits.train_votes, strict=True):
        assert CLASS_NAMES[votes.argmax()] == ROWS[level][-1]


def test_batches_hold_the_votes_of_their_images(faces, labels):
    splits = datasets.load(faces, ferplus=labels, ferplus_labels="distribution").splits

    class Session:
        config = Config(augment="flip")
        targets = None

    Session.splits = splits
    [extra] = epoch_lib.extras(Session)
    assert (extra.name, extra.width) == ("votes", 7)
    rows = np.array([6, 0, 3])
    np.testing.assert_array_equal(extra.of(0, rows, np.arange(3)), splits.train_votes[rows])


def test_the_fingerprint_tells_the_labels_apart(faces, labels, tmp_path):
    ways = [{}, {"ferplus": labels}, {"ferplus": labels, "ferplus_labels": "distribution"}]
    # Another file with the same majorities.
    rows = [("Training", "x.png", "9,0,0,0,0,0,0,0,0,0", "neutral"), *ROWS[1:]]
    ways.append({"ferplus": write_labels(tmp_path / "other.csv", rows)})
    assert len({fingerprint(library.load_data(faces, **way)) for way in ways[1:]}) == 3


def test_a_runs_labels_come_with_its_faces_under_any_name(faces, labels, tmp_path):
    chosen = {"ferplus": str(labels), "ferplus_labels": "distribution"}
    splits = datasets.load(faces, **chosen).splits
    config = {"data": str(faces), "fingerprint": fingerprint(splits), **chosen}
    assert run_data.load(config).own
    copy = tmp_path / "copy.csv"
    copy.write_bytes(faces.read_bytes())
    assert run_data.load(config, str(copy)).own
    moved = labels.rename(tmp_path / "moved.csv")
    with pytest.raises(UserError, match=r"fer2013new.csv: No such file"):
        run_data.load(config)
    assert run_data.load(config, ferplus=str(moved)).own
    # The cut of a run is that of its own images.
    cut = chosen | {"ferplus": str(moved), "validation_fraction": 0.5, "seed": 3}
    own = fingerprint(datasets.load(faces, **cut).splits)
    assert run_data.load(config | cut | {"fingerprint": own}, str(copy)).own


def test_the_run_records_the_file_and_its_hash(faces, labels, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # Nothing trains, so that nothing of this process has to be set.
    monkeypatch.setattr(opening.determinism, "configure", lambda **_: 1)
    # Nor do these few faces need to be enough for it.
    monkeypatch.setattr(opening, "check_classes", lambda *_: None)
    chosen = {"data": str(faces), "ferplus": labels.name, "precision": "float32"}
    config = recipes.resolve(Config(**chosen, strategy="one_device"))
    record = opening.open_run(tmp_path / "run", config).record
    assert record["ferplus"] == str(labels)
    assert record["ferplus_sha256"] == hashlib.sha256(labels.read_bytes()).hexdigest()
    assert SAID in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[:-1], "has 28 rows, and .* has 29; both have to be of the same faces"),
        (
            lambda rows: [*rows[:3], ("PublicTest", *rows[3][1:]), *rows[4:]],
            "row 5 has another Usage than that row of",
        ),
        (lambda rows: [("Test", *rows[0][1:]), *rows[1:]], "row 2 has Usage 'Test'"),
        (
            lambda rows: [*rows[:1], ("Training", "x", "a,0,0,0,0,0,0,0,0,0"), *rows[2:]],
            "row 3 has 'a' where a number of votes belongs",
        ),
        (lambda rows: [("Training", "x", "1,2"), *rows[1:]], "row 2 has 4 columns"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(faces, tmp_path, change, said):
    path = write_labels(tmp_path / "fer2013new.csv", change(ROWS))
    with pytest.raises(UserError, match=said):
        datasets.load(faces, ferplus=path)


def test_a_csv_without_usage_has_nothing_to_compare(labels, faces, tmp_path):
    header, *rows = faces.read_text().splitlines()
    assert header.endswith(",Usage")
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(line.rpartition(",")[0] for line in [header, *rows]))
    found = datasets.read(bare, ferplus=labels)
    np.testing.assert_array_equal(found.labels, datasets.read(faces, ferplus=labels).labels)


def test_a_quote_without_an_end_is_one_line(faces, tmp_path):
    path = write_labels(tmp_path / "fer2013new.csv", ROWS)
    text = path.read_text()
    path.write_text(text + '"Training,' + "x" * 200_000)
    with pytest.raises(UserError, match=r"row 31 is no CSV \(field larger"):
        datasets.load(faces, ferplus=path)
    # Lines may end as those of old Macs.
    path.write_text(text.replace("\n", "\r"))
    datasets.check(faces, ferplus=path)
    assert len(datasets.load(faces, ferplus=path).splits.train.labels)


def test_what_is_no_ferplus_file_is_seen_before_the_faces_are_read(faces, tmp_path):
    with pytest.raises(UserError, match=r"row 1 has no column image name, neutral, .*fer2013new"):
        datasets.check(faces, ferplus=faces)
    with pytest.raises(UserError, match=r"gone.csv: No such file or directory; check --ferplus"):
        datasets.check(faces, ferplus=tmp_path / "gone.csv")


def test_images_in_folders_have_no_rows(make_source, labels, train_files, test_files):
    contents = train_files | test_files
    for source in (make_source.folder(contents), make_source.zip(contents)):
        with pytest.raises(UserError, match="rows are those of FER-2013's CSV file"):
            datasets.check(source, ferplus=labels)
    with pytest.raises(UserError, match="rows are those of FER-2013's CSV file"):
        datasets.check("synthetic", ferplus=labels)


def test_a_distribution_needs_votes(faces):
    with pytest.raises(UserError, match=r"needs --ferplus=fer2013new\.csv"):
        datasets.check(faces, ferplus_labels="distribution")


def test_a_row_that_was_skipped_leaves_no_order(faces, labels):
    faces.write_text(faces.read_text().replace("0,5 5", "9,5 5"))
    with pytest.raises(UserError, match="1 rows were skipped"):
        datasets.load(faces, ferplus=labels, on_bad_image="skip")


def test_what_more_than_half_say_is_the_label_by_hand():
    generator = np.random.default_rng(0)
    counts = generator.multinomial(10, [0.1] * 10, 500)
    counts[:250] = generator.multinomial(10, [0.6, 0.2] + [0.025] * 8, 250)
    winner, shares = ferplus.count(counts)
    for row, found, share in zip(counts.tolist(), winner, shares, strict=True):
        heard = [n if n >= 2 else 0 for n in row]
        best = [i for i in range(10) if heard[i] * 2 > sum(heard)]
        assert [found] == (best or [10])
        seven = sum(heard[:7])
        assert share.sum() == pytest.approx(1.0 if seven else 0.0)
