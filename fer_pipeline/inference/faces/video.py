"""Frames of a video file or a camera, read and written with FFmpeg's libraries (PyAV)."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from fer_pipeline.atomic_files import atomic_write
from fer_pipeline.errors import UserError
from fer_pipeline.inference.faces.extra import missing

if TYPE_CHECKING:
    import av
    import numpy as np

#: Files with these endings are films.
SUFFIXES = (".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")

#: Pixels of the largest frame: 8K.
_MOST_PIXELS = 7680 * 4320

#: Parts of a second in which a written film counts.
_TICKS = 1000


class UnreadableError(UserError):
    """A film that cannot be read; the message says why, but not which."""


class Frame(NamedTuple):
    """A frame of a film.

    Attributes:
      number: from 0.
      seconds: since the beginning.
      pixels: decodes it on demand: upright uint8 RGB ``[H, W, 3]``.
    """

    number: int
    seconds: float
    pixels: Callable[[], np.ndarray]


def is_video(path: str) -> bool:
    """Whether a file is a film, told from its name."""
    return path.lower().endswith(SUFFIXES)


def read(path: str) -> Iterator[Frame]:
    """The frames of a video file, one after the other.

    Raises:
      UnreadableError: it cannot be read, or is damaged in the middle.
      UserError: the extra ``faces`` is not installed.
    """
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        yield from _frames(container, stream)


def watch(camera: str) -> Iterator[Frame]:
    """The frames of a camera as they come; those that come too fast are left out.

    Args:
      camera: its number, as in ``/dev/video0``; or a file or an address that FFmpeg opens, of which
        no frame is left out.

    Raises:
      UnreadableError: it is not there or cannot be read.
      UserError: the extra ``faces`` is not installed.
    """
    if not camera.isdecimal():
        yield from read(camera)
        return
    device = f"/dev/video{camera}"
    if not os.path.exists(device):
        raise UnreadableError(f"no such camera ({device} is not there)")
    with _opened(device, format="v4l2") as (container, stream):
        yield from newest(_frames(container, stream))


def newest(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Reads frames in a thread of its own, and yields the newest one each time it is asked."""
    changed, slot = threading.Condition(), []
    state: dict[str, Any] = {"wanted": True, "ended": False, "error": None}

    def run() -> None:
        try:
            for frame in frames:
                pixels = frame.pixels()  # The decoder may use its buffer again.
                with changed:
                    slot[:] = [frame._replace(pixels=lambda pixels=pixels: pixels)]
                    changed.notify()
                    if not state["wanted"]:
                        return
        except BaseException as error:
            state["error"] = error
        finally:
            with changed:
                state["ended"] = True
                changed.notify()

    thread = threading.Thread(target=run, name="camera", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: slot or state["ended"])
                if not slot:
                    break
                frame = slot.pop()
            yield frame
    finally:
        state["wanted"] = False
        thread.join(2)
    if state["error"]:
        raise state["error"]


@contextlib.contextmanager
def write(
    path: str | os.PathLike[str], origin: str = ""
) -> Iterator[Callable[[float, np.ndarray], None]]:
    """Writes a film in H.264, without sound. It appears when the block ends.

    If the block is left early, by Ctrl-C or because nobody wants more, the film ends there. After
    any other exception there is none.

    Args:
      path: ends with ``.mp4``.
      origin: a comment in the file.

    Yields:
      A function of seconds since the beginning and a frame, uint8 RGB ``[H, W, 3]``. An odd last
      row or column is left out, since H.264 halves the colours. Frames of another size than the
      first, as calls and conferences have them, are scaled to that.

    Raises:
      UnreadableError: frames are one pixel high or wide.
      UserError: it cannot be written, or there was no frame.
    """
    import numpy as np

    av = _av(f"to write {os.fspath(path)}")
    stopped = None
    with atomic_write(path) as temporary, av.open(str(temporary), "w") as container:
        container.metadata["comment"] = origin
        stream = size = None
        last = -1

        def add(seconds: float, pixels: np.ndarray) -> None:
            nonlocal stream, size, last
            stream, size = stream or _encoder(container, pixels), size or pixels.shape
            if pixels.shape == size:
                pixels = pixels[: stream.height, : stream.width]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = frame.reformat(stream.width, stream.height)
            last = max(last + 1, round(_TICKS * seconds))
            frame.pts, frame.time_base = last, Fraction(1, _TICKS)
            container.mux(stream.encode(frame))

        try:
            yield add
        except (KeyboardInterrupt, GeneratorExit) as left:
            stopped = left
        if stream is None:
            raise stopped or UserError(f"{path}: not written, no frame could be read")
        container.mux(stream.encode())
    if stopped:
        raise stopped


def _encoder(container: av.container.OutputContainer, pixels: np.ndarray) -> Any:
    height, width = (length - length % 2 for length in pixels.shape[:2])
    if not (height and width):
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise UnreadableError(f"no copy of it is possible, H.264 has no frames of {size} pixels")
    # The quick preset: on one core the slower ones take longer than the detector.
    stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "20"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = Fraction(1, _TICKS)
    return stream


def _frames(container: Any, stream: Any) -> Iterator[Frame]:
    rate = float(stream.average_rate or 30)
    number, start = -1, None
    for number, frame in enumerate(container.decode(stream)):
        if frame.width * frame.height > _MOST_PIXELS:
            raise UnreadableError(f"frames of more than {_MOST_PIXELS:,} pixels; make it smaller")
        seconds = number / rate if frame.time is None else float(frame.time)
        # A camera's clock may begin when the machine was started.
        start = seconds if start is None else start
        yield Frame(number, max(0.0, seconds - start), lambda frame=frame: _pixels(frame))
    if number < 0:
        raise UnreadableError("no frame of it can be decoded")


def _pixels(frame: av.VideoFrame) -> np.ndarray:
    """A decoded frame, turned as its rotation says (phones film on their side)."""
    import numpy as np

    pixels = frame.to_ndarray(format="rgb24")
    # Anticlockwise, in FFmpeg and in NumPy.
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


@contextlib.contextmanager
def _opened(path: str, **options: Any) -> Iterator[tuple[Any, Any]]:
    av = _av(f"to read {path}")
    try:
        with av.open(path, **options) as container:
            if not container.streams.video:
                raise UnreadableError("no film is in it")
            yield container, container.streams.video[0]
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableError(f"cannot be read as a film ({error.strerror or error})") from error


def _av(purpose: str) -> Any:
    try:
        import av
    except ImportError as error:
        raise missing(purpose) from error
    return av
