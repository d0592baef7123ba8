"""What a scene consists of, and the names of the classes in it."""

from __future__ import annotations

from dataclasses import dataclass, field

from medusa_tasks.datasets.rooms.geometry import Axes, Solid, Vec
from medusa_tasks.datasets.rooms.materials import RGB, Material

CLASSES = (
    "wall",
    "floor",
    "ceiling",
    "door",
    "window",
    "picture",
    "rug",
    "table",
    "cabinet",
    "chair",
    "sofa",
    "ball",
    "pillar",
    "lamp",
    "person",
)
(
    WALL,
    FLOOR,
    CEILING,
    DOOR,
    WINDOW,
    PICTURE,
    RUG,
    TABLE,
    CABINET,
    CHAIR,
    SOFA,
    BALL,
    PILLAR,
    LAMP,
    PERSON,
) = range(len(CLASSES))

PARTS = ("background", "head", "torso", "upper_arm", "lower_arm", "upper_leg", "lower_leg")
HEAD, TORSO, UPPER_ARM, LOWER_ARM, UPPER_LEG, LOWER_LEG = range(1, len(PARTS))

FACES = 6
"""Room faces are surfaces 0 … 5: x = 0, x = width, floor, ceiling, z = 0, z = depth."""
FACE_LABELS = (WALL, WALL, FLOOR, CEILING, WALL, WALL)


@dataclass(frozen=True, slots=True)
class Region:
    """A door, window, picture or rug: a flat part of a room face.

    Rectangle (or ellipse) around (u, v) with half sizes; face coordinates are (z, y) on x faces,
    (x, y) on z faces and (x, z) on the floor. turn: cosine and sine of its rotation.
    """

    face: int
    label: int
    centre: tuple[float, float]
    half: tuple[float, float]
    border: float
    frame: Material
    content: Material
    turn: tuple[float, float] = (1.0, 0.0)
    round: bool = False
    style: int = 0


@dataclass(frozen=True, slots=True)
class Light:
    """A point light. owner: the instance it shines from, which casts no shadow of it (-1: none)."""

    position: Vec
    colour: RGB
    reach: float
    owner: int = -1


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera.

    axes: right, up and forward in the world. slope: tangent of half the vertical field of view.
    """

    position: Vec
    axes: Axes
    slope: float


@dataclass(frozen=True, slots=True)
class Room:
    """An axis-aligned box from the origin to size, with a material for every face."""

    size: Vec
    materials: tuple[Material, ...]
    skirting: RGB
    skirting_height: float
    wainscot: RGB | None
    wainscot_height: float


@dataclass(slots=True)
class Scene:
    """Everything that is rendered.

    Surfaces are numbered: room faces, then regions, then solids. Instances (what an edge
    separates): a face, a region, or all solids of one object, numbered from FACES + regions.
    """

    room: Room
    camera: Camera
    regions: list[Region]
    solids: list[Solid]
    lights: list[Light]
    ambient: RGB
    exposure: float
    noise: float
    seed: int
    salient: frozenset[int] = field(default_factory=frozenset)
    accents: dict[int, RGB] = field(default_factory=dict)

    @property
    def first_solid(self) -> int:
        """Number of the first surface that is a solid."""
        return FACES + len(self.regions)

    @property
    def labels(self) -> list[int]:
        """Surface → class."""
        solids = [solid.label for solid in self.solids]
        return [*FACE_LABELS, *(region.label for region in self.regions), *solids]

    @property
    def instances(self) -> list[int]:
        """Surface → instance."""
        return [*range(self.first_solid), *(s.instance + self.first_solid for s in self.solids)]

    @property
    def parts(self) -> list[int]:
        """Surface → human part."""
        return [0] * self.first_solid + [solid.part for solid in self.solids]
