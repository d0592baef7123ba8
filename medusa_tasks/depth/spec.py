"""Description of the depth task."""

from medusa_core.api import MetricRef, OutputSpec, TargetSpec, TaskSpec

DEPTH = TaskSpec(
    name="depth",
    title="Metric depth",
    description=(
        "Distance of every pixel from the camera plane in metres. Raw predictions are natural "
        "logarithms of metres."
    ),
    references=(
        "Eigen, Puhrsch, Fergus: Depth Map Prediction from a Single Image using a Multi-Scale "
        "Deep Network. NeurIPS 2014",
    ),
    implementation="medusa_tasks.depth.task:Depth",
    output=OutputSpec(channels=1, activation="exp", unit="m", range=(0.0, None)),
    target=TargetSpec(dtype="float32", unit="m", invalid=0.0, zoom="divide"),
    metrics=(
        MetricRef(name="rmse", unit="m", higher_is_better=False, primary=True),
        MetricRef(name="absrel", higher_is_better=False),
        MetricRef(name="rmse_log", higher_is_better=False),
        MetricRef(name="delta1", higher_is_better=True),
    ),
    loss_stride=2,
)
