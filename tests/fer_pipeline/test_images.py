"""Decoding and converting images, against Pillow and against NumPy arithmetic."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fer_pipeline import images as images_lib
from fer_pipeline.errors import UserError

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def encoded(image: np.ndarray, kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def png(samples: np.ndarray) -> bytes:
    """A PNG of uint8 or uint16 [H, W, C], written by hand: Pillow has no 16-bit colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    height, width, channels = samples.shape
    depth = samples.dtype.itemsize * 8
    big_endian = samples.astype(samples.dtype.newbyteorder(">"))
    lines = b"".join(b"\0" + line.tobytes() for line in big_endian)
    header = struct.pack(">IIBBBBB", width, height, depth, COLOUR_TYPES[channels], 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def noise(*shape: int, dtype=np.uint8, seed: int = 0) -> np.ndarray:
    highest = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, highest, shape, dtype, endpoint=True)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture that JPEG does not garble: uint8 [H, W]."""
    rows, columns = np.mgrid[:height, :width]
    wave = 127 + 70 * np.sin(rows / 9) + 50 * np.cos(columns / 7)
    return np.clip(wave, 0, 255).astype(np.uint8)


def grey_by_hand(colour: np.ndarray) -> np.ndarray:
    thousandths = colour[..., :3].astype(int) @ np.array([299, 587, 114])
    return ((thousandths + 500) // 1000).astype(np.uint8)


def resized_by_hand(image: np.ndarray) -> np.ndarray:
    """Antialiased bilinear resize of [H, W] to 48x48 as two matrix products, in float64."""

    def weights(size: int) -> np.ndarray:
        scale = size / 48
        centres = (np.arange(48) + 0.5) * scale - 0.5
        distances = np.abs(np.arange(size)[np.newaxis] - centres[:, np.newaxis])
        triangle = np.clip(1 - distances / max(scale, 1), 0, None)
        return triangle / triangle.sum(axis=1, keepdims=True)

    height, width = image.shape
    return weights(height) @ image @ weights(width).T


def decode(data: bytes) -> tuple[np.ndarray, int]:
    decoded = images_lib.decode_faces([data], ["face"])
    face = decoded.images[0]
    # Without TensorFlow the levels are the same; where sums are fused, one may round otherwise.
    difference = np.abs(images_lib.read_face(data).astype(int) - face)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    return face[..., 0], decoded.converted


def test_a_grey_48x48_png_passes_through_bit_for_bit():
    image = noise(48, 48)
    face, converted = decode(png(image[..., np.newaxis]))
    np.testing.assert_array_equal(face, image)
    assert converted == 0


@pytest.mark.parametrize("options", [{"quality": 92}, {"quality": 60, "progressive": True}])
def test_a_grey_48x48_jpeg_has_the_pixels_that_pillow_decodes(options):
    data = encoded(noise(48, 48), "JPEG", **options)
    face, converted = decode(data)
    np.testing.assert_array_equal(face, np.asarray(Image.open(io.BytesIO(data))))
    assert converted == 0


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colour_becomes_grey_by_bt601_and_alpha_is_ignored(channels):
    image = noise(48, 48, channels, seed=channels)
    expected = image[..., 0] if channels == 2 else grey_by_hand(image)
    face, converted = decode(png(image))
    np.testing.assert_array_equal(face, expected)
    assert converted == 1


def test_grey_levels_of_colour_are_rounded_half_up():
    # 299 * 5 + 587 * 0 + 114 * 0 = 1495 and 114 * 250 = 28500: just below and exactly a half.
    image = np.zeros((48, 48, 3), np.uint8)
    image[0, 0], image[0, 1] = (5, 0, 0), (0, 0, 250)
    assert decode(png(image))[0][0, :2].tolist() == [1, 29]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_samples_are_rounded_to_eight_bits(channels):
    samples = noise(48, 48, channels, dtype=np.uint16)
    eight_bits = np.rint(samples / 257).astype(np.uint8)
    expected = eight_bits[..., 0] if channels < 3 else grey_by_hand(eight_bits)
    face, converted = decode(png(samples))
    np.testing.assert_array_equal(face, expected)
    assert converted == 1


def test_a_palette_png_and_a_bmp_are_read():
    colour = noise(48, 48, 3) // 64 * 64
    palette = Image.fromarray(colour).quantize(64)
    file = io.BytesIO()
    palette.save(file, "PNG")
    expected = grey_by_hand(np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(decode(file.getvalue())[0], expected)
    np.testing.assert_array_equal(decode(encoded(colour, "BMP"))[0], grey_by_hand(colour))


def test_the_first_frame_of_a_gif_counts():
    first, second = np.full((48, 48), 10, np.uint8), np.full((48, 48), 200, np.uint8)
    data = encoded(first, "GIF", save_all=True, append_images=[Image.fromarray(second)])
    np.testing.assert_array_equal(decode(data)[0], first)


@pytest.mark.parametrize("size", [(100, 100), (31, 77), (20, 48), (480, 640)])
def test_other_sizes_are_resized_with_antialiasing(size):
    image = noise(*size)
    face, converted = decode(png(image[..., np.newaxis]))
    exact = resized_by_hand(image)
    # Half a level is rounding; the rest is float32.
    assert np.abs(face - exact).max() < 0.51
    assert converted == 1


def test_a_checkerboard_does_not_alias():
    board = np.indices((480, 480)).sum(axis=0) % 2 * 255
    face, _ = decode(png(board.astype(np.uint8)[..., np.newaxis]))
    assert np.abs(face.astype(int) - 127.5).max() < 2


def test_an_array_is_converted_as_the_file_is():
    colour = noise(100, 80, 3)
    np.testing.assert_array_equal(images_lib.to_face(colour)[..., 0], decode(png(colour))[0])
    np.testing.assert_array_equal(
        images_lib.to_face(colour[..., 0]), images_lib.to_face(colour[..., :1])
    )


def test_an_array_that_is_a_face_comes_back_as_a_copy():
    image = noise(48, 48)
    face = images_lib.to_face(image)
    assert face.shape == (48, 48, 1)
    np.testing.assert_array_equal(face[..., 0], image)
    face[:] = 0
    assert image.any()


def test_arrays_that_are_no_images_are_refused():
    with pytest.raises(TypeError, match="float32"):
        images_lib.to_face(np.zeros((48, 48), np.float32))
    for shape in ((48,), (48, 48, 5), (2, 48, 48, 1), (0, 48, 1)):
        with pytest.raises(ValueError, match="a face wants"):
            images_lib.to_face(np.zeros(shape, np.uint8))


def test_many_small_jpegs_decode_as_each_of_them_alone():
    data = [encoded(noise(48, 48, seed=seed), "JPEG") for seed in range(70)]
    decoded = images_lib.decode_faces(data, [str(i) for i in range(70)])
    expected = np.stack([np.asarray(Image.open(io.BytesIO(one))) for one in data])
    np.testing.assert_array_equal(decoded.images[..., 0], expected)
    assert decoded.kept.tolist() == list(range(70))
    assert decoded.converted == 0


def test_small_jpegs_of_one_other_kind_are_converted_together():
    data = [encoded(np.dstack([smooth(60, 52 + i)] * 3)[:, :52], "JPEG") for i in range(3)]
    decoded = images_lib.decode_faces(data, ["a", "b", "c"])
    for one, face in zip(data, decoded.images, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(one)).convert("RGB"))
        # Colour spaces are converted by two libraries: a level here and there.
        difference = np.abs(face.astype(int) - images_lib.to_face(pixels))
        assert difference.max() <= 1
    assert decoded.converted == 3


def test_large_jpegs_of_one_size_are_not_decoded_side_by_side(monkeypatch):
    monkeypatch.setattr(images_lib, "_decode_jpegs", lambda _: pytest.fail("side by side"))
    data = [encoded(smooth(200, 200), "JPEG")] * 20
    decoded = images_lib.decode_faces(data, [str(i) for i in range(20)])
    expected = images_lib.to_face(np.asarray(Image.open(io.BytesIO(data[0]))))
    assert all((face == expected).all() for face in decoded.images)


def test_sizes_and_kinds_may_be_mixed():
    grey = noise(48, 48)
    data = [
        encoded(smooth(48, 48), "JPEG"),
        encoded(smooth(90, 70), "JPEG"),
        png(grey[..., np.newaxis]),
    ]
    decoded = images_lib.decode_faces(data, ["a", "b", "c"])
    for one, face in zip(data[:2], decoded.images, strict=False):
        pixels = np.asarray(Image.open(io.BytesIO(one)))
        np.testing.assert_array_equal(face, images_lib.to_face(pixels))
    np.testing.assert_array_equal(decoded.images[2, ..., 0], grey)
    assert decoded.converted == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, -2])
def test_a_truncated_file_is_named(kind, part):
    whole = encoded(noise(48, 48), kind)
    cut = whole[: int(part * len(whole))] if part > 0 else whole[:part]
    with pytest.raises(UserError, match=rf"^here/b: .*truncated {kind}\?.*--on_bad_image=skip"):
        images_lib.decode_faces([whole, cut, whole], ["here/a", "here/b", "here/c"])
    with pytest.raises(UserError, match=rf"^not a readable image \(truncated {kind}\?\)$"):
        images_lib.read_face(cut)


@pytest.mark.parametrize("size", [3, 4, 8, 20, 40])
def test_the_stump_of_a_png_is_named(size):
    # TensorFlow quotes some of these bytes in its error, and they are no UTF-8.
    stump = png(noise(48, 48, 1))[:size]
    with pytest.raises(UserError, match=r"^a: not a readable image"):
        images_lib.decode_faces([stump], ["a"])
    with pytest.raises(UserError, match=r"^not a readable image"):
        images_lib.read_face(stump)


def test_an_empty_file_and_a_text_are_named():
    whole = encoded(noise(48, 48), "JPEG")
    with pytest.raises(UserError, match=r"^b: empty file"):
        images_lib.decode_faces([whole, b""], ["a", "b"])
    with pytest.raises(UserError, match=r"^b: not a readable image"):
        images_lib.decode_faces([whole, b"<html>not found</html>"], ["a", "b"])


def test_bad_images_are_skipped_in_order():
    whole = [encoded(noise(48, 48, seed=seed), "JPEG") for seed in range(3)]
    data = [whole[0], whole[1][:200], whole[1], b"", whole[2]]
    decoded = images_lib.decode_faces(data, list("abcde"), on_bad_image="skip")
    expected = images_lib.decode_faces(whole, list("ace"))
    assert decoded.kept.tolist() == [0, 2, 4]
    assert decoded.skipped == ("b", "d")
    np.testing.assert_array_equal(decoded.images, expected.images)


def test_nothing_decodes_to_nothing():
    decoded = images_lib.decode_faces([], [])
    assert decoded.images.shape == (0, 48, 48, 1)
    assert decoded.kept.shape == (0,)


def test_the_decoder_can_be_mapped_over_a_pipeline():
    images = [noise(48, 48, 1), noise(20, 30, 3)]
    dataset = tf.data.Dataset.from_tensor_slices([png(image) for image in images])
    dataset = dataset.map(images_lib.decode_face)
    assert dataset.element_spec[0] == tf.TensorSpec((48, 48, 1), tf.uint8)
    (first, first_converted), (second, second_converted) = dataset.as_numpy_iterator()
    np.testing.assert_array_equal(first, images[0])
    np.testing.assert_array_equal(second, images_lib.to_face(images[1]))
    assert (bool(first_converted), bool(second_converted)) == (False, True)


def test_importing_does_not_import_tensorflow():
    code = (
        "import sys, fer_pipeline.images, fer_pipeline.datasets; print('tensorflow' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "False"
