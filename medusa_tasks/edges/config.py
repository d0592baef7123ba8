"""Settings of the edges task, as set by `medusa eval --set HEAD.max_distance=0.011`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class EdgesConfig(BaseModel):
    """How boundaries are judged.

    max_distance: how far a predicted pixel may be from the true one, as a fraction of the diagonal
        of the image. 0.0075 is usual on BSDS500 and PASCAL-Context, 0.011 on NYUD-v2.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_distance: Annotated[float, Field(ge=0, le=1)] = 0.0075
