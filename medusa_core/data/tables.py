"""Targets of whole images in the `folder` data set: columns of CSV files, one line an image."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

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

Table = Mapping[str, Mapping[str, str]]
"""Column → id → text; empty where nothing is known."""


class Part(BaseModel):
    """Base of what stands in `dataset.json`: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NumbersTarget(Part):
    """Numbers for a whole image: those of `columns` in a CSV file, in `unit`."""

    encoding: Literal["numbers"]
    table: str
    columns: tuple[str, ...] = Field(min_length=1, max_length=MAX_COLUMNS)
    unit: str | None = None


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


def read_values(path: Path, target: NumbersTarget | ClassTarget) -> dict[str, np.ndarray]:
    """Id → value of every image that has one."""
    wanted = {target.column} if isinstance(target, ClassTarget) else set(target.columns)
    table = read_table(path, wanted)
    if isinstance(target, ClassTarget):
        numbers = {name: index for index, name in enumerate(target.labels)}
        values = {}
        for name, text in read_column(table, path, target.column).items():
            if text not in numbers:
                raise DataError(
                    f"{path}: {name}: {text!r} is not one of the labels in dataset.json.",
                    hint=f"They are: {some(target.labels)}.",
                )
            values[name] = np.asarray(numbers[text], np.int64)
        return values
    columns = [read_column(table, path, column, number=True) for column in target.columns]
    complete = set(columns[0]).intersection(*columns[1:])
    shape = () if len(columns) == 1 else (len(columns),)
    return {
        name: np.asarray([column[name] for column in columns], np.float32).reshape(shape)
        for name in complete
    }


def read_table(path: Path, columns: Collection[str]) -> Table:
    """Columns of a CSV file with a header that has the column `id`; of others nothing is kept.

    Raises:
        DataError: it cannot be read, is too large, lacks a column, or an id is missing or listed
            twice; names the line.
    """
    table: dict[str, dict[str, str]] = {column: {} for column in columns}
    try:
        text = read_bounded(path, MAX_BYTES).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        _check_header(path, header, columns)
        places = {column: header.index(column) for column in columns}
        ids, seen = header.index(ID), set[str]()
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
            for column, place in places.items():
                table[column][name] = row[place].strip()
    except (OSError, ValueError, csv.Error) as err:
        raise DataError(f"{path}: cannot be read as a table: {err}.") from err
    return table


def _check_header(path: Path, header: list[str], columns: Collection[str]) -> None:
    if len(header) > MAX_COLUMNS:
        raise DataError(f"{path}: {len(header)} columns, more than {MAX_COLUMNS}.")
    if ID not in header:
        raise DataError(f"{path}: the first line names no column {ID!r}.")
    if len(set(header)) != len(header):
        raise DataError(f"{path}: the first line names a column twice.")
    for column in columns:
        if column not in header:
            raise DataError(
                f"{path}: there is no column {column!r}.", hint=f"Columns: {some(header)}."
            )


def read_column(table: Table, path: Path, column: str, number: bool = False) -> dict[str, Any]:
    """Id → text (or finite number) of one column, without the empty fields.

    Raises:
        DataError: a field is not a number.
    """
    return {
        name: _number(path, name, text) if number else text
        for name, text in table[column].items()
        if text
    }


def _number(path: Path, name: str, text: str) -> float:
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not abs(value) < 3e38:  # float32 holds no more
        raise DataError(
            f"{path}: {name}: {text!r} is not a number.", hint="Leave unknown fields empty."
        )
    return value
