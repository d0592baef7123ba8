"""Settings of the head, as set by `--set head.width=256`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Side = Annotated[int, Field(ge=1, le=16)]


class UPerNetConfig(BaseModel):
    """Settings of `upernet`.

    width: channels of every level after its first convolution. The paper has 512.
    bins: sides of the grids the deepest level is averaged over.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: Annotated[int, Field(ge=1, le=1024)] = 64
    bins: Annotated[tuple[Side, ...], Field(max_length=8)] = (1, 2, 3, 6)
