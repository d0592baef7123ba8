"""Describes and registers the task.

Imports nothing heavy: every command that uses tasks, heads or data reads this file.
"""

from __future__ import annotations

from medusa_core.api import MetricRef, OutputSpec, TargetSpec, TaskSpec, hookimpl

SOBEL = TaskSpec(
    name="sobel",
    api_version="1.0",
    title="Edge strength",
    description=(
        "Magnitude of the Sobel gradient of the luminance: 0 is flat, 1 a step from black to "
        "white. Computed from the image, so it trains on any data set."
    ),
    implementation="medusa_sobel.task:Sobel",
    output=OutputSpec(channels=1, activation="sigmoid", range=(0.0, 1.0)),
    target=TargetSpec(source="image"),
    metrics=(MetricRef(name="mae", higher_is_better=False, primary=True),),
)


@hookimpl
def medusa_register_tasks() -> list[TaskSpec]:
    """The one task of this package."""
    return [SOBEL]
