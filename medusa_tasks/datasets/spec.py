"""Descriptions of the first-party data sets."""

from medusa_core.api import DatasetSpec

ROOMS = DatasetSpec(
    name="rooms",
    title="Procedural indoor scenes of 96×128 pixels, or as rooms:240x320 says",
    description=(
        "Rooms with furniture and figures, ray-cast on the fly with exact targets for every "
        "first-party task. Needs no download; the same on every machine."
    ),
    licence="none needed: computed, not collected",
    implementation="medusa_tasks.datasets.rooms.dataset:Rooms",
    location="optional",
    targets=("depth", "semseg", "normals", "edges", "saliency", "human_parts"),
)

NYUD = DatasetSpec(
    name="nyud",
    title="NYUD-v2: the copies NYUD_MT, ASTMT, MTAN",
    description=(
        "Photographs of rooms with measured depth: 795 to train on, 654 to evaluate. Which copy a "
        "folder holds is recognised; MTAN's has 13 classes and no edges, and is another benchmark."
    ),
    licence="research use; cite Silberman et al. 2012",
    implementation="medusa_tasks.datasets.nyud.dataset:open_nyud",
    location="required",
    targets=("depth", "semseg", "normals", "edges"),
)

PASCAL_CONTEXT = DatasetSpec(
    name="pascal_context",
    title="PASCAL-Context: PASCAL_MT",
    description=(
        "Photographs of anything: 4998 to train on, 5105 to evaluate. Normals and saliency are "
        "predictions of other networks (Maninis et al. 2019); parts are those of Chen et al. 2014."
    ),
    licence="research use; cite Mottaghi et al. 2014 and those of its targets",
    implementation="medusa_tasks.datasets.pascal_context.dataset:open_pascal_context",
    location="required",
    targets=("semseg", "human_parts", "normals", "edges", "saliency"),
)

DATASETS = (ROOMS, NYUD, PASCAL_CONTEXT)
