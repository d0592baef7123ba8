"""Settings of the built-in heads, as shown by `--set head.<field>=<value>`. Pydantic only."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class HeadConfig(BaseModel):
    """Base of the settings of a head: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BaselineConfig(HeadConfig):
    """`constant`, `linear` and `hypercolumn` have nothing to set."""


class MedusaConfig(HeadConfig):
    """Settings of the `medusa` head.

    width: channels at the finest level; coarser levels get more, in proportion to their stride.
    fused_width: channels after the levels are fused.
    feature_attention, scale_attention, refinement: switches for ablation.
    subpixel: the prediction is this much finer than the finest level, each value of a cell with
        weights of its own (pixel shuffle). For structures thinner than a cell.
    deep_supervision: weight of the losses of single levels in training, 0 for none.
    """

    width: Annotated[int, Field(ge=1, le=1024)] = 32
    fused_width: Annotated[int, Field(ge=1, le=1024)] = 64
    feature_attention: bool = True
    scale_attention: bool = True
    refinement: bool = True
    subpixel: Annotated[int, Field(ge=1, le=4)] = 1
    deep_supervision: Annotated[float, Field(ge=0, le=10)] = 0.0
