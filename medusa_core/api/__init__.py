"""The contract between the host and its plugins. Importing it needs pydantic and pluggy only."""

from medusa_core.api.data import Dataset, Sample, TargetInfo
from medusa_core.api.events import HeadAdded, HeadEvaluated, HeadRemoved, WeightsRequest
from medusa_core.api.features import FeatureInfo
from medusa_core.api.hooks import API_VERSION, hookimpl
from medusa_core.api.metric import Metric
from medusa_core.api.specs import (
    DatasetSpec,
    HeadRef,
    HeadSpec,
    LabelSchema,
    MetricRef,
    OutputSpec,
    TargetSpec,
    TaskSpec,
)
from medusa_core.api.task import Task

__all__ = [
    "API_VERSION",
    "Dataset",
    "DatasetSpec",
    "FeatureInfo",
    "HeadAdded",
    "HeadEvaluated",
    "HeadRef",
    "HeadRemoved",
    "HeadSpec",
    "LabelSchema",
    "Metric",
    "MetricRef",
    "OutputSpec",
    "Sample",
    "TargetInfo",
    "TargetSpec",
    "Task",
    "TaskSpec",
    "WeightsRequest",
    "hookimpl",
]
