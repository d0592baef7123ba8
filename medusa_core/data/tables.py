"""Targets of whole images in the `folder` data set: columns of CSV files, one line an image."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from medusa_core.api import LabelSchema
from medusa_core.api.specs import RGB
from medusa_core.errors import DataError

ID = "id"
MAX_BYTES = 1 << 28

Table = Mapping[str, Mapping[str, str]]
"""Id → column → text; empty where nothing is known."""


class Part(BaseModel):
    """Base of what stands in `dataset.json`: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NumbersTarget(Part):
    """Numbers for a whole image: those of `columns` in a CSV file, in `unit`."""

    encoding: Literal["numbers"]
    table: str
    columns: tuple[str, ...] = Field(min_length=1)
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
    table = read_table(path)
    if isinstance(target, ClassTarget):
        numbers = {name: index for index, name in enumerate(target.labels)}
        values = {}
        for name, text in read_column(table, path, target.column).items():
            if text not in numbers:
                raise DataError(
                    f"{path}: {name}: {text!r} is not one of the labels in dataset.json.",
                    hint=f"They are: {', '.join(target.labels)}.",
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


def read_table(path: Path) -> Table:
    """Read a CSV file with a header that has the column `id`.

    Raises:
        DataError: it cannot be read, or an id is missing or listed twice; names the line.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MB.")
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, ValueError, csv.Error) as err:
        raise DataError(f"{path}: cannot be read as a table: {err}.") from err
    if ID not in (reader.fieldnames or ()):
        raise DataError(f"{path}: the first line names no column {ID!r}.")
    table: dict[str, dict[str, str]] = {}
    for line, row in rows:
        if None in row or None in row.values():
            raise DataError(f"{path}: line {line} has more or fewer fields than the first line.")
        name = row.pop(ID).strip()
        if not name or name in table:
            raise DataError(f"{path}: line {line}: the id {name!r} is empty or listed twice.")
        table[name] = {column: value.strip() for column, value in row.items()}
    return table


def read_column(table: Table, path: Path, column: str, number: bool = False) -> dict[str, Any]:
    """Id → text (or finite number) of one column, without the empty fields.

    Raises:
        DataError: there is no such column, or a field is not a number.
    """
    values: dict[str, Any] = {}
    for name, row in table.items():
        if column not in row:
            known = ", ".join(row) or "none"
            raise DataError(f"{path}: there is no column {column!r}.", hint=f"Columns: {known}.")
        if not row[column]:
            continue
        values[name] = _number(path, name, row[column]) if number else row[column]
    return values


def _number(path: Path, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < 3e38:  # float32 holds no more
        raise DataError(
            f"{path}: {name}: {text!r} is not a number.", hint="Leave unknown fields empty."
        )
    return value
