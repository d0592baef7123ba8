"""Pictures for people, with numpy and Pillow. Plugins may import everything listed here."""

from medusa_core.viz.colours import apply_colour_map, colour_map, palette
from medusa_core.viz.curve import curve
from medusa_core.viz.legend import draw_colour_bar, draw_swatches
from medusa_core.viz.overlay import dim, outline, overlay
from medusa_core.viz.panel import panel

__all__ = [
    "apply_colour_map",
    "colour_map",
    "curve",
    "dim",
    "draw_colour_bar",
    "draw_swatches",
    "outline",
    "overlay",
    "palette",
    "panel",
]
