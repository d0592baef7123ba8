"""Target files of a `folder` data set, decoded as `dataset.json` says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medusa_core.data.folder_description import (
    MAX_CHANNELS,
    BinaryTarget,
    IndexTarget,
    LinearTarget,
    VectorTarget,
)
from medusa_core.data.images import read_npy, read_raw
from medusa_core.errors import DataError


def decode(
    path: Path,
    target: LinearTarget | IndexTarget | BinaryTarget | VectorTarget,
    size: tuple[int, int],
) -> np.ndarray:
    """Values of a target file in the layout promised by `FolderDataset`."""
    stored = path.suffix == ".npy"
    raw = read_npy(path, MAX_CHANNELS) if stored else read_raw(path)
    if raw.ndim == 3 and raw.shape[2] > MAX_CHANNELS:
        raise DataError(f"{path}: {raw.shape[2]} channels, more than {MAX_CHANNELS}.")
    if raw.shape[:2] != size:
        raise DataError(
            f"{path}: {raw.shape[1]}×{raw.shape[0]} but its image is {size[1]}×{size[0]}.",
            hint="Image and targets must have the same size. To leave such samples out: "
            "--on-bad-sample skip",
        )
    axes = {LinearTarget: (2, 3), VectorTarget: (3,)}.get(type(target), (2,))
    if raw.ndim not in axes:
        wanted = " or ".join(map(str, axes))
        raise DataError(f"{path}: {raw.ndim} axes, {wanted} expected for {target.encoding!r}.")
    match target:
        case LinearTarget():
            return _decode_linear(path, raw, target, stored)
        case VectorTarget():
            return _decode_vector(path, raw, target, stored)
        case BinaryTarget():
            return _decode_binary(path, raw, target, stored)
        case IndexTarget():
            return _decode_index(path, raw, target)


def _decode_binary(path: Path, raw: np.ndarray, target: BinaryTarget, stored: bool) -> np.ndarray:
    ignored = np.zeros(raw.shape, bool) if target.ignore is None else raw == target.ignore
    if stored:
        ignored |= raw == 255
        if not (ignored | (raw == 0) | (raw == 1)).all():
            raise DataError(
                f"{path}: holds values other than 0, 1 and 255.",
                hint="A .npy file holds decoded values: 1 positive, 0 negative, 255 ignored.",
            )
        positive = raw == 1
    else:
        _require_finite(path, raw, ~ignored)
        positive = raw >= target.threshold
    return np.where(ignored, 255, positive.astype(np.int64))


def _decode_linear(path: Path, raw: np.ndarray, target: LinearTarget, stored: bool) -> np.ndarray:
    value = _as_float(raw)
    invalid = target.invalid
    missing = np.isnan(value) if invalid == "nan" else _equals(raw, value, invalid)
    if not stored:
        value = value * np.float32(target.scale) + np.float32(target.offset)
    _require_finite(path, value, ~missing)
    return np.where(missing, np.float32(np.nan), value)


def _decode_vector(path: Path, raw: np.ndarray, target: VectorTarget, stored: bool) -> np.ndarray:
    value = _as_float(raw)
    missing = np.zeros(raw.shape[:2], bool)
    if target.invalid is not None:
        if len(target.invalid) != raw.shape[2]:
            raise DataError(
                f"{path}: {raw.shape[2]} channels, but `invalid` in dataset.json has "
                f"{len(target.invalid)} values."
            )
        missing |= _equals(raw, value, target.invalid).all(axis=2)
    if not stored:
        value = value * np.float32(target.scale) + np.float32(target.offset)
    _require_finite(path, value, ~missing[..., None] & np.ones_like(value, bool))
    with np.errstate(over="ignore"):
        length = np.sqrt((value * value).sum(axis=2, keepdims=True))
    _require_finite(path, length, ~missing[..., None])
    unit = value / np.maximum(length, np.float32(1e-6))
    return np.where(missing[..., None] | (length < 1e-6), np.float32(np.nan), unit)


def _decode_index(path: Path, raw: np.ndarray, target: IndexTarget) -> np.ndarray:
    if raw.dtype.kind == "f" and not (np.isfinite(raw) & (raw == np.trunc(raw))).all():
        raise DataError(f"{path}: holds values that are not whole numbers.")
    label = raw.astype(np.int64)
    wrong = (label != target.ignore_index) & ((label < 0) | (label >= len(target.labels)))
    if wrong.any():
        values = ", ".join(map(str, np.unique(label[wrong])[:8]))
        raise DataError(
            f"{path}: label {values} is outside the schema: {len(target.labels)} classes "
            f"(0…{len(target.labels) - 1}) and {target.ignore_index} for ignored pixels.",
            hint="Correct the file, or `labels` and `ignore_index` in dataset.json.",
        )
    return label


def _equals(
    raw: np.ndarray, value: np.ndarray, invalid: float | tuple[float, ...] | None
) -> np.ndarray:
    """Where raw values are `invalid`. As float32, `value`, large integers are not told apart."""
    if invalid is None:
        return np.zeros(raw.shape, bool)
    wanted = np.asarray(invalid)
    return value == _as_float(wanted) if raw.dtype.kind == "f" else raw == wanted


def _as_float(raw: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # becomes infinite, which is reported
        return raw.astype(np.float32)


def _require_finite(path: Path, value: np.ndarray, where: np.ndarray) -> None:
    bad = int((~np.isfinite(value) & where).sum())
    if bad:
        raise DataError(
            f"{path}: {bad} values are NaN or infinite.",
            hint='Write 0 where nothing was measured, or declare "invalid": "nan".',
        )
