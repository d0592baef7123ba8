"""Every hook a plugin may implement, in lifecycle order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from medusa_core.api import (
        DatasetSpec,
        HeadAdded,
        HeadEvaluated,
        HeadRemoved,
        HeadSpec,
        TaskSpec,
        WeightsRequest,
    )

hookspec = pluggy.HookspecMarker("medusa")


@hookspec
def medusa_register_tasks() -> Iterable[TaskSpec]:  # type: ignore[empty-body]
    """The tasks this plugin offers."""


@hookspec
def medusa_register_heads() -> Iterable[HeadSpec]:  # type: ignore[empty-body]
    """The head architectures this plugin offers."""


@hookspec
def medusa_register_datasets() -> Iterable[DatasetSpec]:  # type: ignore[empty-body]
    """The data sets this plugin offers."""


@hookspec(firstresult=True)
def medusa_locate_weights(request: WeightsRequest) -> Path | None:
    """A safetensors file with the weights `medusa init --pretrained` wants, or None.

    For a mirror or a cache of a company's own. Plugins are asked in order of their distributions'
    names; the first that has a file is believed. Its tensors are checked like any others.
    """


@hookspec
def medusa_head_added(event: HeadAdded) -> None:
    """Called after a head was committed. Answers are ignored, and failures are warned of."""


@hookspec
def medusa_head_evaluated(event: HeadEvaluated) -> None:
    """Called for every head that `medusa eval` has scored; as `medusa_head_added`."""


@hookspec
def medusa_head_removed(event: HeadRemoved) -> None:
    """Called after a head was removed; as `medusa_head_added`."""
