"""What is written in `model.json` and `head.json`. Needs pydantic only, so listing stays fast."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medusa_core.api import HeadRef, LabelSchema
from medusa_core.api.specs import NAME_PATTERN

SCHEMA_VERSION = 1
COST_SIZE = (480, 640)
"""Image height and width at which GMACs are recorded."""

HeadName = Annotated[str, Field(pattern=NAME_PATTERN)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, lt=1 << 53)]
"""As large as JSON readers of all kinds keep whole."""
Side = Annotated[int, Field(ge=1, le=4096)]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Record(BaseModel):
    """Base of everything stored: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BackboneRecord(Record):
    """The backbone of a model folder. `gmacs` is for one image of `COST_SIZE`."""

    name: str
    kwargs: dict[str, Any] = Field(default_factory=dict)
    out_indices: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights_sha256: Sha256
    fingerprint: Sha256
    params: Count
    gmacs: Annotated[Cost, Field(gt=0)]
    provenance: dict[str, Any] = Field(default_factory=dict)


class Owner(Record):
    """The distribution a task or head architecture came from when the head was trained."""

    distribution: str
    version: str


class Probe(Record):
    """A head's raw output on the fixed probe image, and the machine it was computed on.

    values: base64 of little-endian float32 in C order.
    """

    shape: tuple[int, ...]
    values: str
    torch: str
    cpu_capability: str
    device: str


class HeadManifest(Record):
    """Everything about one trained head except its weights. `gmacs` as in `BackboneRecord`.

    head holds the complete configuration, defaults included. size is the (H, W) it was trained
    at. metrics are the figures on the selection split when it was committed.
    """

    schema_version: Literal[1] = 1
    task: HeadName
    head: HeadRef
    owner: Owner
    head_owner: Owner
    api_version: str
    labels: LabelSchema | None = None
    unit: str | None = None
    size: tuple[Side, Side]
    fingerprint: Sha256
    sha256: Sha256
    params: Count
    gmacs: Cost
    metrics: dict[str, float | None] = Field(default_factory=dict)
    probe: Probe
    provenance: dict[str, Any] = Field(default_factory=dict)


class ModelManifest(Record):
    """`model.json`: the one file whose replacement commits a change."""

    schema_version: Literal[1] = 1
    medusa_version: str
    backbone: BackboneRecord
    heads: dict[HeadName, Revision] = Field(default_factory=dict)
