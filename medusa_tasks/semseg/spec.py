"""Description of the semantic segmentation task."""

from medusa_core.api import HeadRef, MetricRef, OutputSpec, TargetSpec, TaskSpec

SEMSEG = TaskSpec(
    name="semseg",
    title="Semantic segmentation",
    description="The class of every pixel. The classes come from the data set.",
    references=(
        "Long, Shelhamer, Darrell: Fully Convolutional Networks for Semantic Segmentation. "
        "CVPR 2015",
    ),
    implementation="medusa_tasks.semseg.task:SemanticSegmentation",
    output=OutputSpec(channels="labels", activation="argmax"),
    target=TargetSpec(dtype="int64", flip="swap_pairs"),
    metrics=(
        MetricRef(name="miou", higher_is_better=True, primary=True),
        MetricRef(name="pixel_accuracy", higher_is_better=True),
        MetricRef(name="classes", unit="classes", higher_is_better=True),
    ),
    # Rare classes are lost in a narrow fusion: they are read off the levels directly.
    default_head=HeadRef(name="medusa", config={"shortcut": True}),
    loss_stride=4,
)
