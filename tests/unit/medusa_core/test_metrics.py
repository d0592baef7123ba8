"""Metrics against plain numpy, and the algebra the host relies on: statistics add."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from medusa_core.api import Metric
from medusa_core.errors import DataError
from medusa_core.metrics import (
    AngularErrors,
    BoundaryF,
    DepthErrors,
    MaxF,
    MeanAbsoluteError,
    MeanIoU,
    angle_between,
)

B, H, W = 6, 31, 37
THRESHOLDS = [i / 100 for i in range(1, 100)]
Case = tuple[Metric, Tensor, Tensor, dict[str, float]]


def _unit(raw: Tensor) -> Tensor:
    return raw / raw.norm(dim=1, keepdim=True)


def _iou(g: torch.Generator) -> Case:
    decoded, target = (torch.randint(0, 5, (B, H, W), generator=g) for _ in range(2))
    target[:, :3] = decoded[:, :3]
    return MeanIoU(5), decoded, target, {"miou": 1, "pixel_accuracy": 1, "classes": 5}


def _depth(g: torch.Generator) -> Case:
    target = torch.rand(B, H, W, generator=g) * 8 + 0.5
    decoded = target * (1 + 0.3 * torch.randn(B, H, W, generator=g)).clamp_min(0.1)
    return DepthErrors(), decoded, target, {"rmse": 0, "absrel": 0, "rmse_log": 0, "delta1": 1}


def _numbers(g: torch.Generator) -> Case:
    decoded, target = torch.randn(2, B, 3, H, W, generator=g)
    target[:, 1, 5:9] = math.nan
    decoded[:, 1, 5:9] = 0
    return MeanAbsoluteError(), decoded, target, {"mae": 0}


def _angles(g: torch.Generator) -> Case:
    target = _unit(torch.randn(B, 3, H, W, generator=g))
    decoded = _unit(target + 0.5 * torch.randn(B, 3, H, W, generator=g))
    best = {"within_11_25": 100, "within_22_5": 100, "within_30": 100}
    return AngularErrors(), decoded, target, {"mean_angle": 0, "median_angle": 0, **best}


def _max_f(g: torch.Generator) -> Case:
    target = (torch.rand(B, H, W, generator=g) > 0.7).long()
    decoded = (0.3 * target + 0.7 * torch.rand(B, H, W, generator=g)).clamp(0, 1)
    return MaxF("best", 0.3, THRESHOLDS), decoded, target, {"best": 1}


def _boundary_f(g: torch.Generator) -> Case:
    _, decoded, target, _ = _max_f(g)
    return BoundaryF(0.03), decoded, target, {"odsf": 1, "oisf": 1, "ap": 1}


MAKERS: dict[str, Callable[[torch.Generator], Case]] = {
    "iou": _iou,
    "depth": _depth,
    "numbers": _numbers,
    "angles": _angles,
    "max_f": _max_f,
    "boundary_f": _boundary_f,
}


@pytest.fixture(params=MAKERS)
def case(request: pytest.FixtureRequest) -> Case:
    return MAKERS[request.param](torch.Generator().manual_seed(1))


def _valid() -> Tensor:
    valid = torch.rand(B, H, W, generator=torch.Generator().manual_seed(2)) > 0.3
    valid[2] = False
    return valid


def test_statistics_do_not_depend_on_batches_or_order(case: Case) -> None:
    metric, decoded, target, _ = case
    valid = _valid()
    whole = metric.statistics(decoded, target, valid)
    assert whole.dtype == torch.float64
    assert whole.shape[0] == B
    single = torch.cat(
        [
            metric.statistics(decoded[i : i + 1], target[i : i + 1], valid[i : i + 1])
            for i in range(B)
        ]
    )
    assert torch.equal(whole, single)
    order = torch.tensor([4, 1, 5, 0, 3, 2])
    total, shuffled = whole.sum(0), torch.zeros_like(whole[0])
    for index in order:
        shuffled += single[index]
    assert torch.equal(total, shuffled)
    assert metric.compute(total) == metric.compute(shuffled)


def test_an_image_without_valid_pixels_contributes_nothing(case: Case) -> None:
    metric, decoded, target, _ = case
    assert not metric.statistics(decoded, target, _valid())[2].any()


def test_what_is_invalid_does_not_count(case: Case) -> None:
    metric, decoded, target, _ = case
    valid = _valid()
    mask = valid if target.ndim == 3 else valid[:, None].expand_as(target)
    hidden = target.masked_fill(~mask, 255 if target.dtype == torch.int64 else 0)
    other = metric.statistics(decoded, hidden, valid)
    assert torch.equal(other, metric.statistics(decoded, target, valid))


def test_nothing_counted_is_nan_for_every_figure(case: Case) -> None:
    metric, decoded, target, best = case
    total = metric.statistics(decoded, target, torch.zeros(B, H, W, dtype=torch.bool)).sum(0)
    figures = metric.compute(total)
    assert figures.keys() == best.keys()
    assert all(math.isnan(value) for value in figures.values())


def test_the_target_itself_is_perfect(case: Case) -> None:
    metric, decoded, target, best = case
    perfect = target.to(decoded.dtype)
    figures = metric.compute(metric.statistics(perfect, target, _valid()).sum(0))
    assert figures == pytest.approx(best, abs=1e-6)


def test_shapes_that_would_broadcast_are_refused(case: Case) -> None:
    metric, decoded, target, _ = case
    with pytest.raises(ValueError, match="decoded is"):
        metric.statistics(decoded.unsqueeze(1), target, _valid())
    with pytest.raises(ValueError, match="and valid"):
        metric.statistics(decoded, target, _valid()[:, None])


def test_iou_equals_sets_of_pixels() -> None:
    metric, decoded, target, _ = _iou(torch.Generator().manual_seed(1))
    valid = _valid()
    target[target == 4] = 0
    p, t = decoded[valid].numpy(), target[valid].numpy()
    present = sorted(set(t.tolist()))
    ious = [((p == c) & (t == c)).sum() / ((p == c) | (t == c)).sum() for c in present]
    figures = metric.compute(metric.statistics(decoded, target, valid).sum(0))
    assert figures["miou"] == pytest.approx(np.mean(ious))
    assert figures["pixel_accuracy"] == pytest.approx((p == t).mean())
    assert figures["classes"] == len(present) == 4


@pytest.mark.parametrize("wrong", [-1, 5, 200])
def test_iou_refuses_classes_that_do_not_exist(wrong: int) -> None:
    metric, decoded, target, _ = _iou(torch.Generator().manual_seed(1))
    target[1, 0, 0] = wrong
    with pytest.raises(DataError, match=f"class {wrong}") as error:
        metric.statistics(decoded, target, torch.ones(B, H, W, dtype=torch.bool))
    assert "ignore index" in str(error.value.hint)
    with pytest.raises(ValueError, match=f"prediction holds class {wrong}"):
        metric.statistics(target, decoded, torch.ones(B, H, W, dtype=torch.bool))


def test_depth_errors_equal_numpy() -> None:
    metric, decoded, target, _ = _depth(torch.Generator().manual_seed(1))
    valid = _valid()
    p, t = (x[valid].double().numpy() for x in (decoded, target))
    expected = {
        "rmse": np.sqrt(((p - t) ** 2).mean()),
        "absrel": (np.abs(p - t) / t).mean(),
        "rmse_log": np.sqrt(((np.log(p) - np.log(t)) ** 2).mean()),
        "delta1": (np.maximum(p / t, t / p) < 1.25).mean(),
    }
    figures = metric.compute(metric.statistics(decoded, target, valid).sum(0))
    assert figures == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [(B, H, W), (B, 4, H, W), (B,), (B, 4)], ids=len)
def test_the_mean_absolute_error_equals_numpy(shape: tuple[int, ...]) -> None:
    generator, metric = torch.Generator().manual_seed(1), MeanAbsoluteError()
    decoded, target = torch.randn(2, *shape, generator=generator)
    target[torch.rand(shape, generator=generator) < 0.2] = math.nan
    dense = len(shape) > 2
    valid = _valid() if dense else torch.arange(B) != 2
    spread = valid if valid.ndim == target.ndim else valid[:, None].expand_as(target)
    errors = (decoded.double() - target.double()).abs()[spread].numpy()
    figures = metric.compute(metric.statistics(decoded, target, valid).sum(0))
    assert figures == {"mae": pytest.approx(np.nanmean(errors), rel=1e-6)}


def test_depths_that_are_not_positive_are_as_wrong_as_they_are() -> None:
    target, valid = torch.ones(1, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool)
    metric = DepthErrors()
    figures = metric.compute(metric.statistics(torch.full((1, 2, 2), -1.0), target, valid)[0])
    assert figures["rmse"] == figures["absrel"] == 2
    assert figures["rmse_log"] == pytest.approx(math.log(1e6))
    assert figures["delta1"] == 0


def test_angular_errors_equal_numpy() -> None:
    metric, decoded, target, _ = _angles(torch.Generator().manual_seed(1))
    valid = _valid()
    p, t = (x.movedim(1, -1)[valid].double().numpy() for x in (decoded, target))
    angle = np.degrees(np.arccos(np.clip((p * t).sum(1), -1, 1)))
    figures = metric.compute(metric.statistics(decoded, target, valid).sum(0))
    assert figures["mean_angle"] == pytest.approx(angle.mean(), abs=1e-4)
    assert figures["median_angle"] == pytest.approx(np.median(angle), abs=0.1)
    for name, limit in (("within_11_25", 11.25), ("within_22_5", 22.5), ("within_30", 30)):
        assert figures[name] == pytest.approx(100 * (angle < limit).mean(), abs=1e-9)


@pytest.mark.parametrize("degrees", [0.0, 0.005, 0.3, 11.0, 90.0, 179.9, 180.0])
def test_angles_are_exact_at_both_ends(degrees: float) -> None:
    a = math.radians(degrees)
    first = torch.tensor([[1.0, 0.0, 0.0]])
    second = 3 * torch.tensor([[math.cos(a), math.sin(a), 0.0]])
    assert angle_between(first, second).item() == pytest.approx(degrees, abs=2e-5)


@pytest.mark.parametrize("degrees", [3.3, 41.7, 180.0])
def test_median_of_equal_angles_is_that_angle(degrees: float) -> None:
    a = math.radians(degrees)
    target = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    decoded = torch.tensor([math.sin(a), 0.0, math.cos(a)]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    metric = AngularErrors()
    total = metric.statistics(decoded, target, torch.ones(1, 4, 4, dtype=torch.bool)).sum(0)
    assert metric.compute(total)["median_angle"] == pytest.approx(degrees, abs=0.05)


@pytest.mark.parametrize("beta2", [0.3, 1.0])
def test_max_f_equals_one_pass_a_threshold(beta2: float) -> None:
    _, decoded, target, _ = _max_f(torch.Generator().manual_seed(1))
    decoded[0, 0, :5] = torch.tensor([0.0, 0.01, 0.5, 0.99, 1.0])
    valid = _valid()
    p, t = decoded[valid].numpy(), target[valid].numpy() == 1
    scores = []
    for threshold in np.array(THRESHOLDS, np.float32):
        hit = p >= threshold
        tp, fp, fn = (hit & t).sum(), (hit & ~t).sum(), (~hit & t).sum()
        precision, recall = tp / max(tp + fp, 1), tp / (tp + fn)
        scores.append((1 + beta2) * precision * recall / max(beta2 * precision + recall, 1e-12))
    metric = MaxF("best", beta2, THRESHOLDS)
    figures = metric.compute(metric.statistics(decoded, target, valid).sum(0))
    assert figures["best"] == pytest.approx(max(scores))


def test_max_f_without_positives_is_nan_and_without_hits_zero() -> None:
    metric = MaxF("best", 1.0, [0.5])
    everywhere = torch.ones(1, 2, 2, dtype=torch.bool)
    none = metric.statistics(torch.ones(1, 2, 2), torch.zeros(1, 2, 2).long(), everywhere).sum(0)
    assert math.isnan(metric.compute(none)["best"])
    missed = metric.statistics(torch.zeros(1, 2, 2), torch.ones(1, 2, 2).long(), everywhere).sum(0)
    assert metric.compute(missed)["best"] == 0


@pytest.mark.parametrize("thresholds", [[], [0.5, 0.4], [0.5, 0.5]])
def test_max_f_refuses_thresholds_out_of_order(thresholds: list[float]) -> None:
    with pytest.raises(ValueError, match="increasing"):
        MaxF("best", 1.0, thresholds)


def test_a_prediction_that_is_not_a_number_is_not_taken_for_a_good_one() -> None:
    """Not even where it is one pixel of many."""
    _, decoded, target, _ = _angles(torch.Generator().manual_seed(1))
    everywhere = torch.ones(B, H, W, dtype=torch.bool)
    decoded[0, :, 0, 0] = math.nan
    depth = decoded[:, 0].abs() + 1
    for metric, predicted, true in (
        (AngularErrors(), decoded, target),
        (DepthErrors(), depth, torch.ones_like(depth)),
        (MeanAbsoluteError(), decoded, target),
    ):
        figures = metric.compute(metric.statistics(predicted, true, everywhere).sum(0))
        assert all(math.isnan(value) for value in figures.values()), figures


def test_nan_reaches_no_threshold() -> None:
    target, valid = torch.ones(1, 2, 3, dtype=torch.int64), torch.ones(1, 2, 3, dtype=torch.bool)
    metric = MaxF("best", 0.3, THRESHOLDS)
    statistics = metric.statistics(torch.full((1, 2, 3), torch.nan), target, valid).sum(0)
    assert metric.compute(statistics) == {"best": 0.0}
