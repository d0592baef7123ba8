"""What `dataset.json` of a `folder` data set may say, and how it is read."""

from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationError
from pydantic_core import from_json

from medusa_core.api import LabelSchema, TargetInfo
from medusa_core.api.specs import RGB, Name
from medusa_core.data.files import read_bounded
from medusa_core.data.tables import ClassTarget, NumbersTarget, Part
from medusa_core.errors import DataError
from medusa_core.problems import problems

FILE = "dataset.json"
MAX_DESCRIPTION = 4_000_000
"""Bytes of `dataset.json`."""
MAX_TARGETS = 100
MAX_CHANNELS = 64

PathPattern = Annotated[str, Field(pattern=r"\{id\}")]
"""Path of a sample's file below the folder, `{id}` standing for its id."""


Finite = Annotated[float, Field(allow_inf_nan=False)]


class LinearTarget(Part):
    """`value · scale + offset` in `unit`; `invalid` is the raw value without a measurement.

    Of several channels each has measurements of its own.
    """

    encoding: Literal["linear"]
    path: PathPattern
    scale: Finite = 1.0
    offset: Finite = 0.0
    unit: str | None = None
    invalid: float | Literal["nan"] | None = None


class IndexTarget(Part):
    """A class number; `labels` are the class names in order."""

    encoding: Literal["index"]
    path: PathPattern
    ignore_index: int = 255
    labels: tuple[str, ...]
    palette: tuple[RGB, ...] | None = None
    swap_pairs: tuple[tuple[int, int], ...] = ()

    def schema_(self) -> LabelSchema:
        """The classes as a head stores them."""
        return LabelSchema(
            names=self.labels,
            ignore_index=self.ignore_index,
            palette=self.palette,
            swap_pairs=self.swap_pairs,
        )


class BinaryTarget(Part):
    """Positive where value ≥ `threshold`; `ignore` is the raw value that counts neither way."""

    encoding: Literal["binary"]
    path: PathPattern
    threshold: Finite = 128
    ignore: float | None = None


class VectorTarget(Part):
    """`value · scale + offset` a channel, then normalised; `invalid` is a raw triple.

    Without a unit by itself; tasks in pixels or metres do not take what is left of it.
    """

    unit: ClassVar[str] = "unit vectors"

    encoding: Literal["vector"]
    path: PathPattern
    scale: Finite = 1.0
    offset: Finite = 0.0
    invalid: tuple[float, ...] | None = None
    axes: str | None = None


Target = Annotated[
    LinearTarget | IndexTarget | BinaryTarget | VectorTarget | NumbersTarget | ClassTarget,
    Field(discriminator="encoding"),
]
TABLES = (NumbersTarget, ClassTarget)
"""Targets of whole images: one table for all of them."""


class Description(Part):
    """`dataset.json`."""

    schema_version: Literal[1]
    name: str
    description: str = ""
    licence: str = ""
    image: PathPattern
    splits: dict[str, str]
    targets: dict[Name, Target] = Field(max_length=MAX_TARGETS)


def read_description(root: Path) -> Description:
    """The description of the data set in a folder.

    Raises:
        DataError: there is none, or it says what cannot be.
    """
    path = root / FILE
    try:
        text = read_bounded(path, MAX_DESCRIPTION)
        return Description.model_validate(from_json(text.removeprefix(BOM_UTF8)))
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file.",
            hint="A `folder` data set needs a dataset.json: see docs/reference/folder.md.",
        ) from None
    except OSError as err:
        raise DataError(f"{path}: cannot be read: {err.strerror}.") from err
    except ValidationError as err:
        raise DataError(f"{path}: {problems(err)}.", hint="See docs/reference/folder.md.") from err
    except (ValueError, RecursionError) as err:
        raise DataError(f"{path}: not valid JSON: {err}.") from err


def info(description: Path, target: Target) -> TargetInfo:
    """What tasks may know of a target; `description` is the file to name in errors.

    Raises:
        DataError: its classes cannot be.
    """
    if isinstance(target, (IndexTarget, ClassTarget)):
        where = target.path if isinstance(target, IndexTarget) else target.table
        try:
            return TargetInfo(labels=target.schema_())
        except ValidationError as err:
            raise DataError(f"{description}: {where}: {err.errors()[0]['msg']}.") from err
    return TargetInfo(unit=getattr(target, "unit", None))
