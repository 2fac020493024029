"""Any image -> 48x48 grey uint8: the one resize and grey conversion everybody uses.

A 48x48 image with one 8-bit channel passes through bit for bit. Everything else is *converted*:

* an alpha channel is ignored, 16-bit samples become 8-bit ones (``v / 257``, rounded),
* colour becomes grey with the BT.601 weights 0.299, 0.587, 0.114, rounded to the nearest level,
* other sizes are resized with antialiased bilinear interpolation, then rounded and clipped.

JPEGs are decoded with the accurate integer DCT, so that a file has the same pixels on every
machine; a truncated file is an error and is not filled up with grey. Of an animated GIF the first
frame counts. Orientation tags are not looked at.

TensorFlow is imported inside the functions: importing this module is free.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from fer_pipeline.errors import UserError
from fer_pipeline.expressions import IMAGE_SIZE

if TYPE_CHECKING:
    import tensorflow as tf

#: A compiled function from a string tensor to what it decodes to.
_Decoder = Callable[["tf.Tensor"], Any]

#: Shape of a face.
FACE_SHAPE: tuple[int, int, int] = (IMAGE_SIZE, IMAGE_SIZE, 1)

#: What to do with a file or row that is no image: stop and name it, or leave it out and count it.
OnBadImage = Literal["fail", "skip"]

_JPEG, _PNG, _GIF = b"\xff\xd8\xff", b"\x89PNG", b"GIF8"

#: Images handed to TensorFlow at a time: enough to hide the call, and what is decoded twice when
#: one of them is bad.
_BATCH = 512

#: Images in the unrolled graph, see ``_small_jpeg_decoder``.
_UNROLLED = 64

#: Files up to this many bytes count as small. A 48x48 JPEG has about 1,800, and even a blank one of
#: this size has no more than a few million pixels, so that 64 of them fit into memory.
_SMALL_FILE = 8192


class Decoded(NamedTuple):
    """What came out of a sequence of encoded images.

    Attributes:
      images: uint8 ``[M, 48, 48, 1]``.
      kept: int64 ``[M]``, ascending: which of the encoded images these are.
      converted: how many of them were not 48x48 with one 8-bit channel.
      skipped: names of the images that could not be read.
    """

    images: np.ndarray
    kept: np.ndarray
    converted: int
    skipped: tuple[str, ...]


def grey(image: tf.Tensor) -> tf.Tensor:
    """Grey levels of an image: uint8 ``[..., C]`` -> uint8 ``[..., 1]``, C from 1 to 4.

    One and two channels are grey (and alpha), three and four are RGB (and alpha). The arithmetic
    is exact: thousandths in int32, rounded half up.
    """
    import tensorflow as tf

    def weighted() -> tf.Tensor:
        red, green, blue = (tf.cast(image[..., c : c + 1], tf.int32) for c in range(3))
        return tf.cast((299 * red + 587 * green + 114 * blue + 500) // 1000, tf.uint8)

    channels = image.shape[-1]
    if channels is not None:
        return weighted() if channels >= 3 else image[..., :1]
    return tf.cond(tf.shape(image)[-1] >= 3, weighted, lambda: image[..., :1])


def resize(image: tf.Tensor) -> tf.Tensor:
    """Antialiased bilinear resize: uint8 ``[..., H, W, 1]`` -> uint8 ``[..., 48, 48, 1]``."""
    import tensorflow as tf

    size = (IMAGE_SIZE, IMAGE_SIZE)
    resized = tf.image.resize(image, size, method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


def face_of(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The face in a decoded image: uint8 ``[H, W, C]`` -> (uint8 ``[48, 48, 1]``, bool).

    The second value says whether the image had to be converted. Works in graphs, for images of
    unknown size and number of channels.
    """
    import tensorflow as tf

    is_face = tf.reduce_all(tf.equal(tf.shape(image), FACE_SHAPE))
    face = tf.cond(is_face, lambda: image, lambda: resize(grey(image)))
    return tf.ensure_shape(face, FACE_SHAPE), tf.logical_not(is_face)


def decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes one JPEG with the reference decoder's settings: scalar string -> uint8 ``[H, W, C]``.

    TensorFlow's defaults leave the DCT to how its libjpeg was built.
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
    """Decodes one image file: scalar string -> (uint8 ``[48, 48, 1]``, bool whether converted).

    JPEG, PNG, GIF (first frame) and BMP are told apart by their first bytes. Made of TensorFlow
    ops alone: it can be mapped over a ``tf.data`` pipeline or embedded in a SavedModel.

    Raises:
      tf.errors.InvalidArgumentError: when it runs, for bytes that are no whole image.
    """
    import tensorflow as tf

    def jpeg() -> tuple[tf.Tensor, tf.Tensor]:
        return decode_jpeg(encoded), tf.constant(False)

    def png() -> tuple[tf.Tensor, tf.Tensor]:
        # Byte 24 of every PNG is its bit depth. Decoded as uint8, 16-bit samples would be cut
        # off rather than rounded. A file that is shorter is filled up: the error of substr would
        # quote it, and bytes that are no text make no Python exception.
        header = tf.strings.join([tf.strings.substr(encoded, 0, 25), b"\0" * 25])
        deep = tf.equal(tf.strings.substr(header, 24, 1), b"\x10")

        def rounded() -> tf.Tensor:
            samples = tf.io.decode_png(encoded, channels=0, dtype=tf.uint16)
            return tf.cast((tf.cast(samples, tf.int32) + 128) // 257, tf.uint8)

        return tf.cond(deep, rounded, lambda: tf.io.decode_png(encoded, channels=0)), deep

    def other() -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_image(encoded, channels=0, expand_animations=False)
        return image, tf.constant(False)

    def png_or_other() -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cond(tf.equal(tf.strings.substr(encoded, 0, 4), _PNG), png, other)

    image, deep = tf.cond(tf.io.is_jpeg(encoded), jpeg, png_or_other)
    face, converted = face_of(tf.ensure_shape(image, (None, None, None)))
    return face, tf.logical_or(converted, deep)


def to_face(image: np.ndarray) -> np.ndarray:
    """The face in an array, converted exactly as the same pixels in a file would be.

    Args:
      image: uint8 ``[H, W]``, ``[H, W, 1]`` or ``[H, W, 3]`` (RGB), of any size; a last channel
        beyond these is alpha and ignored.

    Returns:
      uint8 ``[48, 48, 1]``.

    Raises:
      TypeError: for other dtypes; values in 0..1 taken for grey levels would be a black image.
      ValueError: for other shapes.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise TypeError(f"a face wants uint8 grey levels 0..255, not {image.dtype}")
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.ndim != 3 or not 1 <= image.shape[-1] <= 4 or image.size == 0:
        raise ValueError(f"a face wants [H, W], [H, W, 1] or [H, W, 3], not {image.shape}")
    if image.shape == FACE_SHAPE:
        return image.copy()
    return face_of(image)[0].numpy()


def _built_once(build: Callable[[], _Decoder]) -> Callable[[], _Decoder]:
    """``build``, called once, however many threads want its result at the same time."""
    lock = threading.Lock()
    built = functools.cache(build)

    @functools.wraps(build)
    def get() -> _Decoder:
        with lock:
            return built()

    return get


@_built_once
def _any_decoder() -> _Decoder:
    """``decode_face`` over string ``[B]``; some images of a batch are decoded at the same time."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decode(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.map_fn(
            decode_face,
            encoded,
            parallel_iterations=4 * (os.cpu_count() or 1),
            fn_output_signature=(
                tf.TensorSpec(FACE_SHAPE, tf.uint8),
                tf.TensorSpec([], tf.bool),
            ),
        )

    return decode.get_concrete_function()


@_built_once
def _small_jpeg_decoder() -> _Decoder:
    """JPEGs of one size -> their pixels: string ``[64]`` -> uint8 ``[64, H, W, C]``.

    64 decoders side by side in one graph take a third of the time of the loop in
    ``_any_decoder``, whose bookkeeping costs more than decoding so small an image.
    """
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([_UNROLLED], tf.string)], autograph=False)
    def decode(encoded: tf.Tensor) -> tf.Tensor:
        return tf.stack([decode_jpeg(one) for one in tf.unstack(encoded)])

    return decode.get_concrete_function()


def _decode_small_jpegs(encoded: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """What ``_any_decoder`` does, for a batch that the unrolled graph can take."""
    import tensorflow as tf

    faces = np.empty((len(encoded), *FACE_SHAPE), np.uint8)
    converted = np.zeros(len(encoded), bool)
    for start in range(0, len(encoded), _UNROLLED):
        part = encoded[start : start + _UNROLLED]
        here = slice(start, start + len(part))
        # The last part is filled up: decoding an image a few times more is cheaper than a graph
        # of another size.
        filled = [*part, *part[:1] * (_UNROLLED - len(part))]
        images = _small_jpeg_decoder()(tf.constant(filled))
        if images.shape[1:] != FACE_SHAPE:
            images = resize(grey(images))
            converted[here] = True
        faces[here] = images.numpy()[: len(part)]
    return faces, converted


def _decode_any(encoded: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Faces ``[B, 48, 48, 1]`` and which of them were converted ``[B]``."""
    import tensorflow as tf

    faces, converted = _any_decoder()(tf.constant(encoded, tf.string, [len(encoded)]))
    return faces.numpy(), converted.numpy()


def _decode_batch(encoded: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces ``[M, 48, 48, 1]``, which were converted ``[M]`` and which files are good ``[B]``."""
    import tensorflow as tf

    decoders = [_decode_any]
    if all(len(one) <= _SMALL_FILE and one.startswith(_JPEG) for one in encoded):
        decoders.insert(0, _decode_small_jpegs)
    # An error is a bad image, or in the unrolled graph images of several sizes. Where its message
    # would quote the file's bytes, making it a Python exception fails on them.
    errors = (tf.errors.OpError, UnicodeDecodeError)
    # The decoders exist for the CPU alone; the rest must not wander to an accelerator and back.
    with tf.device("/CPU:0"):
        for decode in decoders:
            with contextlib.suppress(*errors):
                return *decode(encoded), np.ones(len(encoded), bool)
        good = np.zeros(len(encoded), bool)
        faces, converted = [np.empty((0, *FACE_SHAPE), np.uint8)], [np.empty(0, bool)]
        for i, one in enumerate(encoded):
            with contextlib.suppress(*errors):
                face, was_converted = _decode_any([one])
                good[i] = True
                faces.append(face)
                converted.append(was_converted)
        return np.concatenate(faces), np.concatenate(converted), good


def _what_is_wrong(encoded: bytes) -> str:
    """Why an image that did not decode did not."""
    if not encoded:
        return "empty file"
    for magic, kind in ((_JPEG, "JPEG"), (_PNG, "PNG"), (_GIF, "GIF")):
        if encoded.startswith(magic):
            return f"not a readable image (truncated {kind}?)"
    return "not a readable image (JPEG, PNG, GIF and BMP are)"


def decode_faces(
    encoded: Sequence[bytes], names: Sequence[str], *, on_bad_image: OnBadImage = "fail"
) -> Decoded:
    """Decodes image files to faces, in order, on all cores.

    Args:
      encoded: the files' bytes.
      names: what to call each of them in an error.
      on_bad_image: ``"fail"`` raises at the first unreadable image, ``"skip"`` leaves it out.

    Raises:
      UserError: names the first image that cannot be read.
    """
    images = np.empty((len(encoded), *FACE_SHAPE), np.uint8)
    kept, skipped, converted = [], [], 0
    end = 0
    for start in range(0, len(encoded), _BATCH):
        batch = encoded[start : start + _BATCH]
        faces, were_converted, good = _decode_batch(batch)
        for i in np.flatnonzero(~good):
            name = names[start + i]
            if on_bad_image == "fail":
                raise UserError(
                    f"{name}: {_what_is_wrong(batch[i])}; remove it or pass --on_bad_image=skip"
                )
            skipped.append(name)
        images[end : end + len(faces)] = faces
        end += len(faces)
        kept.append(start + np.flatnonzero(good))
        converted += int(were_converted.sum())
    return Decoded(
        images=images[:end],
        kept=np.concatenate([np.empty(0, np.int64), *kept]),
        converted=converted,
        skipped=tuple(skipped),
    )
