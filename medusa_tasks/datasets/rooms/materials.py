"""Colours and surface patterns."""

from __future__ import annotations

from dataclasses import dataclass, replace

from medusa_tasks.datasets.rooms.stream import Stream

RGB = tuple[float, float, float]

(
    PLAIN,
    CHECKER,
    STRIPES,
    NOISE,
    PLANKS,
    TILES,
    BRICKS,
    DOTS,
    PLAID,
    BOOKS,
    PANELS,
) = range(11)


@dataclass(frozen=True, slots=True)
class Material:
    """How a surface reflects: two colours (as displayed, 0 … 1) and the pattern they make.

    scale: size of one pattern cell in metres. gloss: strength of the highlight. glow: share of the
    colour that is emitted. seed: which pattern of its kind.
    """

    colour: RGB
    second: RGB
    pattern: int = PLAIN
    scale: float = 0.2
    gloss: float = 0.0
    glow: float = 0.0
    seed: int = 0


def hsv(hue: float, saturation: float, value: float) -> RGB:
    """Hue in 0 … 6."""
    ramps = (
        min(max(abs(hue - 3.0) - 1.0, 0.0), 1.0),
        min(max(2.0 - abs(hue - 2.0), 0.0), 1.0),
        min(max(2.0 - abs(hue - 4.0), 0.0), 1.0),
    )
    r, g, b = (value * (1.0 - saturation * (1.0 - ramp)) for ramp in ramps)
    return (r, g, b)


def shade(colour: RGB, k: float) -> RGB:
    """A darker (k < 1) or lighter colour."""
    r, g, b = (min(max(c * k, 0.0), 1.0) for c in colour)
    return (r, g, b)


def muted(s: Stream, low: float = 0.35, high: float = 0.85) -> RGB:
    """A colour that never competes with an accent."""
    return hsv(s.uniform(0.0, 6.0), s.uniform(0.0, 0.28), s.uniform(low, high))


_WOODS: tuple[RGB, ...] = (
    (0.62, 0.47, 0.33),
    (0.48, 0.34, 0.23),
    (0.74, 0.61, 0.45),
    (0.36, 0.26, 0.20),
    (0.66, 0.55, 0.46),
    (0.55, 0.42, 0.34),
)
_SKINS: tuple[RGB, ...] = (
    (0.95, 0.77, 0.66),
    (0.88, 0.68, 0.54),
    (0.76, 0.56, 0.42),
    (0.58, 0.40, 0.29),
    (0.42, 0.29, 0.22),
)
_HAIR: tuple[RGB, ...] = (
    (0.10, 0.08, 0.07),
    (0.26, 0.17, 0.11),
    (0.45, 0.30, 0.16),
    (0.76, 0.62, 0.36),
    (0.62, 0.61, 0.60),
)


def wood(s: Stream) -> Material:
    """Wood with a grain."""
    base = shade(s.choice(_WOODS), s.uniform(0.8, 1.2))
    return Material(base, shade(base, s.uniform(0.72, 0.86)), NOISE, 0.09, 0.12, 0.0, _seed(s))


def painted(s: Stream) -> Material:
    """Furniture paint: white, grey, black or a muted colour."""
    kind = s.integer(0, 3)
    if kind == 0:
        base = hsv(s.uniform(0.5, 1.2), 0.05, s.uniform(0.82, 0.93))
    elif kind == 1:
        base = hsv(3.5, 0.06, s.uniform(0.18, 0.5))
    else:
        base = muted(s)
    return Material(base, base, PLAIN, 0.2, s.uniform(0.05, 0.25))


def fabric(s: Stream) -> Material:
    """Upholstery in a muted colour."""
    base = muted(s, 0.25, 0.8)
    second = shade(base, s.choice((0.7, 0.8, 1.25)))
    pattern = s.choice((PLAIN, NOISE, NOISE, STRIPES, PLAID, DOTS))
    return Material(base, second, pattern, s.uniform(0.08, 0.2), 0.0, 0.0, _seed(s))


def wallpaper(s: Stream) -> Material:
    """Paint, paper or bricks for a wall."""
    hue = s.uniform(0.3, 1.3) if s.chance(0.5) else s.uniform(0.0, 6.0)
    base = hsv(hue, s.uniform(0.02, 0.24), s.uniform(0.62, 0.93))
    second = shade(base, s.uniform(0.84, 0.94))
    pattern = s.choice((PLAIN, PLAIN, NOISE, STRIPES, STRIPES, BRICKS, DOTS, PLAID))
    size = s.uniform(0.14, 0.4)
    if pattern == BRICKS:
        base = s.choice((base, (0.66, 0.49, 0.41), (0.80, 0.78, 0.75)))
        second = shade(base, s.choice((0.78, 1.18)))
        size = s.uniform(0.2, 0.3)
    return Material(base, second, pattern, size, 0.0, 0.0, _seed(s))


def flooring(s: Stream) -> Material:
    """Planks, tiles or carpet."""
    pattern = s.choice((PLANKS, PLANKS, PLANKS, TILES, TILES, CHECKER, NOISE))
    if pattern == PLANKS:
        base = shade(s.choice(_WOODS), s.uniform(0.8, 1.25))
        return Material(
            base, shade(base, 0.66), pattern, s.uniform(0.12, 0.22), 0.15, 0.0, _seed(s)
        )
    base = muted(s, 0.4, 0.88)
    if pattern == NOISE:
        return Material(base, shade(base, 0.8), pattern, 0.12, 0.0, 0.0, _seed(s))
    second = shade(base, s.choice((0.5, 0.68, 0.8)))
    return Material(base, second, pattern, s.uniform(0.3, 0.6), 0.2, 0.0, _seed(s))


def patterned(s: Stream, saturation: float = 0.35) -> Material:
    """A decorative surface: rugs and balls."""
    hue = s.uniform(0.0, 6.0)
    base = hsv(hue, s.uniform(0.05, saturation), s.uniform(0.35, 0.85))
    other = hsv(s.uniform(0.0, 6.0), s.uniform(0.05, saturation), s.uniform(0.3, 0.9))
    pattern = s.choice((PLAIN, STRIPES, CHECKER, DOTS, PLAID, NOISE))
    return Material(base, other, pattern, s.uniform(0.12, 0.3), 0.0, 0.0, _seed(s))


def clothes(s: Stream) -> Material:
    """Textile in a colour livelier than furniture, duller than an accent."""
    base = hsv(s.uniform(0.0, 6.0), s.uniform(0.1, 0.6), s.uniform(0.2, 0.9))
    second = shade(base, s.choice((0.6, 0.75, 1.35)))
    pattern = s.choice((PLAIN, PLAIN, PLAIN, NOISE, STRIPES, PLAID))
    return Material(base, second, pattern, s.uniform(0.06, 0.14), 0.0, 0.0, _seed(s))


def skin(s: Stream) -> Material:
    """Skin of any tone."""
    base = shade(s.choice(_SKINS), s.uniform(0.94, 1.05))
    return Material(base, base, PLAIN, 0.2, 0.08)


def hair(s: Stream) -> Material:
    """Hair of any colour."""
    base = s.choice(_HAIR)
    return Material(base, shade(base, 0.7), NOISE, 0.03, 0.1, 0.0, _seed(s))


def glowing(s: Stream, glow: float) -> Material:
    """A lit lamp shade."""
    base = hsv(s.uniform(0.5, 1.1), s.uniform(0.05, 0.25), 0.97)
    return Material(base, base, PLAIN, 0.2, 0.0, glow)


def accented(material: Material, colour: RGB) -> Material:
    """The material in a saturated colour, its pattern kept."""
    return replace(
        material, colour=colour, second=shade(colour, 0.72), gloss=max(material.gloss, 0.1)
    )


def accent_colour(s: Stream) -> RGB:
    """Saturated and bright; clothes and furniture never get there."""
    hue = s.choice((0.0, 0.45, 0.95, 2.0, 2.8, 3.5, 4.0, 4.8, 5.3))
    return hsv(hue, s.uniform(0.86, 0.98), s.uniform(0.78, 0.98))


def _seed(s: Stream) -> int:
    return s.integer(0, 1 << 20)
