"""Description of the human parts task."""

from medusa_core.api import HeadRef, MetricRef, OutputSpec, TargetSpec, TaskSpec

HUMAN_PARTS = TaskSpec(
    name="human_parts",
    title="Human part segmentation",
    description=(
        "The part of a person every pixel shows. The parts come from the data set; left and right "
        "ones change places when an image is flipped."
    ),
    references=(
        "Chen et al.: Detect What You Can: Detecting and Representing Objects using Holistic "
        "Models and Body Parts. CVPR 2014",
    ),
    implementation="medusa_tasks.human_parts.task:HumanParts",
    output=OutputSpec(channels="labels", activation="argmax"),
    target=TargetSpec(dtype="int64", flip="swap_pairs"),
    metrics=(
        MetricRef(name="miou", higher_is_better=True, primary=True),
        MetricRef(name="pixel_accuracy", higher_is_better=True),
        MetricRef(name="classes", unit="classes", higher_is_better=True),
    ),
    loss_weight=2.0,
    # Parts are a few cells wide: what was fused is refined before it is read.
    default_head=HeadRef(name="medusa", config={"fused_refinement": 2}),
    loss_stride=4,
)
