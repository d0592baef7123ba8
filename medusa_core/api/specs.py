"""The descriptions plugins hand to the host: frozen, JSON-able, importable in milliseconds."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)

from medusa_core.api.hooks import ApiVersionError, speaks

_LARGEST = 2.0**63
"""The first number that int64 does not hold."""
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,40}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
ImportString = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
ApiVersion = Annotated[str, Field(pattern=r"^\d+\.\d+$")]
Channel = Annotated[int, Field(ge=0, le=255)]
RGB = tuple[Channel, Channel, Channel]


class Spec(BaseModel):
    """Base of every description: immutable and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Registered(Spec):
    """Base of `TaskSpec`, `HeadSpec` and `DatasetSpec`: the plugin API that it was written for.

    api_version: plugin API that the spec was written for; 1.0 if left out.
    """

    api_version: ApiVersion = "1.0"

    @model_validator(mode="wrap")
    @classmethod
    def _explain_version(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Fields that this host does not know are no mistake of a spec for a later one."""
        try:
            return handler(data)
        except ValidationError as err:
            theirs = data.get("api_version") if isinstance(data, dict) else None
            if isinstance(theirs, str) and not speaks(theirs):
                raise ApiVersionError(data.get("name", cls.__name__), theirs) from err
            raise


class LabelSchema(Spec):
    """The classes of a label map, in order.

    names are unique, 10,000 at most, of 1 MB together: records of heads hold them, and some values
    of each as a probe, in 16 MiB. ignore_index marks pixels that do not count, and is no class.
    palette is one RGB triple a class. swap_pairs are the pairs of class numbers that change places
    when an image is flipped (left and right hand).
    """

    names: tuple[str, ...] = Field(min_length=1, max_length=10_000)
    ignore_index: Annotated[int, Field(ge=-(2**31), lt=2**31)] = 255
    palette: tuple[RGB, ...] | None = None
    swap_pairs: tuple[tuple[int, int], ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> LabelSchema:
        count = len(self.names)
        if len(set(self.names)) != count:
            raise ValueError("label names must be unique")
        if not all(name.strip() for name in self.names):
            raise ValueError("a label has no name")
        if sum(len(name.encode()) for name in self.names) > 10**6:
            raise ValueError("label names have more than 1 MB together")
        if 0 <= self.ignore_index < count:
            raise ValueError(f"ignore_index {self.ignore_index} is also the index of a class")
        if self.palette is not None and len(self.palette) != count:
            raise ValueError(f"palette has {len(self.palette)} colours for {count} classes")
        if any(not 0 <= i < count for pair in self.swap_pairs for i in pair):
            raise ValueError("swap_pairs name a class that does not exist")
        swapped = [i for pair in self.swap_pairs for i in pair]
        if len(set(swapped)) != len(swapped):
            raise ValueError("swap_pairs name a class twice")
        return self

    @property
    def digest(self) -> str:
        """Short hash of what decides the meaning of a class number (names and their order)."""
        return hashlib.sha256(json.dumps(self.names).encode()).hexdigest()[:16]


class OutputSpec(Spec):
    """What a head of this task predicts.

    kind: "dense": a value a pixel; "global": one an image. channels="labels" means one channel a
    class, and needs int64 targets. range: smallest and largest value in `unit`, ends included, None
    where there is none: targets beyond it are refused. `activation` turns raw predictions into
    values in `unit` and `range`. Raw predictions are brought to the size of the image bilinearly.
    """

    kind: Literal["dense", "global"] = "dense"
    channels: Annotated[int, Field(ge=1)] | Literal["labels"]
    activation: Literal["none", "sigmoid", "exp", "normalise", "argmax"] = "none"
    unit: str | None = None
    range: tuple[float | None, float | None] = (None, None)

    @field_validator("range")
    @classmethod
    def _ordered(cls, ends: tuple[float | None, float | None]) -> tuple[float | None, float | None]:
        low, high = ends
        if any(end is not None and math.isnan(end) for end in ends):
            raise ValueError("an end is NaN")
        if low is not None and high is not None and low >= high:
            raise ValueError("the lower end comes first")
        return ends


class TargetSpec(Spec):
    """How the targets of this task look and how they follow the geometry of the image.

    name: key in `Sample.targets`; None: the name of the task.
    source: "image": computed from the image by `Task.encode_target`, no data set needs it.
    channels: None for `(H, W)` maps, C for `(H, W, C)`; of a global task: `()` and `(C,)`.
    invalid: the value (in every channel) where nothing was measured; label maps use the schema's
        ignore index instead. Where some channels hold another value, the pixel or image counts:
        loss and metrics leave out the channels that do hold it. None: every value counts.
    axes: meaning of the channels, for vectors.
    flip: what a horizontal flip does besides mirroring; "negate_x" negates channel 0 of vectors, or
        the one number there is, "swap_pairs" exchanges classes. zoom: what enlarging by k does to
        values, and is undone where `--size` shows a picture k times as large as in training;
        "invalid": what holds for a picture does not hold for a part of it (global tasks
        only).
    Target maps are resampled to the nearest neighbour, never interpolated.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")  # an invalid value may be NaN

    name: Name | None = None
    source: Literal["data", "image"] = "data"
    dtype: Literal["float32", "int64"] = "float32"
    channels: Annotated[int, Field(ge=1)] | None = None
    unit: str | None = None
    axes: str | None = None
    invalid: float | None = None
    flip: Literal["none", "negate_x", "swap_pairs"] = "none"
    zoom: Literal["none", "divide", "invalid"] = "none"


class MetricRef(Spec):
    """One figure a task reports."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    unit: str | None = None
    higher_is_better: bool
    primary: bool = False


class HeadRef(Spec):
    """The head architecture a task asks for, and settings that differ from its defaults."""

    name: Name
    config: dict[str, Any] = Field(default_factory=dict)


class TaskSpec(Registered):
    """A task: what is predicted, from which targets, how it is judged.

    labels: the classes, where the data set names none (or the target is computed from the image).
    metrics: of different names, exactly one of them primary.
    loss_weight: weight of this task's loss where several tasks train one backbone.
    loss_stride: the loss of a dense task is taken on every n-th pixel of every n-th row; scores are
        those of all pixels. Where neighbours say nearly the same, it costs nothing and saves up to
        half of a training step; thin targets want every pixel.
    config_model: pydantic model of how the task judges, with defaults; `eval --set` changes it for
        one evaluation. Heads are trained and run with the defaults.
    """

    name: Name
    title: str
    description: str = ""
    references: tuple[str, ...] = ()
    implementation: ImportString
    output: OutputSpec
    target: TargetSpec
    labels: LabelSchema | None = None
    metrics: tuple[MetricRef, ...] = Field(min_length=1)
    default_head: HeadRef = HeadRef(name="medusa")
    loss_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    loss_stride: Literal[1, 2, 4] = 1
    config_model: ImportString | None = None

    @model_validator(mode="after")
    def _consistent(self) -> TaskSpec:
        if sum(m.primary for m in self.metrics) != 1:
            raise ValueError("exactly one metric must be primary")
        if len({m.name for m in self.metrics}) != len(self.metrics):
            raise ValueError("metric names must be unique")
        invalid = self.target.invalid or 0.0
        if self.target.dtype == "int64" and not (abs(invalid) < _LARGEST and invalid % 1 == 0):
            raise ValueError("target.invalid is no whole number that int64 targets hold")
        if self.output.channels == "labels" and self.target.dtype != "int64":
            raise ValueError('channels="labels" needs target.dtype="int64"')
        if self.target.flip == "swap_pairs" and not self.has_labels:
            raise ValueError('target.flip="swap_pairs" is for classes: channels="labels"')
        if self.target.zoom == "divide" and self.target.dtype != "float32":
            raise ValueError('target.zoom="divide" needs target.dtype="float32"')
        if self.target.zoom == "divide" and self.output.activation in ("argmax", "normalise"):
            raise ValueError('target.zoom="divide" is for numbers, not classes or directions')
        if self.target.zoom == "invalid" and self.output.kind != "global":
            raise ValueError('target.zoom="invalid" is for global tasks')
        if self.target.zoom == "invalid" and self.target.invalid is None and not self.has_labels:
            raise ValueError('target.zoom="invalid" needs target.invalid, the value that says so')
        return self

    @property
    def target_name(self) -> str:
        """Key of this task's target in a sample."""
        return self.target.name or self.name

    @property
    def primary_metric(self) -> MetricRef:
        """The metric that decides which weights are kept."""
        return next(m for m in self.metrics if m.primary)

    @property
    def has_labels(self) -> bool:
        """Whether the output has one channel a class."""
        return self.output.channels == "labels"


class HeadSpec(Registered):
    """A head architecture: `implementation(features: FeatureInfo, out_channels: int, config)`.

    `config` is an instance of the pydantic model named by `config_model`. blind: the head says the
    same of every image, so it is trained on whole pictures alone: of one that is shown enlarged,
    where things seem nearer, it would learn what it cannot see.
    """

    name: Name
    title: str
    description: str = ""
    implementation: ImportString
    config_model: ImportString
    blind: bool = False


class DatasetSpec(Registered):
    """A data set: `implementation(location: str | None, split: str) -> Dataset`.

    `location` is what follows the colon in `--data NAME:LOCATION`; the field says whether it has to
    be there. targets: those that samples may have; none named: any.
    """

    name: Name
    title: str
    description: str = ""
    licence: str = ""
    implementation: ImportString
    location: Literal["required", "optional", "none"] = "required"
    targets: tuple[Name, ...] = ()
