"""Description of the edges task."""

from medusa_core.api import HeadRef, MetricRef, OutputSpec, TargetSpec, TaskSpec

EDGES = TaskSpec(
    name="edges",
    title="Edge detection",
    description=(
        "The probability of a boundary at every pixel. pixel_f counts exact pixels, without "
        "thinning or tolerance; it is quick, and weights are chosen by it. odsf, oisf and ap are "
        "the scores of the BSDS benchmark: thinned, matched one to one within max_distance (0.0075 "
        "unless set) of the image diagonal. Only medusa eval computes them."
    ),
    references=(
        "Xie, Tu: Holistically-Nested Edge Detection. ICCV 2015",
        "Arbelaez, Maire, Fowlkes, Malik: Contour Detection and Hierarchical Image Segmentation. "
        "IEEE TPAMI 2011",
    ),
    implementation="medusa_tasks.edges.task:Edges",
    output=OutputSpec(channels=1, activation="sigmoid", range=(0.0, 1.0)),
    target=TargetSpec(dtype="int64", invalid=255),
    metrics=(
        MetricRef(name="pixel_f", higher_is_better=True, primary=True),
        MetricRef(name="odsf", higher_is_better=True),
        MetricRef(name="oisf", higher_is_better=True),
        MetricRef(name="ap", higher_is_better=True),
    ),
    # Boundaries are thinner than a cell of the finest level.
    default_head=HeadRef(name="medusa", config={"subpixel": 2}),
    loss_weight=50.0,
    config_model="medusa_tasks.edges.config:EdgesConfig",
)
