"""Description of the saliency task."""

from medusa_core.api import HeadRef, MetricRef, OutputSpec, TargetSpec, TaskSpec

SALIENCY = TaskSpec(
    name="saliency",
    title="Saliency",
    description="The probability that a pixel belongs to what draws the eye first.",
    references=(
        "Achanta, Hemami, Estrada, Süsstrunk: Frequency-tuned Salient Region Detection. CVPR 2009",
    ),
    implementation="medusa_tasks.saliency.task:Saliency",
    output=OutputSpec(channels=1, activation="sigmoid", range=(0.0, 1.0)),
    target=TargetSpec(dtype="int64", invalid=255),
    metrics=(MetricRef(name="max_f", higher_is_better=True, primary=True),),
    loss_weight=5.0,
    # What stands out does so within the whole image: hence the context. All three together were the
    # best on three backbones (docs/explanation/head-search.md).
    default_head=HeadRef(
        name="medusa", config={"context": True, "deep_supervision": 1.0, "fused_refinement": 2}
    ),
)
