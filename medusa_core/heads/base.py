"""What the host expects of a head module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from medusa_core.api import FeatureInfo
from medusa_core.heads.blocks import enlarged


class Head(nn.Module, ABC):
    """Turns the feature levels of a backbone into one raw prediction.

    Sub-classes are built as `implementation(features: FeatureInfo, out_channels: int, config)`.

    provider: whose it is, to be named when it fails; the host sets it.
    wanted_channels: the `out_channels` it was built with; the host sets them.
    wanted_features: the `features` it was built with; the host sets them.
    upsamples: whether it takes levels as the backbone computes them (`FeatureInfo.computed`) and
        upsamples what it makes of them. A projection to few channels before that is the same
        function as after it, for a fraction of the cost and memory.
    recordable: whether `forward` does, in evaluation mode, the same operations for all features of
        one shape. It may then be run from a recording of them, with the same bits, in less time.
        Not if its Python looks at numbers in tensors, or changes anything.
    family: heads of a class with equal families fit `side_by_side`; None fits nothing.
    """

    recordable = False
    upsamples = False
    family: object = None
    provider: object = None
    wanted_channels: int | None = None
    wanted_features: FeatureInfo | None = None

    @classmethod
    def side_by_side(cls, heads: Sequence[Head]) -> nn.Module | None:
        """Several heads as one network: feature levels → a list of their predictions.

        It is prepared and recorded as heads are, and run in their place if it gives the bits that
        each gives alone.

        Args:
            heads: recordable ones of this class and one family, on one backbone, in evaluation
                mode; not changed.

        Returns:
            A network that takes less time than they do one after the other; None without one.
        """
        return None

    def given(self, features: Sequence[Tensor]) -> Sequence[Tensor]:
        """Levels as `forward` takes them, of levels as the backbone computed them.

        Args:
            features: `(B, C_i, H / computed_i, W / computed_i) float32` of each level.
        """
        if self.upsamples or self.wanted_features is None:
            return features
        factors = self.wanted_features.upsampling
        return [enlarged(level, by) for level, by in zip(features, factors, strict=True)]

    @abstractmethod
    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Raw prediction `(B, out_channels, h, w)` at any resolution, usually that of level 0.

        Args:
            features: `(B, C_i, H / stride_i, W / stride_i) float32` of each level, finest first;
                of a head that `upsamples`, `(B, C_i, H / computed_i, W / computed_i)`. Other heads
                get the same ones: not to be written to.
        """

    def training_outputs(self, features: Sequence[Tensor]) -> list[tuple[float, Tensor]]:
        """(weight, raw prediction) pairs whose weighted losses are summed in training."""
        return [(1.0, self(features))]
