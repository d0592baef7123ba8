"""Reading image and array files from outside: bounded, never trusted, errors that name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from medusa_core.data.files import require_plain
from medusa_core.errors import DataError

MAX_PIXELS = 89_000_000
"""Larger images are refused before they are decoded; Pillow itself warns from 89.5 million."""

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "DIB", "WEBP", "AVIF", "JPEG2000", "GIF", "PPM")
"""What files are read as, whatever they are called. Pillow knows thirty more: programs that it
hands to others (EPS, WMF), and rare formats whose readers fail in ways of their own."""

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
"""Tags of TIFF files."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what turns the stored pixels upright."""


def open_image(path: Path) -> Image.Image:
    """Open an image without decoding it.

    Raises:
        DataError: it is missing, not an image, or larger than `MAX_PIXELS`.
    """
    require_plain(path)
    Image.init()  # registers what is not among the five that Pillow always knows
    try:
        image = Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN])
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that can be read.") from None
    except Image.DecompressionBombError:
        raise _too_large(path, "it") from None  # beyond twice what Pillow warns of
    except Exception as err:  # of a damaged file Pillow's parsers raise anything
        raise DataError(f"{path}: cannot be opened: {str(err) or repr(err)}.") from err
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise _too_large(path, f"{width}×{height}")
    return image


def _too_large(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: {what} is more than {MAX_PIXELS // 10**6} million pixels.",
        hint="Scale it down first.",
    )


def decode(image: Image.Image, path: Path) -> Image.Image:
    """Decode an opened image now, so that a damaged file fails here.

    Raises:
        DataError: the file is truncated or damaged.
    """
    try:
        image.load()
    except Exception as err:  # as above, being out of memory included: no image is that large
        raise DataError(f"{path}: truncated or damaged: {str(err) or repr(err)}.") from err
    return image


def read_rgb(path: Path) -> np.ndarray:
    """`(H, W, 3) uint8` RGB, turned upright as its EXIF says; grey repeated, alpha dropped."""
    with open_image(path) as image:
        decoded = decode(image, path)
        orientation = _orientation(image)
        rgb = _as_rgb(decoded, path)
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
        return np.asarray(rgb)


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) of the upright image, from the header alone (but for turned TIFF files)."""
    with open_image(path) as image:
        sideways = _orientation(image) in (5, 6, 7, 8)
        if sideways and image.format == "TIFF":  # Pillow turns these itself when it decodes them
            sideways = _orientation(decode(image, path)) in (5, 6, 7, 8)
        width, height = image.size
        return (width, height) if sideways else (height, width)


def read_raw(path: Path) -> np.ndarray:
    """The stored pixel values: `(H, W)` or `(H, W, C)`, palette images as their indices.

    Raises:
        DataError: damaged, or of a pixel format that Pillow does not give as it is stored.
    """
    with open_image(path) as image:
        stored = next((str(mode) for mode in _stored_modes(image) if _is_changed(str(mode))), None)
        stored = stored or _stretched(image)
        if stored is not None:
            raise DataError(
                f"{path}: pixel format {stored!r} is not read as it is stored.",
                hint="Use 8- or 16-bit grey, palette or 8-bit RGB PNG files, or .npy files.",
            )
        if image.format == "TIFF" and _orientation(image) != 1:  # Pillow would turn it
            raise DataError(
                f"{path}: is stored turned, which targets cannot be.",
                hint="Save it upright, without an orientation.",
            )
        decoded = decode(image, path)
        if decoded.mode in {"1", "LA", "RGBA", "CMYK", "YCbCr", "HSV", "LAB"}:
            raise DataError(
                f"{path}: pixel format {decoded.mode!r} cannot hold a target.",
                hint="Use 8- or 16-bit grey, palette or RGB PNG files, or .npy files.",
            )
        return _as_stored(decoded)


def read_npy(path: Path, channels: int = 3) -> np.ndarray:
    """A stored map of real numbers with 2 or 3 axes, not copied into memory yet.

    Args:
        path: of a `.npy` file.
        channels: it may have so many times `MAX_PIXELS` numbers.

    Raises:
        DataError: it is missing, truncated, pickled, empty, too large, or something else.
    """
    require_plain(path)
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # .npy only: no pickle, no .npz
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except Exception as err:  # of a damaged header numpy's parser raises anything
        raise DataError(f"{path}: not a .npy file that can be read: {err}.") from err
    if array.ndim not in (2, 3) or array.dtype.kind not in "biuf" or array.size == 0:
        raise DataError(f"{path}: shape {array.shape} of {array.dtype} is not a map of numbers.")
    if array.size > channels * MAX_PIXELS:
        raise DataError(f"{path}: more than {MAX_PIXELS // 10**6} million pixels.")
    return np.asarray(array)


def _stored_modes(image: Image.Image) -> list[object]:
    """How the pixels of an opened, not yet decoded image lie in the file, in Pillow's words."""
    return [
        argument
        for tile in getattr(image, "tile", ())
        for argument in (tile[3] if isinstance(tile[3], tuple) else (tile[3],))
    ]


def _is_changed(stored: str) -> bool:
    """Whether Pillow cuts deep colours to 8 bits, stretches shallow greys, or inverts greys."""
    inverted = "I" in stored.partition(";")[2]
    deep = ";16" in stored and not stored.startswith("I;16")
    return inverted or deep or stored in {"L;2", "L;4"}


def _stretched(image: Image.Image) -> str | None:
    """The format of a file whose values Pillow multiplies, so that the largest is white."""
    for codec, _, _, arguments in getattr(image, "tile", ()):
        if codec in {"ppm", "ppm_plain"} and isinstance(arguments, tuple):
            mode, largest = arguments
            if largest != (65535 if mode == "I" else 255):
                return f"{mode}, 0 to {largest}"
    return None


def _as_stored(image: Image.Image) -> np.ndarray:
    """The numbers of a decoded image; Pillow does not tell signed bytes, nor unsigned words."""
    values = np.asarray(image)
    signed = _tiff_tag(image, _SAMPLE_FORMAT, 1) == 2
    if image.format == "TIFF" and values.dtype == np.uint8 and signed:
        return values.view(np.int8)
    if image.format == "TIFF" and values.dtype == np.int32:
        unsigned = _tiff_tag(image, _BITS, 32) == 32 and not signed
        return values.view(np.uint32) if unsigned else values
    return values


def _tiff_tag(image: Image.Image, tag: int, default: int) -> int:
    """The first number of a tag of a TIFF file."""
    found = getattr(image, "tag_v2", {}).get(tag, default)
    first = found[0] if isinstance(found, tuple) and found else found
    return first if isinstance(first, int) else default


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where there is none or the EXIF data are damaged."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow's parser raises anything; the pixels are fine
        return 1


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Any picture as RGB; Pillow alone would clip 16-bit greys at 255.

    Raises:
        DataError: its values are no brightness of a known range.
    """
    if image.mode == "F":
        raise DataError(
            f"{path}: pixel format 'F' is not a picture.", hint="Use 8- or 16-bit image files."
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        low, high = values.min(), values.max()
        deep = image.mode == "I" and image.format != "PNG"  # for those of 16 bits in old Pillows
        if low < 0 or high > 65535 or (deep and high < 256):
            raise DataError(
                f"{path}: 32-bit values from {low} to {high} are not a picture.",
                hint="Use 8- or 16-bit image files.",
            )
        bits = _tiff_tag(image, _BITS, 16) if image.mode.startswith("I;16") else 16
        shown = (values >> max(0, bits - 8)).astype(np.uint8)
        if _tiff_tag(image, _PHOTOMETRIC, 1) == 0:  # white is 0
            shown = 255 - shown
        return Image.fromarray(shown).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
