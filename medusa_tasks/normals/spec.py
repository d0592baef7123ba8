"""Description of the surface normals task."""

from medusa_core.api import MetricRef, OutputSpec, TargetSpec, TaskSpec

AXES = "x right, y up, z towards the camera"

NORMALS = TaskSpec(
    name="normals",
    title="Surface normals",
    description=f"The direction every visible surface faces, as unit vectors ({AXES}).",
    references=(
        "Eigen, Fergus: Predicting Depth, Surface Normals and Semantic Labels with a Common "
        "Multi-Scale Convolutional Architecture. ICCV 2015",
    ),
    implementation="medusa_tasks.normals.task:Normals",
    output=OutputSpec(channels=3, activation="normalise", range=(-1.0, 1.0)),
    target=TargetSpec(dtype="float32", channels=3, axes=AXES, invalid=0.0, flip="negate_x"),
    metrics=(
        MetricRef(name="mean_angle", unit="deg", higher_is_better=False, primary=True),
        MetricRef(name="median_angle", unit="deg", higher_is_better=False),
        MetricRef(name="within_11_25", unit="%", higher_is_better=True),
        MetricRef(name="within_22_5", unit="%", higher_is_better=True),
        MetricRef(name="within_30", unit="%", higher_is_better=True),
    ),
    loss_weight=10.0,
    loss_stride=4,
)
