"""Registers the first-party tasks and data sets. Imports descriptions only."""

from __future__ import annotations

from medusa_core.api import DatasetSpec, TaskSpec, hookimpl
from medusa_tasks.datasets.spec import DATASETS
from medusa_tasks.depth.spec import DEPTH
from medusa_tasks.edges.spec import EDGES
from medusa_tasks.human_parts.spec import HUMAN_PARTS
from medusa_tasks.normals.spec import NORMALS
from medusa_tasks.saliency.spec import SALIENCY
from medusa_tasks.semseg.spec import SEMSEG


@hookimpl
def medusa_register_tasks() -> list[TaskSpec]:
    """The six tasks of this package."""
    return [DEPTH, EDGES, HUMAN_PARTS, NORMALS, SALIENCY, SEMSEG]


@hookimpl
def medusa_register_datasets() -> list[DatasetSpec]:
    """The data sets of this package."""
    return list(DATASETS)
