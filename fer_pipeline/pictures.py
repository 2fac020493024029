"""Decodes images of any format with Pillow, in bounded memory."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import struct
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_pipeline.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

#: The largest file that is read, far larger than any image of a face.
MAX_BYTES = 2**26

#: The formats that are read, by the first bytes of their files.
_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"RIFF": "WEBP",
}
FORMATS: tuple[str, ...] = tuple(sorted(set(_MAGIC.values())))

#: A format that is read where the extra ``images`` is installed.
HEIF = "HEIF"

#: Brands of HEIC files (ISO/IEC 23008-12, B.4); one of them stands in the first bytes, not always
#: first. AVIF files have others.
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))

#: Bytes that are needed to recognise a format.
MAGIC_BYTES = 32

#: Chunks and keys in which a PNG may have an orientation.
_PNG_ORIENTATIONS = (b"eXIf", b"Raw profile type", b"tiff:Orientation")

#: The last chunk of a PNG: its name and checksum.
_PNG_END = b"IEND\xaeB`\x82"

#: How a segment of a JPEG begins: marker and length; and what follows where the marker begins a
#: frame: bits, height, width, channels (ITU-T T.81, B.1.1.4 and B.2.2).
_SEGMENT, _FRAME = struct.Struct(">HH"), struct.Struct(">BHHB")

#: Pixels of the largest image that TensorFlow decodes: many at a time, each with three channels of
#: 32 bits.
_SMALL = 2**18

#: Pixels of the largest image of which several are decoded at a time.
_LARGE = 2**24

#: Held while a larger one is decoded: several at a time would take gigabytes.
_one_at_a_time = threading.Lock()

#: Pixels that are converted to grey at a time.
_STRIP = 2**20

#: Thousandths of red, green and blue in grey, as in ``images.to_grayscale``.
_GREY = np.array([299, 587, 114], np.float32)

#: EXIF's and TIFF's tags: TIFF 6.0, section 8.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _BLACK_IS_ZERO, _ORIENTATION = 258, 262, 1, 274


def format_of(encoded: bytes) -> str | None:
    """The format of a file by its first ``MAGIC_BYTES``: one of ``FORMATS``, ``HEIF``, or None."""
    # The second four bytes after ``ftyp`` are a version.
    brands = {encoded[at : at + 4] for at in range(8, MAGIC_BYTES, 4)}
    if encoded[4:8] == b"ftyp" and not brands.isdisjoint(_HEIC_BRANDS):
        return HEIF
    kind = next((kind for magic, kind in _MAGIC.items() if encoded.startswith(magic)), None)
    # "BM" and "RIFF" alone may also begin a text or a sound.
    other = {"WEBP": encoded[8:12] != b"WEBP", "BMP": any(encoded[6:10])}
    return None if other.get(kind) else kind


def is_readable(kind: str | None) -> bool:
    """Whether files of a format of ``format_of`` can be read."""
    return kind in FORMATS or (kind == HEIF and reads_heif())


@functools.cache
def reads_heif() -> bool:
    """Whether the extra ``images`` is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def read_plain_header(encoded: bytes) -> tuple[str, int, int, int] | None:
    """Format, width, height and channels of a plain image: one that TensorFlow decodes correctly.

    Plain are small PNGs, and small JPEGs (baseline, extended or progressive) of 8 bits that are not
    CMYK, if they have no orientation. For all other files the result is None. The channels of a PNG
    are not read and given as 0.
    """
    with contextlib.suppress(struct.error):  # The file ends too early.
        if encoded.startswith(b"\x89PNG"):
            width, height = struct.unpack_from(">II", encoded, 16)
            turned = any(mark in encoded for mark in _PNG_ORIENTATIONS)
            return None if turned or width * height > _SMALL else ("PNG", width, height, 0)
        # A JPEG's orientation is in a segment 0xFFE1, before the frame or before the scan.
        at, marker = 2, 0xFFE0 if encoded.startswith(b"\xff\xd8\xff") else 0
        while marker > 0xFF00 and marker != 0xFFE1:
            marker, length = _SEGMENT.unpack_from(encoded, at)
            if 0xFFC0 <= marker <= 0xFFC2:
                depth, height, width, channels = _FRAME.unpack_from(encoded, at + 4)
                turned = b"\xff\xe1" in encoded[at : encoded.find(b"\xff\xda", at)]
                plain = depth == 8 and channels in (1, 3) and width * height <= _SMALL
                return ("JPEG", width, height, channels) if plain and not turned else None
            at += 2 + length
    return None


def read_header(encoded: bytes) -> tuple[str, int, int, str]:
    """Format, width, height and Pillow's colour mode of an image, without decoding it.

    Raises:
      Exception: of any kind, for a damaged file.
    """
    plain = read_plain_header(encoded)
    if plain and plain[0] == "JPEG":
        return (*plain[:3], "L" if plain[3] == 1 else "RGB")
    with _pillow().open(io.BytesIO(encoded), formats=FORMATS) as image:
        return image.format, image.width, image.height, image.mode


def read(encoded: bytes) -> tuple[np.ndarray, bool]:
    """Decodes an image to upright grey levels uint8 ``[H, W]``, and whether it had exactly these.

    Raises:
      UserError: it is not read; says why, but not which file.
      Exception: of any kind, for a damaged file.
    """
    with _loaded(encoded) as (image, strips, orientation):
        levels = np.empty((image.height, image.width), np.uint8)
        for rows, strip in strips:
            levels[rows] = strip if strip.ndim == 2 else to_grey(strip)
    return _upright(levels, orientation), image.mode == "L" and orientation not in range(2, 9)


def read_colour(encoded: bytes) -> np.ndarray:
    """Decodes an image to upright colours: uint8 RGB ``[H, W, 3]``.

    The grey levels of these colours are those of ``read``.

    Raises:
      UserError, Exception: as ``read``.
    """
    with _loaded(encoded) as (image, strips, orientation):
        colours = np.empty((image.height, image.width, 3), np.uint8)
        for rows, strip in strips:
            colours[rows] = strip if strip.ndim == 3 else strip[..., np.newaxis]
    return np.ascontiguousarray(_upright(colours, orientation))


def from_pillow(image: Image.Image) -> np.ndarray:
    """The upright pixels of a Pillow image, converted as those of a file are.

    Returns:
      uint8 ``[H, W]`` for grey modes, ``[H, W, 3]`` for all others.

    Raises:
      UserError: it is damaged or has no pixels, or its samples are of 12 or 32 bits.
    """
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"not a readable image ({error})") from error
    if not (image.width and image.height):
        raise UserError(f"an image of {image.width}x{image.height} pixels")
    orientation = 1
    with contextlib.suppress(Exception):  # Damaged metadata is ignored.
        orientation = image.getexif().get(_ORIENTATION, 1)
    pixels = np.concatenate([strip for _, strip in _strips(image, None)]).astype(np.uint8)
    return np.ascontiguousarray(_upright(pixels, orientation))


@contextlib.contextmanager
def _loaded(
    encoded: bytes,
) -> Iterator[tuple[Image.Image, Iterator[tuple[slice, np.ndarray]], int]]:
    """An image with its pixels, these in strips (``_strips``), and its orientation."""
    pillow = _pillow()
    limit = pillow.MAX_IMAGE_PIXELS or np.inf
    formats = FORMATS
    if format_of(encoded) == HEIF:
        _register_heif()
        formats = (HEIF,)
    try:
        image = pillow.open(io.BytesIO(encoded), formats=formats)
        pixels = image.width * image.height
    except pillow.DecompressionBombError:
        pixels = np.inf
    if pixels > limit:
        raise UserError(f"more than {limit:,} pixels; make it smaller")
    with _one_at_a_time if pixels > _LARGE else contextlib.nullcontext():
        low_bytes = _low_bytes(image, encoded)
        image.load()
        # Pillow is content with all pixels, TensorFlow is not.
        if image.format == "PNG" and _PNG_END not in encoded:
            raise EOFError("truncated")
        orientation = 1
        with contextlib.suppress(Exception):  # Damaged metadata is ignored.
            orientation = image.getexif().get(_ORIENTATION, 1)
        yield image, _strips(image, low_bytes), orientation
        image.close()  # Frees its pixels.


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turns ``[H, W, ...]`` as EXIF's orientation says."""
    # From 5 on, rows and columns are exchanged; the others start at another corner.
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


@functools.cache
def _pillow() -> Any:
    """Imports Pillow's ``Image``, and silences its warnings about odd files."""
    from PIL import Image

    warnings.filterwarnings("ignore", module=r"PIL\.")
    return Image


@functools.cache
def _register_heif() -> None:
    """Has Pillow open HEIC files; raises UserError without the extra ``images``."""
    if not reads_heif():
        raise UserError("a HEIC image; pip install 'fer_pipeline[images]' to read it")
    import pillow_heif

    # Smaller images inside the file are of no use here.
    pillow_heif.register_heif_opener(thumbnails=False)


def _low_bytes(image: Image.Image, encoded: bytes) -> Image.Image | None:
    """The low bytes of a PNG with 16-bit colour or alpha; None for any other image.

    Pillow itself keeps the high bytes alone. Read in the other byte order, it keeps the low ones.

    Args:
      image: opened, but not loaded.
      encoded: its file.
    """
    tile = image.tile[0] if image.format == "PNG" and image.tile else None
    if not tile or tile.args not in ("RGB;16B", "RGBA;16B", "LA;16B"):
        return None
    low = _pillow().open(io.BytesIO(encoded), formats=["PNG"])
    grey = tile.args == "LA;16B"
    # High and low byte of grey, then of alpha, as if they were four channels.
    low.tile = [tile._replace(args="RGBA" if grey else tile.args.replace("16B", "16L"))]
    low.load()
    return low.getchannel(1) if grey else low


def _strips(
    image: Image.Image, low_bytes: Image.Image | None
) -> Iterator[tuple[slice, np.ndarray]]:
    """A loaded image from top to bottom: the rows, and 0..255 ``[h, W]`` or ``[h, W, 3]``."""
    deep = image.mode.startswith("I;16")
    tags = getattr(image, "tag_v2", {})
    usual = (tags.get(_BITS_PER_SAMPLE, (16,)), tags.get(_PHOTOMETRIC, _BLACK_IS_ZERO))
    # Pillow returns 12-bit images too dark and inverted 16-bit ones as negatives.
    if image.mode in ("I", "F") or (deep and usual != ((16,), _BLACK_IS_ZERO)):
        raise UserError("samples of 12 or 32 bits, or inverted ones of 16; save it with 8 bits")
    height = 1 + _STRIP // image.width
    for top in range(0, image.height, height):
        rows = slice(top, min(top + height, image.height))
        area = (0, rows.start, image.width, rows.stop)
        strip = image.crop(area)
        if deep:
            yield rows, (np.asarray(strip).astype(np.int32) + 128) // 257
        elif image.mode in ("1", "L", "LA"):
            yield rows, np.asarray(strip.convert("L"))
        else:
            colour = np.asarray(strip.convert("RGB"))
            if low_bytes:
                low = np.asarray(low_bytes.crop(area).convert("RGB"))
                colour = (256 * colour.astype(np.int32) + low + 128) // 257
            yield rows, colour


def to_grey(colour: np.ndarray) -> np.ndarray:
    """Grey levels of colours 0..255, any ``[..., C]`` with C of 3 or more -> uint8 ``[...]``."""
    # As in ``images.to_grayscale``; whole numbers below 2**24 are exact in float32.
    thousandths = colour[..., :3].astype(np.float32) @ _GREY
    return ((thousandths + 500) / 1000).astype(np.uint8)
