"""Describes and registers the tasks.

Imports nothing heavy: every command that uses tasks, heads or data reads this file.
"""

from __future__ import annotations

from medusa_core.api import HeadRef, MetricRef, OutputSpec, TargetSpec, TaskSpec, hookimpl

AXES = "x right, y up, z towards the camera"

_TARGET = TargetSpec(
    name="normals",
    channels=3,
    axes=AXES,
    invalid=0.0,
    flip="negate_x",
    zoom="invalid",  # of a part of a picture nobody knows where the horizon would be
)

GRAVITY = TaskSpec(
    name="gravity",
    api_version="1.0",
    title="Direction of gravity",
    description=(
        f"Which way is up, as one unit vector an image ({AXES}), and with it pitch and roll of the "
        "camera. Learned from surface normals: what floors and walls agree on."
    ),
    references=(
        "Gupta, Arbelaez, Malik: Perceptual Organization and Recognition of Indoor Scenes from "
        "RGB-D Images. CVPR 2013",
    ),
    implementation="medusa_gravity.task:Gravity",
    output=OutputSpec(kind="global", channels=3, activation="normalise", range=(-1.0, 1.0)),
    target=_TARGET,
    metrics=(
        MetricRef(name="mean_angle", unit="deg", higher_is_better=False, primary=True),
        MetricRef(name="pitch_error", unit="deg", higher_is_better=False),
        MetricRef(name="roll_error", unit="deg", higher_is_better=False),
        MetricRef(name="within_5", unit="%", higher_is_better=True),
    ),
    # Every part of a picture votes; slopes need no fine detail.
    default_head=HeadRef(name="medusa", config={"width": 16}),
)

MEASURED = GRAVITY.model_copy(
    update={
        "name": "gravity_measured",
        "title": "Direction of gravity, measured",
        "description": (
            f"Which way is up, as one unit vector an image ({AXES}), learned from measurements, "
            "such as those of the accelerometer of a phone: the target `gravity`."
        ),
        "target": _TARGET.model_copy(update={"name": "gravity"}),
    }
)


@hookimpl
def medusa_register_tasks() -> list[TaskSpec]:
    """The two tasks of this package."""
    return [GRAVITY, MEASURED]
