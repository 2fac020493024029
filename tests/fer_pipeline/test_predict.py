"""The command: rows on stdout, everything else on stderr, and one line for a mistake."""

import csv
import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fer_pipeline.classes import CLASS_NAMES
from fer_pipeline.inference.faces import video

KERNEL = np.random.default_rng(1).normal(0, 0.02, (36, 7)).astype(np.float32)


def faces(count):
    """Pictures of 6x6 even squares: uint8 [N, 48, 48]."""
    squares = np.random.default_rng(0).integers(0, 256, (count, 6, 6), np.uint8)
    return squares.repeat(8, axis=1).repeat(8, axis=2)


def expected(images):
    """What the model says, by NumPy."""
    logits = images[:, ::8, ::8].reshape(-1, 36) @ KERNEL
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    def answer(image):
        return tf.nn.softmax(tf.reshape(image[:, ::8, ::8], [1, 36]) @ KERNEL)

    spec = tf.TensorSpec((1, 48, 48, 1), tf.float32)
    graph = tf.function(answer).get_concrete_function(spec)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph])
    path = tmp_path_factory.mktemp("model") / "model.tflite"
    path.write_bytes(converter.convert())
    path.with_name("labels.txt").write_text("".join(f"{name}\n" for name in CLASS_NAMES))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three faces, one of them on its side as phones store pictures, and two that are none."""
    folder = tmp_path_factory.mktemp("pictures")
    images = faces(3)
    for name, image in zip(("a.png", "b c.png"), images, strict=False):
        Image.fromarray(image).save(folder / name)
    exif = Image.Exif()
    # Turn it clockwise.
    exif[0x0112] = 6
    odd = os.path.join(os.fsencode(folder), b"d\xff\n.png")
    with open(odd, "wb") as file:
        Image.fromarray(np.rot90(images[2])).save(file, "PNG", exif=exif)
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "text.png").write_text("no picture")
    return folder


def start(*arguments, **options):
    line = [sys.executable, "-m", "fer_pipeline.predict", *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(line, text=True, **pipes | options)


def predict(*arguments, stdin="", **options):
    process = start(*arguments, **options)
    out, err = process.communicate(stdin)
    return process.returncode, out, err.splitlines()


def assert_refused(result, *words):
    status, out, [line] = result
    assert (status, out) == (1, "")
    assert line.startswith("error: ")
    for word in words:
        assert str(word) in line


def predict_lightly(*arguments):
    """Status, JSON objects and lines on stderr of a process that imports nothing heavy."""
    script = (
        "import runpy, sys\n"
        "try: runpy.run_module('fer_pipeline.predict', run_name='__main__')\n"
        "finally: print(*{'tensorflow', 'keras', 'h5py', 'matplotlib'} & {*sys.modules})"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, "--format=json", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    *lines, heavy = found.stdout.splitlines()
    assert heavy == ""
    return found.returncode, list(map(json.loads, lines)), found.stderr.splitlines()


def test_answers_without_names_are_said_to_be_so(model, folder, tmp_path):
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(model.read_bytes())
    _, rows, [said, *_] = predict_lightly(f"--model={bare}", folder / "a.png")
    assert said == (
        f"{bare}: nothing names its answers, which are taken for {', '.join(CLASS_NAMES)}; a "
        "labels.txt beside it names them, one a line"
    )
    assert list(rows[0]["probabilities"]) == list(CLASS_NAMES)


def test_a_tflite_file_answers_without_tensorflow(model, folder):
    status, rows, err = predict_lightly(f"--model={model}", folder)
    assert status == 1
    names = [os.fsencode(row["file"]) for row in rows]
    assert [os.path.basename(name) for name in names] == [b"a.png", b"b c.png", b"d\xff\n.png"]
    values = [list(row["probabilities"].values()) for row in rows]
    np.testing.assert_allclose(values, expected(faces(3)), atol=1e-5)
    assert [row["label"] for row in rows] == [CLASS_NAMES[np.argmax(row)] for row in values]
    assert err == [
        f"error: {folder}/cut.png: not a readable image (truncated PNG?)",
        f"error: {folder}/text.png: not a readable image (BMP, GIF, JPEG, PNG, TIFF, WEBP are)",
        "2 could not be read",
    ]


def test_unreadable_pictures_may_be_skipped(model, folder):
    arguments = ("--all", "--on_bad_image=skip", folder / "no.png", folder / "cut.png")
    status, out, err = predict(f"--model={model}", *arguments, folder / "a.png")
    assert status == 0
    assert err == [
        f"{folder}/no.png: skipped, cannot be read (No such file or directory)",
        f"{folder}/cut.png: skipped, not a readable image (truncated PNG?)",
        "2 could not be read",
    ]
    header, row = out.splitlines()
    assert header.split()[-7:] == list(CLASS_NAMES)
    assert row.startswith(f"{folder}/a.png  ")
    label, *percents = row.removeprefix(f"{folder}/a.png").replace("%", "").split()
    [values] = expected(faces(1))
    assert label == CLASS_NAMES[values.argmax()]
    np.testing.assert_allclose(
        list(map(float, percents)), 100 * np.array([values.max(), *values]), atol=0.051
    )


def test_a_list_is_answered_while_it_is_written_and_ctrl_c_ends_it(model, folder):
    process = start(f"--model={model}", "--format=csv", "-")
    process.stdin.write(f"{folder}/a.png\n")
    process.stdin.flush()
    [row] = csv.DictReader(io.StringIO(process.stdout.readline() + process.stdout.readline()))
    assert row["file"] == f"{folder}/a.png"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "\ninterrupted\n")


def test_output_that_nobody_reads_ends_it_quietly(model, folder):
    reader, writer = os.pipe()
    os.close(reader)
    process = start(f"--model={model}", folder / "a.png", stdout=writer)
    os.close(writer)
    _, err = process.communicate()
    assert (process.returncode, err) == (141, "")


def test_mistakes_on_the_command_line_are_one_line_each(model, folder):
    assert_refused(predict(), "no picture given")
    assert_refused(predict("--top=0", "a.png"), "--top=0")
    picture = folder / "a.png"
    assert_refused(predict(f"--annotated={picture}", picture), f"--annotated={picture}: is a file")
    assert_refused(predict(f"--model={folder}/cut.png", f"{folder}/*.png"), "cut.png: not a model")


def test_an_empty_list_has_no_answer_and_stops_no_one(model):
    assert_refused(predict(f"--model={model}", "-"), "no readable picture")


@pytest.fixture(scope="module")
def album(tmp_path_factory, scene):
    """A photograph on its side with two faces, a wall, a film of six frames, and one cut off."""
    album = tmp_path_factory.mktemp("album")
    pixels, boxes = scene((500, 300), [(40, 50, 90), (290, 90, 70)])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels)).save(album / "two.jpg", exif=exif, quality=95)
    Image.new("RGB", (200, 100), (90, 80, 70)).save(album / "wall.png")
    with video.write(album / "film.mp4") as add:
        for i in range(6):
            add(i / 10, scene((320, 240), [(10 + 8 * i, 20, 90)])[0])
    (album / "cut.mov").write_bytes((album / "film.mp4").read_bytes()[:500])
    return album, boxes


def test_faces_are_found_in_photographs_and_films(model, album, tmp_path):
    folder, boxes = album
    paths = [folder / name for name in ("film.mp4", "cut.mov", "two.jpg", "wall.png")]
    options = (f"--model={model}", f"--annotated={tmp_path}", "--every=2")
    status, rows, err = predict_lightly(*options, *paths)
    assert status == 1
    names = [os.path.basename(row["file"]) for row in rows]
    # Films come last.
    assert names == ["two.jpg"] * 2 + ["wall.png"] + ["film.mp4"] * 3
    for row, box in zip(rows, boxes, strict=False):
        assert np.abs(np.subtract(row["box"], box)).max() < 0.25 * box[2]
        assert row["frame"] is row["track"] is None
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert rows[2] | {"file": 0} == dict.fromkeys(rows[2]) | {"file": 0}
    assert [(row["frame"], row["track"]) for row in rows[3:]] == [(0, 1), (2, 1), (4, 1)]
    assert rows[5]["box"][0] - rows[3]["box"][0] == pytest.approx(32, abs=8)
    assert err == [
        f"error: {paths[1]}: cannot be read as a film (Invalid data found when processing input)",
        "no face found in 1 (--faces=never takes a picture as one face)",
    ]
    assert sorted(os.listdir(tmp_path)) == ["film.mp4", "two.jpg", "wall.png"]
    assert Image.open(tmp_path / "two.jpg").size == (500, 300)
    assert len(list(video.read(str(tmp_path / "film.mp4")))) == 6


def test_a_camera_without_a_display_prints_rows(model, album):
    environment = {k: v for k, v in os.environ.items() if "DISPLAY" not in k}
    status, out, err = predict(
        f"--model={model}", f"--camera={album[0] / 'film.mp4'}", "--every=5", env=environment
    )
    assert (status, err) == (0, [])
    assert [line.split("  ")[-1] for line in out.splitlines()[1:]] == [
        "frame 0, face 1",
        "frame 5, face 1",
    ]


def test_a_camera_that_is_not_there_or_beside_paths_is_refused(model):
    assert_refused(predict(f"--model={model}", "--camera=97"), "--camera=97: no such camera")
    assert_refused(predict("--camera=0", "a.png"), "--camera: give no paths beside it")
