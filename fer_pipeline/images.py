"""Any image -> 48x48 grey uint8: decoding, conversion to grey and resizing, in one place.

TensorFlow decodes plain JPEGs and PNGs. Pillow decodes everything else: BMP, GIF, TIFF, WebP, CMYK,
large images and those that may have an orientation; with the extra ``images`` HEIC, too.
``read_face`` decodes everything with Pillow, to the same pixels. A file's format is read from its
first bytes, not from its name.

A 48x48 image with one 8-bit channel is kept bit for bit. Everything else is *converted*:

* it is turned by its EXIF or XMP orientation; of several frames or pages the first is used,
* an alpha channel is ignored in all formats,
* 16-bit samples become 8-bit ones (``v / 257``, rounded; of a TIFF in colour the high bytes),
* colour becomes grey with the BT.601 weights 0.299, 0.587, 0.114, rounded to the nearest level,
* other sizes are resized with antialiased bilinear interpolation, then rounded and clipped.

JPEGs are decoded with the accurate integer DCT, so that a file has the same pixels on every
machine. A truncated file is an error; it is not filled up with grey. No image may have more pixels
than Pillow's ``Image.MAX_IMAGE_PIXELS``, 89 million.

TensorFlow and Pillow are imported inside the functions: importing this module is free.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from fer_pipeline import cores, pictures, resizing
from fer_pipeline.classes import IMAGE_SIZE
from fer_pipeline.errors import UserError

if TYPE_CHECKING:
    import tensorflow as tf

#: Shape of a face.
FACE_SHAPE: tuple[int, int, int] = (IMAGE_SIZE, IMAGE_SIZE, 1)

#: What to do with a file or row that is not an image: fail and name it, or skip and count it.
OnBadImage = Literal["fail", "skip"]

#: Images in a call of ``_decode_jpegs``, and the largest number of pixels of one. Larger images are
#: not decoded faster this way, and all 64 are in memory at once.
_UNROLLED, _UNROLLED_PIXELS = 64, 2**13


class Decoded(NamedTuple):
    """The faces decoded from a sequence of encoded images.

    Attributes:
      images: uint8 ``[M, 48, 48, 1]``.
      kept: int64 ``[M]``, ascending: their positions among the encoded images.
      converted: how many of them were not 48x48 with one 8-bit channel.
      skipped: names of the images that could not be read.
    """

    images: np.ndarray
    kept: np.ndarray
    converted: int
    skipped: tuple[str, ...]


def to_grayscale(image: tf.Tensor) -> tf.Tensor:
    """Grey levels of an image: uint8 ``[..., C]`` -> uint8 ``[..., 1]``, C from 1 to 4.

    One and two channels are grey (and alpha), three and four are RGB (and alpha). The arithmetic
    is exact: thousandths in int32, rounded half up.
    """
    import tensorflow as tf

    def weighted() -> tf.Tensor:
        red, green, blue = (tf.cast(image[..., c : c + 1], tf.int32) for c in range(3))
        return tf.cast((299 * red + 587 * green + 114 * blue + 500) // 1000, tf.uint8)

    return tf.cond(tf.shape(image)[-1] >= 3, weighted, lambda: image[..., :1])


def resize(image: tf.Tensor) -> tf.Tensor:
    """Antialiased bilinear resize: uint8 ``[..., H, W, 1]`` -> uint8 ``[..., 48, 48, 1]``."""
    import tensorflow as tf

    size = (IMAGE_SIZE, IMAGE_SIZE)
    resized = tf.image.resize(image, size, method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


def preprocess(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The face in a decoded image: uint8 ``[H, W, C]`` -> (uint8 ``[48, 48, 1]``, bool).

    The second value is whether the image was converted. Works in graphs, for images of unknown size
    and number of channels.
    """
    import tensorflow as tf

    is_face = tf.reduce_all(tf.equal(tf.shape(image), FACE_SHAPE))
    face = tf.cond(is_face, lambda: image, lambda: resize(to_grayscale(image)))
    return tf.ensure_shape(face, FACE_SHAPE), tf.logical_not(is_face)


def decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one JPEG as libjpeg does by default: scalar string -> uint8 ``[H, W, C]``.

    TensorFlow's own defaults leave the choice of DCT to the build of its libjpeg.
    """
    import tensorflow as tf

    return tf.io.decode_jpeg(
        encoded,
        channels=0,
        fancy_upscaling=True,
        try_recover_truncated=False,
        acceptable_fraction=1.0,
        dct_method="INTEGER_ACCURATE",
    )


def decode_face(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes one JPEG or PNG: scalar string -> (uint8 ``[48, 48, 1]``, bool whether converted).

    It consists of TensorFlow ops only, so it can be mapped over a ``tf.data`` pipeline or embedded
    in a SavedModel. Orientation is ignored.

    Raises:
      tf.errors.InvalidArgumentError: at run time, for bytes that are not a complete JPEG or PNG.
    """
    import tensorflow as tf

    def jpeg() -> tuple[tf.Tensor, tf.Tensor]:
        return decode_jpeg(encoded), tf.constant(False)

    def png() -> tuple[tf.Tensor, tf.Tensor]:
        # decode_png also accepts other formats, and misreads some of them.
        is_png = tf.equal(tf.strings.substr(encoded, 0, 4), b"\x89PNG")
        only_png = tf.where(is_png, encoded, "")
        # 8-bit samples are returned as 257 times their value.
        samples = tf.cast(tf.io.decode_png(only_png, channels=0, dtype=tf.uint16), tf.int32)
        levels = (samples + 128) // 257
        return tf.cast(levels, tf.uint8), tf.reduce_any(tf.not_equal(257 * levels, samples))

    image, deep = tf.cond(tf.io.is_jpeg(encoded), jpeg, png)
    face, converted = preprocess(tf.ensure_shape(image, (None, None, None)))
    return face, tf.logical_or(converted, deep)


def to_face(image: np.ndarray) -> np.ndarray:
    """Converts an array to a face, exactly as the same pixels in a file are converted.

    Args:
      image: uint8 ``[H, W]``, ``[H, W, 1]`` or ``[H, W, 3]`` (RGB), of any size; a last channel
        beyond these is alpha and ignored.

    Returns:
      uint8 ``[48, 48, 1]``.

    Raises:
      TypeError: for other dtypes; values in 0..1 used as grey levels would give a black image.
      ValueError: for other shapes.
    """
    image = _with_channels(image)
    if image.shape == FACE_SHAPE:
        return image.copy()
    levels = pictures.to_grey(image) if image.shape[-1] >= 3 else image[..., 0]
    if levels.shape != FACE_SHAPE[:2]:
        levels = resizing.resize(levels, IMAGE_SIZE)
    return levels[..., np.newaxis].copy()


def to_colour(image: np.ndarray) -> np.ndarray:
    """Converts what ``to_face`` takes, with its errors, to colours of the same grey levels.

    Returns:
      uint8 ``[H, W, 3]``, RGB.
    """
    image = _with_channels(image)
    return image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)


def _with_channels(image: np.ndarray) -> np.ndarray:
    """Checks an array of pixels, and gives grey levels a channel: uint8 ``[H, W, C]``."""
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f"a face wants uint8 grey levels 0..255, not {image.dtype}")
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.ndim != 3 or not 1 <= image.shape[-1] <= 4 or image.size == 0:
        raise ValueError(f"a face wants [H, W], [H, W, 1] or [H, W, 3], not {image.shape}")
    return image


def read_face(encoded: bytes) -> np.ndarray:
    """Decodes one image file without TensorFlow, to the pixels that ``decode_faces`` gives.

    Returns:
      uint8 ``[48, 48, 1]``.

    Raises:
      UserError: it cannot be read; says why, but not which file.
    """
    with _named_failures(encoded):
        return to_face(pictures.read(encoded)[0])


def read_colour(encoded: bytes) -> np.ndarray:
    """Decodes one image file to upright colours: uint8 RGB ``[H, W, 3]``.

    ``to_face`` makes of them what ``read_face`` makes of the file.

    Raises:
      UserError: as ``read_face``.
    """
    with _named_failures(encoded):
        return pictures.read_colour(encoded)


@contextlib.contextmanager
def _named_failures(encoded: bytes) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Damaged files make Pillow raise many kinds.
        raise UserError(_describe_failure(encoded)) from error


@functools.cache
def _trace(function: Callable[..., Any], shape: tuple[int | None, ...], dtype: str) -> Any:
    """Traces a function of one tensor on the CPU: image decoders have no GPU kernels."""
    import tensorflow as tf

    with tf.device("/CPU:0"):
        signature = [tf.TensorSpec(shape, dtype)]
        graph = tf.function(function, input_signature=signature, autograph=False)
        return graph.get_concrete_function()


def _decode_mixed(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """``decode_face`` over string ``[B]``, several images in parallel."""
    import tensorflow as tf

    return tf.map_fn(
        decode_face,
        encoded,
        parallel_iterations=4 * cores.usable(),
        fn_output_signature=(tf.TensorSpec(FACE_SHAPE, tf.uint8), tf.TensorSpec([], tf.bool)),
    )


def _decode_jpegs(encoded: tf.Tensor) -> tf.Tensor:
    """JPEGs of one size -> their pixels: string ``[64]`` -> uint8 ``[64, H, W, C]``.

    64 decoders in one graph take half the time of the loop in ``_decode_mixed``, whose
    overhead per step is larger than the cost of decoding so small an image.
    """
    import tensorflow as tf

    return tf.stack([decode_jpeg(one) for one in tf.unstack(encoded)])


def _decode_by_tensorflow(
    encoded: Sequence[bytes], layouts: Sequence[tuple[str, int, int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes plain images: faces ``[B, 48, 48, 1]``, and which were converted ``[B]``."""
    import tensorflow as tf

    kind, width, height, channels = layouts[0]
    alike = len(set(layouts)) == 1 and len(encoded) > _UNROLLED // 8
    with tf.device("/CPU:0"):
        if not alike or kind != "JPEG" or width * height > _UNROLLED_PIXELS:
            faces, converted = _trace(_decode_mixed, (None,), "string")(tf.constant(encoded))
            return faces.numpy(), converted.numpy()
        # Padded: to decode one image a few more times is cheaper than a graph of another size.
        filled = [*encoded, *encoded[:1] * (-len(encoded) % _UNROLLED)]
        decode = _trace(_decode_jpegs, (_UNROLLED,), "string")
        starts = range(0, len(filled), _UNROLLED)
        images = [decode(tf.constant(filled[i : i + _UNROLLED])) for i in starts]
        converted = (height, width, channels) != FACE_SHAPE
        if converted:
            images = [resize(to_grayscale(part)) for part in images]
    return np.concatenate(images)[: len(encoded)], np.full(len(encoded), converted)


def _decode_one(
    encoded: bytes, layout: tuple[str, int, int, int] | None
) -> tuple[np.ndarray, bool]:
    """Decodes one image: the face, and whether it was converted."""
    if layout:
        images, converted = _decode_by_tensorflow([encoded], [layout])
        return images[0], converted[0]
    levels, as_it_is = pictures.read(encoded)
    return to_face(levels), not as_it_is or levels.shape != FACE_SHAPE[:2]


def _describe_failure(encoded: bytes) -> str:
    """Says why an image could not be decoded."""
    if not encoded:
        return "empty file"
    kind = pictures.format_of(encoded)
    of_others = f"{', '.join(pictures.FORMATS)} are"
    return f"not a readable image ({f'truncated {kind}?' if kind else of_others})"


def decode_faces(
    encoded: Sequence[bytes], names: Sequence[str], *, on_bad_image: OnBadImage = "fail"
) -> Decoded:
    """Decodes image files to faces, in order.

    Args:
      encoded: the files' bytes.
      names: the name of each in error messages.
      on_bad_image: ``"fail"`` raises at the first unreadable image, ``"skip"`` leaves it out.

    Raises:
      UserError: names the first image that cannot be read.
    """
    from tensorflow.errors import OpError

    images = np.empty((len(encoded), *FACE_SHAPE), np.uint8)
    converted = np.zeros(len(encoded), bool)
    wrong: dict[int, str] = {}
    layouts = [pictures.read_plain_header(one) for one in encoded]
    plain = [i for i, layout in enumerate(layouts) if layout]
    left = set(range(len(encoded)))
    # All plain images at once; if one of them cannot be decoded, each on its own. (TensorFlow's
    # message may quote bytes of the file that are not UTF-8, hence the UnicodeDecodeError.)
    with contextlib.suppress(OpError, UnicodeDecodeError):
        if plain:
            found = _decode_by_tensorflow([encoded[i] for i in plain], [layouts[i] for i in plain])
            images[plain], converted[plain] = found
            left.difference_update(plain)
    for i in left:
        try:
            images[i], converted[i] = _decode_one(encoded[i], layouts[i])
        except UserError as error:
            wrong[i] = str(error)
        except Exception:  # Damaged files make Pillow raise many kinds.
            wrong[i] = _describe_failure(encoded[i])
    if wrong and on_bad_image == "fail":
        first = min(wrong)
        raise UserError(f"{names[first]}: {wrong[first]}; remove it or pass --on_bad_image=skip")
    kept = np.array([i for i in range(len(encoded)) if i not in wrong], np.int64)
    return Decoded(
        images=images[kept] if wrong else images,
        kept=kept,
        converted=int(converted[kept].sum()),
        skipped=tuple(names[i] for i in sorted(wrong)),
    )
