"""Every hook a plugin may implement, in lifecycle order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from medusa_core.api import DatasetSpec, HeadSpec, TaskSpec

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
