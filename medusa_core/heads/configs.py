"""Settings of the built-in heads, as shown by `--set head.<field>=<value>`. Pydantic only."""

from __future__ import annotations

from typing import Annotated, Literal

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
    subpixel: the prediction is this much finer than the finest level, each value of a cell with
        weights of its own (pixel shuffle). For structures thinner than a cell.
    deep_supervision: weight of the losses of single levels in training, 0 for none.
    feature_attention: what the mask of a level tells apart.
    top_down: every level also gets what was made of the coarser ones.
    refinement: of every level, by two 3×3 convolutions, separable or full ones; at the finest
        level, where they are dearest, by one separable one.
    scale_attention: how the levels become one feature.
    context: a projection of the coarsest level's mean is added to that feature everywhere. For what
        depends on the image as a whole.
    fused_refinement: of the fused feature, by so many separable 3×3 convolutions. For what is a few
        cells wide.
    shortcut: linear predictions of every level are added, from the coarsest to the finest: the
        head begins as a linear probe of the backbone. For many classes.
    """

    width: Annotated[int, Field(ge=1, le=1024)] = 32
    fused_width: Annotated[int, Field(ge=1, le=1024)] = 32
    subpixel: Annotated[int, Field(ge=1, le=4)] = 1
    deep_supervision: Annotated[float, Field(ge=0, le=10)] = 0.0
    feature_attention: Literal["none", "spatial", "channel", "both"] = "both"
    top_down: bool = True
    refinement: Literal["none", "separable", "full"] = "separable"
    scale_attention: Literal["attention", "sum", "concatenation"] = "attention"
    context: bool = False
    fused_refinement: Annotated[int, Field(ge=0, le=8)] = 0
    shortcut: bool = False
