"""Image files from outside: what is read is right, what cannot be read is a `DataError`."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin

from medusa_core.data import images
from medusa_core.data.images import image_size, open_image, read_raw, read_rgb
from medusa_core.errors import DataError

ORIENTATION = 0x0112


def _picture(height: int = 6, width: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    picture = _picture()
    path = _save(tmp_path / "a.png", picture)
    read = read_rgb(path)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, picture)
    assert image_size(path) == (6, 9)


def test_grey_is_repeated_and_alpha_dropped(tmp_path: Path) -> None:
    picture = _picture()
    grey = read_rgb(_save(tmp_path / "grey.png", picture[..., 0]))
    np.testing.assert_array_equal(grey, np.repeat(picture[..., :1], 3, axis=2))
    alpha = np.dstack([picture, picture[..., 0]])
    np.testing.assert_array_equal(read_rgb(_save(tmp_path / "alpha.png", alpha)), picture)


def test_sixteen_bit_grey_keeps_its_tones(tmp_path: Path) -> None:
    grey = np.linspace(0, 65535, 54).reshape(6, 9).astype(np.uint16)
    read = read_rgb(_save(tmp_path / "grey16.png", grey))
    np.testing.assert_array_equal(read, np.repeat((grey >> 8)[..., None], 3, axis=2))


@pytest.mark.parametrize("value", [-1, 65536, 255])
def test_32_bit_greys_are_no_picture(tmp_path: Path, value: int) -> None:
    path = tmp_path / "grey.tif"
    Image.fromarray(np.array([[0, value]], np.int32)).save(path)
    with pytest.raises(DataError, match=r"grey\.tif: 32-bit"):
        read_rgb(path)
    Image.fromarray(np.array([[0, 65535]], np.int32)).save(path)
    assert read_rgb(path).tolist() == [[[0] * 3, [255] * 3]]


def test_a_palette_with_transparency_warns_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    image = Image.fromarray(_picture()).quantize(8)
    image.save(path, transparency=bytes([0, 128]))
    assert read_rgb(path).shape == (6, 9, 3)


@pytest.mark.parametrize("form", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(10))
def test_pictures_are_turned_upright(tmp_path: Path, form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = _save(tmp_path / f"turned.{form}", _picture(), exif=exif)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    read = read_rgb(path)
    np.testing.assert_array_equal(read, expected)
    assert image_size(path) == read.shape[:2]


def test_raw_values_are_the_stored_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for dtype in (np.uint8, np.uint16):
        stored = rng.integers(0, np.iinfo(dtype).max, (5, 7), endpoint=True, dtype=dtype)
        np.testing.assert_array_equal(read_raw(_save(tmp_path / "raw.png", stored)), stored)
    indices = Image.fromarray(_picture()).quantize(16)
    indices.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_raw(tmp_path / "palette.png"), np.asarray(indices))


@pytest.mark.parametrize("mode", ["LA", "RGBA", "CMYK", "1"])
def test_formats_that_hold_no_target_are_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("target.tif" if mode == "CMYK" else "target.png")
    Image.fromarray(_picture()).convert(mode).save(path)
    with pytest.raises(DataError, match=rf"{path}: pixel format '{mode}'"):
        read_raw(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_rgb, read_raw, image_size):
        with pytest.raises(DataError, match=r"nothing\.png: no such file"):
            read(tmp_path / "nothing.png")
        with pytest.raises(DataError, match=str(tmp_path)):
            read(tmp_path)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_text("not an image")
    with pytest.raises(DataError, match=r"text\.png: not an image"):
        read_rgb(path)


@pytest.mark.parametrize("form", ["png", "jpg"])
def test_a_truncated_image_is_named(tmp_path: Path, form: str) -> None:
    path = _save(tmp_path / f"cut.{form}", _picture(64, 64))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=rf"cut\.{form}: truncated or damaged"):
        read_rgb(path)


def test_huge_images_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path / "huge.png", _picture())
    monkeypatch.setattr(images, "MAX_PIXELS", 53)
    monkeypatch.setattr(images, "decode", None)
    for read in (read_rgb, read_raw, image_size, open_image):
        with pytest.raises(DataError, match=r"huge\.png: 9×6 is more than"):
            read(path)


def test_what_pillow_itself_refuses_is_refused_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path / "huge.png", _picture())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # it refuses twice as many, and has 54
    with pytest.raises(DataError, match=r"huge\.png: it is more than 89 million pixels") as caught:
        open_image(path)
    assert caught.value.hint is not None


def test_the_limit_is_below_the_one_at_which_pillow_warns() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert images.MAX_PIXELS < Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"])
def test_damage_gives_a_picture_or_a_data_error(tmp_path: Path, form: str) -> None:
    """Nothing else may escape, whatever bytes a file holds."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010E] = 6, "description"
    buffer = io.BytesIO()
    options = {} if form in {"GIF", "BMP"} else {"exif": exif}
    Image.fromarray(_picture(24, 20)).save(buffer, form, **options)
    rng = np.random.default_rng(len(form))
    path = tmp_path / "damaged"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of corrupt EXIF data
        for i in range(150):
            data = bytearray(buffer.getvalue())
            for place in rng.integers(0, len(data), rng.integers(1, 6)):
                data[place] = rng.integers(0, 256)
            path.write_bytes(data[: rng.integers(0, len(data))] if i % 3 == 0 else data)
            for read in (read_rgb, read_raw, image_size):
                try:
                    read(path)
                except DataError as err:
                    assert str(path) in err.message  # noqa: PT017


@pytest.mark.parametrize("error", [TypeError("tag"), OverflowError("tag"), MemoryError()])
@pytest.mark.parametrize("step", ["open", "load"])
def test_whatever_pillow_raises_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, step: str
) -> None:
    """Its reader of TIFF files does not expect tags of another type."""
    path = _save(tmp_path / "bad.tif", _picture())

    def broken(*args: object, **options: object) -> None:
        raise error

    where = Image if step == "open" else TiffImagePlugin.TiffImageFile
    monkeypatch.setattr(where, step, broken)
    with pytest.raises(DataError, match=r"bad\.tif: (cannot be opened|truncated or damaged)"):
        read_rgb(path)


def test_programs_are_not_run(tmp_path: Path) -> None:
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    path = tmp_path / "photo.png"
    Image.new("RGB", (20, 20)).save(path, "EPS")
    for read in (read_rgb, read_raw, image_size):
        with pytest.raises(DataError, match=r"photo\.png: not an image that can be read"):
            read(path)


@pytest.mark.parametrize("step", ["open", "load"])
def test_a_codec_may_raise_runtime_errors(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of AVIF does."""
    path = tmp_path / "image.png"
    Image.new("RGB", (20, 20)).save(path)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Failed to decode frame 0")

    target = Image if step == "open" else PngImagePlugin.PngImageFile
    monkeypatch.setattr(target, step, fail)
    with pytest.raises(DataError, match=r"image\.png: .*frame 0"):
        read_rgb(path)


def _png(path: Path, colour: int, bits: int, row: bytes) -> Path:
    """A picture of one row; Pillow itself does not write such."""

    def chunk(name: bytes, data: bytes) -> bytes:
        sum_ = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", sum_)

    width = 8 * len(row) // (bits * (3 if colour == 2 else 1))
    header = struct.pack(">IIBBBBB", width, 1, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


@pytest.mark.parametrize(
    ("colour", "bits", "row"),
    [(2, 16, bytes(12)), (0, 4, b"\x01\x20"), (0, 2, b"\x1b\x00")],
    ids=["16-bit RGB", "4-bit grey", "2-bit grey"],
)
def test_targets_that_pillow_would_change_are_refused(
    tmp_path: Path, colour: int, bits: int, row: bytes
) -> None:
    path = _png(tmp_path / "a.png", colour, bits, row)
    assert read_rgb(path).shape[0] == 1  # as a picture it is fine
    with pytest.raises(DataError, match="not read as it is stored"):
        read_raw(path)


def test_targets_of_8_and_16_bits_are_taken_as_stored(tmp_path: Path) -> None:
    for bits, row, stored in ((8, b"\x01\x02", [1, 2]), (16, b"\x01\x02\x00\x03", [258, 3])):
        path = _png(tmp_path / f"{bits}.png", 0, bits, row)
        assert read_raw(path).tolist() == [stored]


def test_a_rare_format_whose_reader_fails_is_no_image(tmp_path: Path) -> None:
    """Pillow takes any 27 numbers that fit for the header of a SPIDER file."""
    header = np.zeros(80, ">f4")
    header[[0, 1, 2, 4, 11, 12, 21, 22]] = 1, 20, 20, 1, 20, 1, 320, 80
    (tmp_path / "a.png").write_bytes(header.tobytes()[:318])
    for read in (read_rgb, read_raw, image_size):
        with pytest.raises(DataError, match="not an image"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("form", images._FORMATS)
def test_every_format_that_is_named_is_read(tmp_path: Path, form: str) -> None:
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {form}")
    path = tmp_path / "picture"
    Image.fromarray(_picture(40, 30)).save(path, form)
    assert read_rgb(path).shape == (40, 30, 3)


@pytest.mark.parametrize("head", ["P5 2 1 20", "P5 2 1 4095", "P6 2 1 65535", "P2 2 1 20"], ids=str)
def test_targets_that_pillow_would_stretch_are_refused(tmp_path: Path, head: str) -> None:
    path = tmp_path / "a.pgm"
    data = b"1 2 " if head.startswith("P2") else bytes([15, 20] * 6)
    path.write_bytes(f"{head}\n".encode() + data)
    assert read_rgb(path).shape == (1, 2, 3)  # as a picture it is fine
    with pytest.raises(DataError, match="not read as it is stored"):
        read_raw(path)


def test_pgm_targets_of_whole_bytes_are_taken_as_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 2 1 255\n" + bytes([7, 20]))
    assert read_raw(path).tolist() == [[7, 20]]
    path.write_bytes(b"P5 2 1 65535\n" + struct.pack(">2H", 7, 40_000))
    assert read_raw(path).tolist() == [[7, 40_000]]


@pytest.mark.parametrize(
    ("dtype", "sample_format"),
    [("int8", 2), ("int16", 2), ("uint16", 1), ("int32", 2), ("uint32", 1)],
)
def test_tiff_targets_keep_their_signs(tmp_path: Path, dtype: str, sample_format: int) -> None:
    kind = np.iinfo(dtype)
    stored = np.array([[kind.min, kind.max, 5], [kind.max - 1, kind.min + 1, 0]], dtype)
    path = tmp_path / "a.tif"
    path.write_bytes(_tiff(stored, t258=kind.bits, t339=sample_format))
    assert read_raw(path).tolist() == stored.tolist()


@pytest.mark.parametrize(("bits", "white"), [(12, 1), (16, 1), (16, 0)])
def test_deep_tiff_pictures_are_as_bright_as_shallow_ones(
    tmp_path: Path, bits: int, white: int
) -> None:
    grey = np.array([[0, 15, 128, 255]], np.uint16)
    stored = grey << (bits - 8) if white else ((1 << bits) - 1) - (grey << (bits - 8))
    if bits == 12:  # two numbers share three bytes
        numbers = [int(number) for number in stored[0]]
        whole = b"".join(
            bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255])
            for a, b in zip(numbers[::2], numbers[1::2], strict=True)
        )
        data = np.frombuffer(whole, np.uint8)
    else:
        data = stored.astype("<u2")
    path = tmp_path / "a.tif"
    path.write_bytes(_tiff(data.reshape(1, -1), t256=4, t258=bits, t262=white))
    np.testing.assert_array_equal(read_rgb(path)[..., 0], grey)


def _tiff(array: np.ndarray, **tags: int) -> bytes:
    """An uncompressed grey TIFF file of 8 bits a number; tags are given as `t262=0`."""
    height, width = array.shape
    entries = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: height}
    entries |= {279: array.nbytes, **{int(tag[1:]): value for tag, value in tags.items()}}
    entries[273] = 8 + 2 + 12 * len(entries) + 4
    directory = b"".join(struct.pack("<HHII", t, 4, 1, v) for t, v in sorted(entries.items()))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + directory + bytes(4) + array.tobytes()


@pytest.mark.parametrize(("tags", "says"), [({"t262": 0}, "'L;I'"), ({"t274": 6}, "stored turned")])
def test_targets_that_pillow_would_turn_or_invert_are_refused(
    tmp_path: Path, tags: dict[str, int], says: str
) -> None:
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    (tmp_path / "plain.tif").write_bytes(_tiff(labels))
    np.testing.assert_array_equal(read_raw(tmp_path / "plain.tif"), labels)
    (tmp_path / "other.tif").write_bytes(_tiff(labels, **tags))
    with pytest.raises(DataError, match=says):
        read_raw(tmp_path / "other.tif")
