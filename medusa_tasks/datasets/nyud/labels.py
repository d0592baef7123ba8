"""Class names of NYUD-v2."""

from medusa_core.api import LabelSchema

CLASSES_40 = LabelSchema(
    names=(
        "wall",
        "floor",
        "cabinet",
        "bed",
        "chair",
        "sofa",
        "table",
        "door",
        "window",
        "bookshelf",
        "picture",
        "counter",
        "blinds",
        "desk",
        "shelves",
        "curtain",
        "dresser",
        "pillow",
        "mirror",
        "floor_mat",
        "clothes",
        "ceiling",
        "books",
        "refrigerator",
        "television",
        "paper",
        "towel",
        "shower_curtain",
        "box",
        "whiteboard",
        "person",
        "night_stand",
        "toilet",
        "sink",
        "lamp",
        "bathtub",
        "bag",
        "other_structure",
        "other_furniture",
        "other_prop",
    )
)
"""The 40 classes of Gupta, Arbelaez, Malik (CVPR 2013), in their order."""

CLASSES_13 = LabelSchema(
    names=(
        "bed",
        "books",
        "ceiling",
        "chair",
        "floor",
        "furniture",
        "objects",
        "picture",
        "sofa",
        "table",
        "television",
        "wall",
        "window",
    )
)
"""The 13 classes of Couprie et al. (ICLR 2013), in the order of the mapping from the 40 classes
that Handa published (`class13Mapping.mat`). MTAN's copy has numbers only: that they mean these
classes is assumed."""
