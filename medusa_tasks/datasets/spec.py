"""Descriptions of the first-party data sets."""

from medusa_core.api import DatasetSpec

ROOMS = DatasetSpec(
    name="rooms",
    title="Procedural indoor scenes",
    description=(
        "Rooms with furniture and figures, ray-cast on the fly with exact targets for every "
        "first-party task. Needs no download; the same on every machine."
    ),
    licence="none needed: computed, not collected",
    implementation="medusa_tasks.datasets.rooms.dataset:Rooms",
    location="optional",
    targets=("depth", "semseg", "normals", "edges", "saliency", "human_parts"),
)

DATASETS = (ROOMS,)
