"""What the six tasks promise beyond the conformance suite, which runs over them, too."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from medusa_core.api import LabelSchema, Task, TaskSpec
from medusa_core.data.geometry import View, view_target
from medusa_tasks.edges.config import EdgesConfig
from medusa_tasks.edges.task import Edges
from medusa_tasks.plugin import medusa_register_datasets, medusa_register_tasks

SPECS = {spec.name: spec for spec in medusa_register_tasks()}
LABELS = LabelSchema(names=("background", "left_arm", "right_arm", "head"), swap_pairs=((1, 2),))
SIZE = (37, 53)


def _task(spec: TaskSpec) -> Task:
    module, _, name = spec.implementation.partition(":")
    task: Task = getattr(importlib.import_module(module), name)(
        spec, LABELS if spec.has_labels else None
    )
    return task


def _target(spec: TaskSpec, batch: int = 2, size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor]:
    """A smooth target with an invalid corner, and its mask."""
    y, x = (torch.linspace(0, 1, n) for n in size)
    ramp = (y[:, None] + x[None]).expand(batch, *size)
    valid = torch.ones(batch, *size, dtype=torch.bool)
    valid[:, :5, :7] = False
    if spec.has_labels:
        return (ramp * 1.99).long().masked_fill(~valid, LABELS.ignore_index), valid
    if spec.target.channels == 3:
        vectors = torch.stack([ramp - 1, 1 - ramp, ramp * 0 + 1], dim=1)
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        return vectors * valid[:, None], valid
    if spec.target.dtype == "int64":
        return (ramp > 1.2).long().masked_fill(~valid, 255), valid
    return (1 + 3 * ramp).masked_fill(~valid, 0.0), valid


def _perfect(spec: TaskSpec, target: Tensor) -> Tensor:
    """A raw prediction that says what the target says."""
    match spec.output.activation:
        case "argmax":
            known = target.clamp(max=len(LABELS.names) - 1)
            return 20 * torch.nn.functional.one_hot(known, 4).movedim(-1, 1).float()
        case "sigmoid":
            return (40.0 * (target == 1) - 20).unsqueeze(1)
        case "exp":
            return target.clamp_min(1e-3).log().unsqueeze(1)
        case _:
            return 3 * target


def _figures(task: Task, raw: Tensor, target: Tensor, valid: Tensor) -> dict[str, float]:
    decoded = task.decode(raw)
    figures: dict[str, float] = {}
    for metric in task.new_metrics():
        new = metric.compute(metric.statistics(decoded, target, valid).sum(0))
        assert not figures.keys() & new.keys()
        figures |= new
    return figures


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> TaskSpec:
    return SPECS[request.param]


@pytest.fixture
def task(spec: TaskSpec) -> Task:
    return _task(spec)


def test_all_six_tasks_and_the_data_set_are_registered() -> None:
    assert set(SPECS) == {"depth", "edges", "human_parts", "normals", "saliency", "semseg"}
    (rooms,) = (spec for spec in medusa_register_datasets() if spec.name == "rooms")
    assert set(rooms.targets) == {spec.target_name for spec in SPECS.values()}
    assert rooms.location == "optional"


def test_a_perfect_prediction_is_perfect(task: Task) -> None:
    target, valid = _target(task.spec)
    raw = _perfect(task.spec, target)
    primary = task.spec.primary_metric
    best = 1.0 if primary.higher_is_better else 0.0
    assert _figures(task, raw, target, valid)[primary.name] == pytest.approx(best, abs=1e-4)
    assert float(sum(task.loss(raw, target, valid).values())) < 1e-3


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_decoded_values_have_their_shape_and_range(task: Task, scale: float) -> None:
    raw = scale * torch.randn(
        2, task.out_channels, *SIZE, generator=torch.Generator().manual_seed(0)
    )
    decoded = task.decode(raw)
    vectors = task.spec.output.activation == "normalise"
    assert decoded.shape == ((2, 3, *SIZE) if vectors else (2, *SIZE))
    assert decoded.dtype == (torch.int64 if task.spec.has_labels else torch.float32)
    assert decoded.isfinite().all()
    low, high = task.spec.output.range
    slack = 1e-5
    assert low is None or decoded.min() >= low - slack
    assert high is None or decoded.max() <= high + slack


@pytest.mark.parametrize("size", [SIZE, (1, 1), (5, 300), (240, 320), (481, 321)])
def test_renderings_have_the_size_of_the_image(task: Task, size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    before = image.copy()
    target, _ = _target(task.spec, 1, size)
    for value in (task.decode(_perfect(task.spec, target))[0], target[0]):
        picture = task.render(image, value.numpy())
        assert picture.shape == (*size, 3)
        assert picture.dtype == np.uint8
    assert np.array_equal(image, before)


def test_renderings_depend_on_the_value(task: Task) -> None:
    image = np.full((*SIZE, 3), 120, np.uint8)
    target, _ = _target(task.spec, 1)
    decoded = task.decode(_perfect(task.spec, target))[0].numpy()
    flipped = np.ascontiguousarray(decoded[..., ::-1])
    assert not np.array_equal(task.render(image, decoded), task.render(image, flipped))


def test_the_tolerance_of_edges_can_be_set() -> None:
    target = torch.zeros(1, 30, 40, dtype=torch.int64)
    target[:, 10] = 1
    shifted = target.roll(2, dims=1).float()
    odsf = {}
    for distance in (0.02, 0.04):  # 1 and 2 pixels of a diagonal of 50
        task = Edges(SPECS["edges"], config=EdgesConfig(max_distance=distance))
        (metric,) = (metric for metric in task.new_metrics() if metric.costly)
        odsf[distance] = metric.compute(metric.statistics(shifted, target, target >= 0)[0])["odsf"]
    assert odsf == {0.02: 0, 0.04: 1}


def test_depth_beyond_the_range_finds_its_way_back() -> None:
    task = _task(SPECS["depth"])
    raw = torch.full((1, 1, 2, 2), -50.0, requires_grad=True)
    task.loss(raw, torch.ones(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool))["log_l1"].backward()
    assert raw.grad is not None
    assert (raw.grad < 0).all()
    assert task.decode(raw.detach()).min() > 0


def test_depth_of_one_distance_and_of_nothing_renders() -> None:
    task, image = _task(SPECS["depth"]), np.zeros((60, 80, 3), np.uint8)
    for value in (np.full((60, 80), 2.0), np.zeros((60, 80)), np.full((60, 80), math.nan)):
        assert task.render(image, value.astype(np.float32)).shape == (60, 80, 3)


def test_normals_use_the_usual_colours() -> None:
    task = _task(SPECS["normals"])
    value = np.zeros((3, 4, 4), np.float32)
    value[2] = 1
    picture = task.render(np.zeros((4, 4, 3), np.uint8), value)
    assert (picture == (128, 128, 255)).all()


def test_background_is_not_tinted_and_palettes_are_used() -> None:
    schema = LABELS.model_copy(
        update={"palette": ((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255))}
    )
    spec = SPECS["human_parts"]
    task = type(_task(spec))(spec, schema)
    image = np.full((40, 40, 3), 90, np.uint8)
    value = np.zeros((40, 40), np.int64)
    value[:, 30:] = 1
    picture = task.render(image, value)
    assert (picture[:25, :28] == 90).all()
    red, green, blue = picture[10, 35].astype(int)
    assert red > 150 > green == blue


def test_label_tasks_need_labels() -> None:
    for spec in SPECS.values():
        if spec.has_labels:
            with pytest.raises(ValueError, match="needs labels"):
                _ = type(_task(spec))(spec, None).out_channels


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.has_labels])
def test_left_is_right_in_a_flipped_view(name: str) -> None:
    """Of any task with classes: the data set says which ones change places."""
    target = np.array([[1, 0, 3], [0, 255, 2]])
    flipped = view_target(target, (2, 3), View(flip=True), SPECS[name].target, LABELS)
    assert flipped.tolist() == [[3, 0, 2], [1, 255, 0]]
