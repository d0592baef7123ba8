"""Describes and registers data set and head.

Imports nothing heavy: every command that uses tasks, heads or data reads this file.
"""

from __future__ import annotations

from medusa_core.api import DatasetSpec, HeadSpec, hookimpl

VOC = DatasetSpec(
    name="voc",
    api_version="1.0",
    title="Pascal VOC layout",
    description=(
        "Class maps in the folders of Pascal VOC: JPEGImages, SegmentationClass, "
        "ImageSets/Segmentation. VOC 2007 to 2012, SBD, and what CVAT and others export as VOC: "
        "classes and colours of a labelmap.txt are read."
    ),
    licence="that of the data",
    implementation="medusa_voc.dataset:Voc",
    location="required",
    targets=("semseg",),
)

UPERNET = HeadSpec(
    name="upernet",
    api_version="1.0",
    title="Pyramid pooling and a feature pyramid (UPerNet)",
    description=(
        "Xiao, Liu, Zhou, Jiang, Sun: Unified Perceptual Parsing for Scene Understanding. "
        "ECCV 2018. The usual decoder where backbones are compared."
    ),
    implementation="medusa_voc.upernet:UPerNetHead",
    config_model="medusa_voc.config:UPerNetConfig",
)


@hookimpl
def medusa_register_datasets() -> list[DatasetSpec]:
    """The data set of this package."""
    return [VOC]


@hookimpl
def medusa_register_heads() -> list[HeadSpec]:
    """The head architecture of this package."""
    return [UPERNET]
