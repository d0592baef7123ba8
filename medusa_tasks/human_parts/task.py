"""Human part segmentation."""

from __future__ import annotations

from medusa_tasks._label_map import LabelMapTask


class HumanParts(LabelMapTask):
    """The part of a person every pixel shows."""
