"""Targets of whole images in the `folder` data set: columns of CSV files, one line an image."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from medusa_core.api import LabelSchema
from medusa_core.api.specs import RGB
from medusa_core.data.files import read_bounded
from medusa_core.errors import DataError
from medusa_core.names import some

ID = "id"
MAX_BYTES = 1 << 25
MAX_COLUMNS = 1000

_SKIP = "To do without such images: --on-bad-sample skip"

Texts = Mapping[str, tuple[str, ...]]
"""Id → what stands in the columns of a target, for images of which all of that is known."""


class Part(BaseModel):
    """Base of what stands in `dataset.json`: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NumbersTarget(Part):
    """Numbers for a whole image: those of `columns` in a CSV file, in `unit`.

    An image that has the number `invalid` in one of them does not have the target.
    """

    encoding: Literal["numbers"]
    table: str
    columns: tuple[str, ...] = Field(min_length=1, max_length=MAX_COLUMNS)
    unit: str | None = None
    invalid: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = None


class ClassTarget(Part):
    """A class for a whole image: its name, in one column of a CSV file."""

    encoding: Literal["class"]
    table: str
    column: str
    labels: tuple[str, ...]
    palette: tuple[RGB, ...] | None = None
    swap_pairs: tuple[tuple[int, int], ...] = ()

    def schema_(self) -> LabelSchema:
        """The classes as a head stores them."""
        return LabelSchema(
            names=self.labels, ignore_index=-1, palette=self.palette, swap_pairs=self.swap_pairs
        )


def read_texts(path: Path, target: NumbersTarget | ClassTarget) -> Texts:
    """What stands in the columns of a target; only that is kept of the file.

    Raises:
        DataError: it cannot be read, is too large, lacks a column or the column `id`, or an id is
            missing or listed twice; names the line.
    """
    columns = (target.column,) if isinstance(target, ClassTarget) else target.columns
    texts: dict[str, tuple[str, ...]] = {}
    seen = set[str]()
    try:
        text = read_bounded(path, MAX_BYTES).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        _check_header(path, header, columns)
        places = [header.index(column) for column in columns]
        ids = header.index(ID)
        for row in filter(None, reader):
            line = reader.line_num
            if len(row) != len(header):
                raise DataError(
                    f"{path}: line {line} has more or fewer fields than the first line."
                )
            name = row[ids].strip()
            if not name or name in seen:
                raise DataError(f"{path}: line {line}: the id {name!r} is empty or listed twice.")
            seen.add(name)
            fields = tuple(row[place].strip() for place in places)
            if all(fields) and not _says_unknown(target, fields):
                texts[name] = fields
    except (OSError, ValueError, csv.Error) as err:
        raise DataError(f"{path}: cannot be read as a table: {err}.") from err
    return texts


def _says_unknown(target: NumbersTarget | ClassTarget, fields: Sequence[str]) -> bool:
    if isinstance(target, ClassTarget) or target.invalid is None:
        return False
    return any(_as_number(text) == target.invalid for text in fields)


def read_value(
    path: Path, target: NumbersTarget | ClassTarget, name: str, fields: Sequence[str]
) -> np.ndarray:
    """The target of the image `name`: `(C,) float32`, `()` of one column, or `() int64`, a class.

    Raises:
        DataError: a field is no number that float32 holds, or no label; names file and image.
    """
    if isinstance(target, ClassTarget):
        [label] = fields
        if label not in target.labels:
            raise DataError(
                f"{path}: {name}: {label!r} is not one of the labels in dataset.json.",
                hint=f"They are: {some(target.labels)}. {_SKIP}",
            )
        return np.asarray(target.labels.index(label), np.int64)
    numbers = [_number(path, name, text) for text in fields]
    return np.asarray(numbers if len(numbers) > 1 else numbers[0], np.float32)


def _check_header(path: Path, header: list[str], columns: Collection[str]) -> None:
    if len(header) > MAX_COLUMNS:
        raise DataError(f"{path}: {len(header)} columns, more than {MAX_COLUMNS}.")
    if ID not in header:
        raise DataError(
            f"{path}: the first line names no column {ID!r}.",
            hint=f"Columns are separated by commas, and called: {some(header)}.",
        )
    if len(set(header)) != len(header):
        raise DataError(f"{path}: the first line names a column twice.")
    for column in columns:
        if column not in header:
            raise DataError(
                f"{path}: there is no column {column!r}.", hint=f"Columns: {some(header)}."
            )


def _number(path: Path, name: str, text: str) -> float:
    value = _as_number(text)
    if not abs(value) < 3e38:  # float32 holds no more
        raise DataError(
            f"{path}: {name}: {text!r} is not a number.",
            hint=f"Leave unknown fields empty. {_SKIP}",
        )
    return value


def _as_number(text: str) -> float:
    """The number that a field holds; NaN where it holds none."""
    try:
        return float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return math.nan
