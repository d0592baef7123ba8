"""Metrics pooled over a whole set. Plugins may import everything listed here."""

from medusa_core.metrics.angular_errors import AngularErrors, angle_between
from medusa_core.metrics.depth_errors import DepthErrors
from medusa_core.metrics.max_f import MaxF
from medusa_core.metrics.mean_iou import MeanIoU

__all__ = ["AngularErrors", "DepthErrors", "MaxF", "MeanIoU", "angle_between"]
