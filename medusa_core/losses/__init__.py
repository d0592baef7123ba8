"""Losses over the pixels that count. Plugins may import everything listed here."""

from medusa_core.losses.balanced_bce import balanced_bce
from medusa_core.losses.cross_entropy import masked_cross_entropy
from medusa_core.losses.l1 import masked_l1
from medusa_core.losses.vectors import cosine_distance, direction_l1

__all__ = [
    "balanced_bce",
    "cosine_distance",
    "direction_l1",
    "masked_cross_entropy",
    "masked_l1",
]
