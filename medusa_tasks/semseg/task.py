"""Semantic segmentation."""

from __future__ import annotations

from medusa_tasks._label_map import LabelMapTask


class SemanticSegmentation(LabelMapTask):
    """The class of every pixel."""
