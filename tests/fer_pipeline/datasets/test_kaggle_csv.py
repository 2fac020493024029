"""Kaggle's CSV files, written here by hand."""

import zipfile

import numpy as np
import pytest

from fer_pipeline import datasets
from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.datasets import kaggle_csv, splitting
from fer_pipeline.datasets import splits as splits_lib
from fer_pipeline.errors import UserError

#: The codes of the competition: https://www.kaggle.com/c/challenges-in-representation-learning
CODES = {
    0: "angry",
    1: "disgust",
    2: "fear",
    3: "happy",
    4: "sad",
    5: "surprise",
    6: "neutral",
}


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 48, 48, 1), np.uint8)


@pytest.fixture
def rows(images) -> list[tuple[str, str, str]]:
    """Emotion, pixels and usage of nine images: codes 0 to 6, then 3 and 6."""
    usages = ["Training"] * 7 + ["PublicTest", "PrivateTest"]
    pixels = [" ".join(map(str, image.ravel())) for image in images]
    return list(zip(map(str, [*range(7), 3, 6]), pixels, usages, strict=True))


def write(path, rows, header="emotion,pixels,Usage", order=(0, 1, 2)):
    lines = [header, *(",".join(row[i] for i in order) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def check(faces, images):
    np.testing.assert_array_equal(faces.images, images)
    codes = [*range(7), 3, 6]
    assert [CLASS_NAMES[label] for label in faces.labels] == [CODES[code] for code in codes]
    assert faces.labels.dtype == np.int32
    groups = [splits_lib.TRAIN] * 7 + [splits_lib.PUBLIC_TEST, splits_lib.PRIVATE_TEST]
    assert faces.groups.tolist() == groups


def test_fer2013_csv(tmp_path, rows, images):
    check(kaggle_csv.read(write(tmp_path / "fer2013.csv", rows)), images)


def test_icml_face_data_csv_has_another_order_and_spaces(tmp_path, rows, images):
    header = "emotion, Usage, pixels"
    path = write(tmp_path / "icml_face_data.csv", rows, header, order=(0, 2, 1))
    check(kaggle_csv.read(path), images)


def test_quotes_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path, rows, images):
    quoted = [(code, f'"{pixels}"', usage) for code, pixels, usage in rows]
    path = write(tmp_path / "fer2013.csv", quoted)
    blank = "\r\n \t\r\n,,\r\n\r\n"
    path.write_text("\ufeff\n" + path.read_text().replace("\n", blank), newline="")
    check(kaggle_csv.read(path), images)


def test_a_field_in_quotes_may_hold_commas(tmp_path, rows, images):
    noted = [(code, '"seen, ""twice"", by two"', f'"{pixels}"', u) for code, pixels, u in rows]
    path = write(tmp_path / "x.csv", noted, "emotion,note,pixels,Usage", order=(0, 1, 2, 3))
    check(kaggle_csv.read(path), images)


def test_without_a_usage_the_pictures_say_their_part(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (280, 48, 48, 1)).astype(np.uint8)
    rows = [(str(i % 7), " ".join(map(str, image.ravel()))) for i, image in enumerate(images)]
    path = write(tmp_path / "train.csv", rows, "emotion,pixels", order=(0, 1))
    loaded = datasets.load(path)
    assert loaded.cut.startswith("no part is named: images are cut into")
    # Where their hashes say, but for a class that would have none in a part.
    shares = splitting.pixel_hashes(images) / 2.0**64
    expected = [(shares < 0.8).sum(), ((shares >= 0.8) & (shares < 0.9)).sum()]
    sizes = [len(part.labels) for part in loaded.splits[:3]]
    assert sum(sizes) == 280
    np.testing.assert_allclose(sizes[:2], expected, atol=3)


@pytest.mark.parametrize("where", ["before the pixels", "inside the pixels"])
def test_a_stray_quote_costs_one_row_at_most(tmp_path, rows, images, where):
    code, pixels, usage = rows[2]
    stray = f'"{pixels}' if where == "before the pixels" else pixels.replace(" ", ' "', 1)
    rows[2] = (code, stray, usage)
    path = write(tmp_path / "fer2013.csv", rows)
    if where == "before the pixels":
        check(kaggle_csv.read(path), images)
    else:
        with pytest.raises(UserError, match=r"row 4 has a pixel that is no number: '\""):
            kaggle_csv.read(path)
        faces = kaggle_csv.read(path, on_bad_image="skip")
        assert faces.skipped == (f"{path}: row 4",)
        np.testing.assert_array_equal(faces.images, np.delete(images, 2, axis=0))


def test_a_damaged_zip_of_a_csv_is_one_line(tmp_path, rows):
    path = write(tmp_path / "fer2013.csv", rows)
    zipped = tmp_path / "archive.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "fer2013.csv")
    whole = zipped.read_bytes()
    central = whole.index(b"PK\x01\x02")
    # The last two change what zipfile cannot read: its version, and patched data.
    for position, flip in ((0, 0x9F), (28, 0x9F), (30, 0x9F), (200, 0x9F), (6, 0x9F), (8, 0x20)):
        data = bytearray(whole)
        data[position if position not in (6, 8) else central + position] ^= flip
        zipped.write_bytes(data)
        with pytest.raises(UserError) as raised:
            kaggle_csv.read(zipped)
        assert str(raised.value).startswith(f"{zipped}: ")
        assert "\n" not in str(raised.value)


def test_a_line_without_an_end_is_not_read_into_memory(tmp_path):
    zipped = tmp_path / "zeros.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("fer2013.csv", "emotion,pixels,Usage\n" + "0" * 2**24)
    with pytest.raises(UserError, match=r"row 2 has 65,536 characters or more"):
        kaggle_csv.read(zipped, on_bad_image="skip")


def test_a_csv_inside_a_zip(tmp_path, rows, images):
    path = write(tmp_path / "fer2013.csv", rows)
    zipped = tmp_path / "archive.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "fer2013/fer2013.csv")
        archive.writestr("fer2013/README", "source")
    check(kaggle_csv.read(zipped), images)
    with zipfile.ZipFile(zipped, "a") as archive:
        archive.writestr("train.csv", "emotion,pixels\n")
    with pytest.raises(UserError, match=r"several CSV files \(fer2013/fer2013\.csv, train\.csv\)"):
        kaggle_csv.read(zipped)


#: What is wrong with the third row of images, and what is said of it.
BAD_ROWS = {
    "too few pixels": (lambda r: (r[0], r[1].rpartition(" ")[0], r[2]), "2,303 pixels, not 2,304"),
    "too many pixels": (lambda r: (r[0], r[1] + " 7", r[2]), "2,305 pixels, not 2,304"),
    "no pixels": (lambda r: (r[0], "", r[2]), "0 pixels, not 2,304"),
    "label 9": (lambda r: ("9", r[1], r[2]), "emotion '9', not one of 0 angry, 1 disgust"),
    "no label": (lambda r: ("", r[1], r[2]), "emotion '', not one of"),
    "a word": (lambda r: (r[0], "x" + r[1], r[2]), "a pixel that is no number: 'x"),
    "a fraction": (lambda r: (r[0], r[1] + ".5", r[2]), "a pixel that is no number: '"),
    "too bright": (lambda r: (r[0], "256 " + r[1].partition(" ")[2], r[2]), "pixel of 256, not"),
    "negative": (lambda r: (r[0], "-1 " + r[1].partition(" ")[2], r[2]), "pixel of -1, not"),
    "beyond 32 bits": (
        lambda r: (r[0], f"{2**32} " + r[1].partition(" ")[2], r[2]),
        "pixel of 4294967296, not",
    ),
    "usage": (lambda r: (r[0], r[1], "Practice"), "Usage 'Practice', not one of Training"),
    "cut off": (lambda r: (r[0], r[1]), "has 2 columns, fewer than the header"),
}


@pytest.mark.parametrize(("change", "said"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_is_named_or_skipped(tmp_path, rows, images, change, said):
    rows[2] = change(rows[2])
    path = tmp_path / "fer2013.csv"
    lines = ["emotion,pixels,Usage", *(",".join(row) for row in rows)]
    path.write_text("\n".join(lines))
    with pytest.raises(UserError) as raised:
        kaggle_csv.read(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: row 4 has ")
    assert said in message
    assert message.endswith("; correct or remove it, or pass --on_bad_image=skip")
    faces = kaggle_csv.read(path, on_bad_image="skip")
    np.testing.assert_array_equal(faces.images, np.delete(images, 2, axis=0))
    assert len(faces.labels) == len(faces.groups) == 8
    assert faces.skipped == (f"{path}: row 4",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty file"),
        ("emotion,usage\n0,Training\n", "row 1 has no column pixels (it has emotion, usage)"),
        ("0,1 2 3,Training\n", "row 1 has no column emotion or pixels (it has 0,"),
        ("emotion,pixels,Usage\n", "no faces below its header"),
        ("emotion;pixels;Usage\n0;1 2 3;Training\n", "its columns are separated by semicolons"),
        ("emotion\tpixels\tUsage\n", "its columns are separated by tabs"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, text, said):
    path = tmp_path / "fer2013.csv"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        kaggle_csv.read(path)
    assert str(raised.value).startswith(f"{path}: {said}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_named(tmp_path, rows, encoding):
    path = write(tmp_path / "fer2013.csv", rows)
    path.write_bytes(path.read_text().encode(encoding))
    with pytest.raises(UserError, match=r"its encoding is UTF-16 or UTF-32; save it as UTF-8"):
        kaggle_csv.read(path)


def test_bytes_that_are_no_text_are_a_bad_row(tmp_path, rows):
    path = write(tmp_path / "fer2013.csv", rows)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\xff\xfe" + data[len(data) // 2 :])
    with pytest.raises(UserError, match=r"row 6 has a pixel that is no number"):
        kaggle_csv.read(path)
