"""Every format, depth and palette, against the pixels it was made of and against Pillow."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from fer_pipeline import images, pictures
from fer_pipeline.errors import UserError

ROWS, COLUMNS = np.mgrid[:48, :48]
GREY = np.clip(127 + 70 * np.sin(ROWS / 9) + 50 * np.cos(COLUMNS / 7), 0, 255).astype(np.uint8)
COLOUR = np.stack([GREY, 255 - GREY, GREY.T], axis=-1)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def palette(bits: int) -> Image.Image:
    """``COLOUR`` in a palette whose order has nothing to do with brightness."""
    found = Image.fromarray(COLOUR).quantize(2**bits, dither=Image.Dither.NONE)
    order = np.random.default_rng(0).permutation(len(found.getpalette()) // 3).tolist()
    return found.remap_palette(order)


def bmp(header: bytes, body: bytes, table: bytes = b"") -> bytes:
    """A BMP of a header from its size on, a palette or masks, and pixels."""
    start = 14 + len(header) + len(table)
    return struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + header + table + body


def info(bits: int, compression: int = 0, size: int = 0) -> bytes:
    """BITMAPINFOHEADER of 48x48 pixels."""
    return struct.pack("<IiiHHIIiiII", 40, 48, 48, 1, bits, compression, size, 0, 0, 0, 0)


def table_of(image: Image.Image, bits: int, channels: int = 4) -> bytes:
    colours = np.zeros((2**bits, channels), np.uint8)
    found = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
    colours[: len(found), :3] = found[:, ::-1]
    return colours.tobytes()


def packed(indices: np.ndarray, bits: int) -> bytes:
    """Rows from the bottom up, filled to four bytes."""
    digits = np.unpackbits(indices[::-1, :, np.newaxis], axis=2)[:, :, 8 - bits :]
    rows = np.packbits(digits.reshape(48, -1), axis=1)
    return np.pad(rows, [(0, 0), (0, -rows.shape[1] % 4)]).tobytes()


def sixteen_bits(depths: tuple[int, int, int]) -> tuple[bytes, np.ndarray]:
    """Pixels of red, green and blue with so many bits, and the colours they stand for."""
    words, colours = np.zeros((48, 48), "<u2"), []
    for channel, depth in enumerate(depths):
        level = COLOUR[..., channel].astype(int) >> (8 - depth)
        words = words << depth | level.astype("<u2")
        colours.append(level * 255 // (2**depth - 1))
    return words[::-1].tobytes(), np.stack(colours, axis=-1).astype(np.uint8)


def run_length(indices: np.ndarray, bits: int) -> bytes:
    """RLE8 or RLE4, a run for every pixel."""
    body = bytearray()
    for row in indices[::-1].tolist():
        for index in row:
            body += bytes([1, index << (8 - bits)])
        body += b"\0\0"
    return bytes(body) + b"\0\1"


def gif_with_a_corner() -> bytes:
    """A canvas of 48x48 of whose first frame only 20x20 pixels are drawn, at (5, 9)."""
    drawn = saved(Image.fromarray(GREY[:20, :20]), "GIF")
    start = drawn.index(b"\x2c\0\0\0\0")
    drawn = drawn[: start + 1] + struct.pack("<HH", 5, 9) + drawn[start + 5 :]
    return drawn[:6] + struct.pack("<HH", 48, 48) + drawn[10:]


def bmps() -> dict[str, tuple[bytes, np.ndarray]]:
    found = {}
    for bits in (1, 4, 8):
        image = palette(bits)
        indices, colours = np.asarray(image), np.asarray(image.convert("RGB"))
        table = table_of(image, bits)
        found[f"BMP, palette of {bits} bits"] = (
            bmp(info(bits), packed(indices, bits), table),
            colours,
        )
        if bits > 1:
            body = run_length(indices, bits)
            header = info(bits, {8: 1, 4: 2}[bits], len(body))
            found[f"BMP, RLE{bits}"] = bmp(header, body, table), colours
        old = struct.pack("<IHHHH", 12, 48, 48, 1, bits)
        body = packed(indices, bits)
        found[f"BMP, OS/2, {bits} bits"] = bmp(old, body, table_of(image, bits, 3)), colours
    body, colours = sixteen_bits((5, 5, 5))
    found["BMP, RGB555"] = bmp(info(16), body), colours
    body, colours = sixteen_bits((5, 6, 5))
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    found["BMP, RGB565"] = bmp(info(16, 3), body, masks), colours
    return found


def pictures_of_all_kinds() -> dict[str, tuple[bytes, np.ndarray]]:
    """Files and the colours or grey levels that they stand for."""
    grey, colour = Image.fromarray(GREY), Image.fromarray(COLOUR)
    bilevel = grey.convert("1")
    alpha = Image.fromarray(np.dstack([COLOUR, GREY.T]))
    deep = GREY.astype(np.uint16) * 257 + 100
    paletted = palette(8)
    seen = np.asarray(paletted.convert("RGB"))
    found = bmps()
    for kind in ("PNG", "BMP", "GIF", "TIFF"):
        found[f"{kind}, grey"] = saved(grey, kind), GREY
        found[f"{kind}, 1 bit"] = saved(bilevel, kind), np.asarray(bilevel.convert("L"))
        found[f"{kind}, palette"] = saved(paletted, kind), seen
    for kind, options in {
        "PNG": {},
        "BMP": {},
        "TIFF": {},
        "WEBP": {"lossless": True, "exact": True},
    }.items():
        found[f"{kind}, colour"] = saved(colour, kind, **options), COLOUR
        found[f"{kind}, alpha"] = saved(alpha, kind, **options), COLOUR
    for kind in ("GIF", "PNG"):
        found[f"{kind}, a transparent colour"] = saved(paletted, kind, transparency=3), seen
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "group4"):
        image = bilevel if compression == "group4" else grey
        expected = np.asarray(image.convert("L"))
        found[f"TIFF, {compression}"] = saved(image, "TIFF", compression=compression), expected
    for kind in ("PNG", "TIFF"):
        found[f"{kind}, grey of 16 bits"] = saved(Image.fromarray(deep), kind), GREY
    found["GIF, part of its canvas"] = gif_with_a_corner(), None
    for name, options in {
        "JPEG, grey": {"image": grey},
        "JPEG, progressive": {"image": colour, "progressive": True},
        "JPEG, 4:2:0": {"image": colour, "subsampling": 2},
        "JPEG, CMYK": {"image": colour.convert("CMYK")},
    }.items():
        found[name] = saved(options.pop("image"), "JPEG", quality=90, **options), None
    return found


KINDS = pictures_of_all_kinds()


def weighted(colours: np.ndarray) -> np.ndarray:
    if colours.ndim == 2:
        return colours
    thousandths = colours[..., :3].astype(int) @ np.array([299, 587, 114])
    return ((thousandths + 500) // 1000).astype(np.uint8)


def face_of(encoded: bytes) -> np.ndarray:
    return images.decode_faces([encoded], ["face"]).images[0, ..., 0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_has_the_pixels_it_was_made_of_and_pillow_decodes(kind):
    encoded, colours = KINDS[kind]
    face = face_of(encoded)
    if colours is not None:
        np.testing.assert_array_equal(face, weighted(colours))
    if "16 bits" not in kind:
        with Image.open(io.BytesIO(encoded)) as image:
            np.testing.assert_array_equal(face, weighted(np.asarray(image.convert("RGB"))))


@pytest.mark.parametrize("kind", KINDS)
def test_colours_have_the_grey_levels_of_the_file(kind):
    encoded, _ = KINDS[kind]
    colours = pictures.read_colour(encoded)
    levels, _ = pictures.read(encoded)
    assert (colours.shape, colours.dtype) == ((*levels.shape, 3), np.uint8)
    np.testing.assert_array_equal(pictures.to_grey(colours), levels)


def test_a_gif_is_read_on_its_whole_canvas():
    face = face_of(gif_with_a_corner())
    np.testing.assert_array_equal(face[9:29, 5:25], GREY[:20, :20])
    outside = np.ones((48, 48), bool)
    outside[9:29, 5:25] = False
    assert len(np.unique(face[outside])) == 1


def test_the_first_of_several_frames_or_pages_counts():
    others = [Image.fromarray(255 - GREY)]
    for kind, options in (("GIF", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        encoded = saved(Image.fromarray(GREY), kind, save_all=True, append_images=others, **options)
        np.testing.assert_array_equal(face_of(encoded), GREY)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_orientation_says(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(COLOUR[:40])
    lossless = {"lossless": True} if kind == "WEBP" else {}
    encoded = saved(image, kind, exif=exif, **lossless)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
    assert upright.size == ((48, 40) if orientation < 5 else (40, 48))
    np.testing.assert_array_equal(face_of(encoded), images.to_face(np.asarray(upright))[..., 0])
    np.testing.assert_array_equal(pictures.read_colour(encoded), np.asarray(upright))


def test_an_orientation_in_xmp_counts_too():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="3"/></x:xmpmeta>'
    encoded = saved(Image.fromarray(GREY), "JPEG", xmp=xmp, quality=100)
    plain = saved(Image.fromarray(GREY), "JPEG", quality=100)
    np.testing.assert_array_equal(face_of(encoded), face_of(plain)[::-1, ::-1])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_notes_leave_a_picture_as_it_is():
    plain = saved(Image.fromarray(GREY), "JPEG", quality=100)
    for notes in (b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"):
        segment = b"\xff\xe1" + struct.pack(">H", 2 + len(notes)) + notes
        encoded = plain[:2] + segment + plain[2:]
        np.testing.assert_array_equal(face_of(encoded), face_of(plain))


def test_an_orientation_behind_the_frame_header_counts_too():
    exif = Image.Exif()
    exif[0x0112] = 3
    plain = saved(Image.fromarray(GREY), "JPEG", quality=100)
    notes = exif.tobytes()
    tables = plain.index(b"\xff\xc4")  # The first Huffman table, behind the frame header.
    assert plain.index(b"\xff\xc0") < tables
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(notes)) + notes
    encoded = plain[:tables] + segment + plain[tables:]
    np.testing.assert_array_equal(face_of(encoded), face_of(plain)[::-1, ::-1])


def test_an_odd_orientation_is_none():
    exif = Image.Exif()
    exif[0x0112] = 77
    np.testing.assert_array_equal(face_of(saved(Image.fromarray(GREY), "PNG", exif=exif)), GREY)


def test_a_palette_of_greys_or_another_size_counts_as_converted():
    converted = {
        kind: images.decode_faces([encoded], ["face"]).converted
        for kind, (encoded, _) in KINDS.items()
        if kind in ("BMP, grey", "TIFF, grey", "BMP, palette", "TIFF, grey of 16 bits")
    }
    assert converted == {
        "BMP, grey": 0,
        "TIFF, grey": 0,
        "BMP, palette": 1,
        "TIFF, grey of 16 bits": 1,
    }


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "WEBP"])
def test_a_truncated_file_is_named(kind):
    whole = saved(Image.fromarray(GREY), kind)
    with pytest.raises(UserError, match=rf"^b: not a readable image \(truncated {kind}\?\)"):
        images.decode_faces([whole, whole[: len(whole) // 2]], ["a", "b"])


@pytest.mark.parametrize("samples", [np.float32, np.int32])
def test_samples_that_have_no_range_are_refused(samples):
    encoded = saved(Image.fromarray(GREY.astype(samples)), "TIFF")
    with pytest.raises(UserError, match=r"^a: samples of 12 or 32 bits"):
        images.decode_faces([encoded], ["a"])


def test_inverted_samples_of_16_bits_are_refused():
    # Pillow would give them out as they are, a negative.
    encoded = saved(Image.fromarray(GREY.astype(np.uint16)), "TIFF", tiffinfo={262: 0})
    with pytest.raises(UserError, match="or inverted ones of 16"):
        images.decode_faces([encoded], ["a"])


def blank_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    data = zlib.compress(bytes((1 + width) * height))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("factor", [1.1, 2.5])
def test_an_image_of_too_many_pixels_is_named(factor, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(600 * 600 / factor))
    with pytest.raises(UserError, match=r"^b: more than .* pixels; make it smaller; remove it"):
        images.decode_faces([blank_png(600, 600)], ["b"])


def test_a_large_picture_is_read_in_strips(monkeypatch):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (300, 500, 3), np.uint8))
    encoded = saved(image, "PNG")
    expected = face_of(encoded)
    monkeypatch.setattr(pictures, "_SMALL", 1000)
    monkeypatch.setattr(pictures, "_LARGE", 1000)
    monkeypatch.setattr(pictures, "_STRIP", 7000)
    np.testing.assert_array_equal(face_of(encoded), expected)


def test_what_a_file_is_its_bytes_say():
    for kind, (encoded, _) in KINDS.items():
        assert pictures.format_of(encoded[: pictures.MAGIC_BYTES]) == kind.split(",")[0]
    for other in (b"", b"RIFF\0\0\0\0WAVEfmt ", b"%PDF-1.7 obj", b"BMW and others"):
        assert pictures.format_of(other) is None


def test_grey_by_pillow_is_grey_by_tensorflow_for_all_colours_of_a_kind():
    # Every red and blue with some greens: sums that end just below, at and above a half.
    red, blue = np.mgrid[:256, :256]
    for green in (0, 1, 86, 255):
        colours = np.stack([red, np.full_like(red, green), blue], axis=-1).astype(np.uint8)
        levels, as_it_is = pictures.read(saved(Image.fromarray(colours), "BMP"))
        np.testing.assert_array_equal(levels, images.to_grayscale(colours).numpy()[..., 0])
        assert not as_it_is
