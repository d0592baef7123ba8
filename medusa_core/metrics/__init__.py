"""Metrics pooled over a whole set. Plugins may import everything listed here."""

from medusa_core.metrics.angular_errors import AngularErrors, angle_between
from medusa_core.metrics.boundary_f import BoundaryF
from medusa_core.metrics.depth_errors import DepthErrors
from medusa_core.metrics.max_f import MaxF
from medusa_core.metrics.mean_absolute_error import MeanAbsoluteError
from medusa_core.metrics.mean_iou import MeanIoU
from medusa_core.metrics.relative_gain import relative_gain
from medusa_core.metrics.thinning import thin

__all__ = [
    "AngularErrors",
    "BoundaryF",
    "DepthErrors",
    "MaxF",
    "MeanAbsoluteError",
    "MeanIoU",
    "angle_between",
    "relative_gain",
    "thin",
]
