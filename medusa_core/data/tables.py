"""Targets of whole images in the `folder` data set: columns of CSV files, one line an image."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping
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

Values = dict[str, np.ndarray | DataError]
"""Id → value of every image that has one, or why what stands there is none."""


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


def read_values(path: Path, target: NumbersTarget | ClassTarget) -> Values:
    """Values `(C,) float32`, `()` of one column, or `() int64`, a class.

    Raises:
        DataError: the file cannot be read, is too large, lacks a column or the column `id`, or an
            id is missing or listed twice; names the line.
    """
    labels = target.labels if isinstance(target, ClassTarget) else ()
    numbers = {label: number for number, label in enumerate(labels)}
    values: Values = {}
    for name, fields in _read_texts(path, target).items():
        try:
            if isinstance(target, ClassTarget):
                values[name] = _class(path, name, fields[0], numbers)
            else:
                found = [_number(path, name, text) for text in fields]
                if target.invalid not in found:
                    shaped = found if len(found) > 1 else found[0]
                    values[name] = np.asarray(shaped, np.float32)
        except DataError as err:
            values[name] = err
    return values


def _read_texts(path: Path, target: NumbersTarget | ClassTarget) -> dict[str, tuple[str, ...]]:
    """Id → what stands in the columns of a target, for images of which all of that is known."""
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
            if all(fields):
                texts[name] = fields
    except (OSError, ValueError, csv.Error) as err:
        raise DataError(f"{path}: cannot be read as a table: {err}.") from err
    return texts


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


def _class(path: Path, name: str, label: str, numbers: Mapping[str, int]) -> np.ndarray:
    if label not in numbers:
        raise DataError(
            f"{path}: {name}: {label!r} is not one of the labels in dataset.json.",
            hint=f"They are: {some(tuple(numbers))}. {_SKIP}",
        )
    return np.asarray(numbers[label], np.int64)


def _number(path: Path, name: str, text: str) -> float:
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not abs(value) < 3e38:  # float32 holds no more
        raise DataError(
            f"{path}: {name}: {text!r} is not a number.",
            hint=f"Leave unknown fields empty. {_SKIP}",
        )
    return value
