"""Description of the edges task."""

from medusa_core.api import HeadRef, MetricRef, OutputSpec, TargetSpec, TaskSpec

EDGES = TaskSpec(
    name="edges",
    title="Edge detection",
    description=(
        "The probability of a boundary at every pixel. pixel_f counts exact pixels, without "
        "thinning or tolerance; it is not the odsF of the BSDS benchmark."
    ),
    references=("Xie, Tu: Holistically-Nested Edge Detection. ICCV 2015",),
    implementation="medusa_tasks.edges.task:Edges",
    output=OutputSpec(channels=1, activation="sigmoid", range=(0.0, 1.0)),
    target=TargetSpec(dtype="int64", invalid=255),
    metrics=(MetricRef(name="pixel_f", higher_is_better=True, primary=True),),
    # Boundaries are thinner than a cell of the finest level.
    default_head=HeadRef(name="medusa", config={"subpixel": 2}),
    loss_weight=50.0,
)
