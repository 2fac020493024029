"""Films are written and read back, and whatever is wrong with one is one line."""

import contextlib
import itertools
import sys
import threading
import types
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from fer_pipeline.errors import UserError
from fer_pipeline.inference.faces import asking, video
from fer_pipeline.inference.results import Prediction, Unreadable
from fer_pipeline.inference.sources import Source


def pictures(count, size=(64, 48)):
    """A bright square moves to the right."""
    for i in range(count):
        picture = np.full((size[1], size[0], 3), 40, np.uint8)
        picture[10:30, 2 * i : 2 * i + 20] = (220, 120, 60)
        yield picture


def write(path, count=12, **options):
    with video.write(path) as add:
        for i, picture in enumerate(pictures(count, **options)):
            add(i / 25, picture)


def test_a_film_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "film.mp4"
    # H.264 has even numbers of rows and columns.
    write(path, size=(65, 49))
    frames = list(video.read(str(path)))
    assert [frame.number for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(12) / 25, atol=1e-3)
    for frame, wanted in zip(frames, pictures(12, size=(65, 49)), strict=True):
        assert frame.pixels().shape == (48, 64, 3)
        assert np.abs(frame.pixels().astype(int) - wanted[:48, :64]).mean() < 4
    assert [entry.name for entry in path.parent.iterdir()] == ["film.mp4"]


def test_a_film_on_its_side_is_turned():
    pixels = np.asarray(next(pictures(1)))
    frame = types.SimpleNamespace(rotation=-90, to_ndarray=lambda format: pixels)
    # FFmpeg's -90 is clockwise, as in Pillow.
    wanted = np.asarray(Image.fromarray(pixels).rotate(-90, expand=True))
    np.testing.assert_array_equal(video._pixels(frame), wanted)


@pytest.mark.parametrize("content", [b"", b"no film", None])
def test_what_is_no_film_is_refused(tmp_path, content):
    path = tmp_path / "film.mp4"
    if content is None:
        write(path)
        content = path.read_bytes()[:400]
    path.write_bytes(content)
    with pytest.raises(video.UnreadableError, match="cannot be read as a film"):
        next(video.read(str(path)))


def test_a_film_without_a_frame_is_not_one_without_a_face(tmp_path, monkeypatch):
    """As FFmpeg decodes one that was cut off before its second key frame."""
    path = tmp_path / "film.mkv"
    opened = (types.SimpleNamespace(decode=lambda _: iter(())), types.SimpleNamespace())
    opened[1].average_rate = None
    monkeypatch.setattr(video, "_opened", lambda _: contextlib.nullcontext(opened))
    question = asking.Question(annotated=tmp_path / "copies")
    answers = [*itertools.chain(*asking.of_files([Source(str(path))], question))]
    assert answers == [Unreadable(str(path), "no frame of it can be decoded")]
    assert not list(tmp_path.glob("copies/*"))


def test_seconds_begin_with_the_first_frame(tmp_path):
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i, picture in enumerate(pictures(4)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = 3600 * 25 + i, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    seconds = [frame.seconds for frame in video.read(str(path))]
    np.testing.assert_allclose(seconds, [0, 0.04, 0.08, 0.12], atol=1e-3)


def test_frames_of_another_size_are_scaled_and_not_cut(tmp_path):
    path = tmp_path / "film.mp4"
    small = next(pictures(1))
    with video.write(path) as add:
        add(0.0, small)
        add(0.1, small.repeat(2, 0).repeat(2, 1))
        add(0.2, small[::2, ::2])
    frames = [frame.pixels() for frame in video.read(str(path))]
    assert [frame.shape for frame in frames] == [small.shape] * 3
    for frame in frames[1:]:
        assert np.abs(frame.astype(int) - small).mean() < 6


def test_a_name_with_a_colon_is_no_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("12:30.mp4")
    answers = [*itertools.chain(*asking.of_files([Source("12:30.mp4")], asking.Question()))]
    assert answers == [Prediction.of_nobody("12:30.mp4")]


@pytest.mark.parametrize("camera", ["97", "no such file.mp4"])
def test_a_camera_that_is_not_there_is_refused(camera):
    with pytest.raises(video.UnreadableError, match=r"no such camera|cannot be read"):
        next(video.watch(camera))


def stop_after(count, path, error):
    with video.write(path) as add:
        for picture in pictures(count):
            add(0.1, picture)
        raise error


def test_ctrl_c_keeps_what_was_filmed_and_a_failure_does_not(tmp_path):
    path = tmp_path / "film.mp4"
    for error, there in ((ValueError, False), (KeyboardInterrupt, True)):
        with pytest.raises(error):
            stop_after(5, path, error)
        assert path.exists() == there
    assert len(list(video.read(str(path)))) == 5
    with pytest.raises(UserError, match="no frame"), video.write(tmp_path / "empty.mp4"):
        pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["film.mp4"]


def test_a_slow_reader_gets_the_newest_frame():
    taken = threading.Event()

    def frames():
        for i in range(1000):
            # The third frame waits until the first one has been taken.
            if i == 2:
                taken.wait()
            yield video.Frame(i, i / 30, lambda i=i: np.full((2, 2, 3), i % 256, np.uint8))
        raise ValueError("unplugged")

    newest = video.newest(frames())
    numbers = [next(newest).number]
    taken.set()

    def watch():
        for frame in newest:
            numbers.append(frame.number)
            assert (frame.pixels() == frame.number % 256).all()

    with pytest.raises(ValueError, match="unplugged"):
        watch()
    assert numbers[0] in (0, 1)
    assert numbers == sorted(set(numbers))
    # The last one is the newest when the camera breaks.
    assert numbers[-1] == 999


def test_without_the_extra_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"to read film.mp4: pip install 'fer_pipeline\[faces\]'"):
        next(video.read("film.mp4"))


@pytest.mark.parametrize("size", [(64, 1), (1, 64)])
def test_frames_of_one_row_or_column_are_refused(tmp_path, size):
    with (
        pytest.raises(video.UnreadableError, match=rf"no copy .* {size[0]}x{size[1]} pixels"),
        video.write(tmp_path / "film.mp4") as add,
    ):
        add(0.0, np.zeros((size[1], size[0], 3), np.uint8))
    assert not list(tmp_path.iterdir())
