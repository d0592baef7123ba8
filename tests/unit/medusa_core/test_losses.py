"""Losses against plain numpy loops, and what they do where nothing is valid."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from medusa_core.losses import (
    balanced_bce,
    cosine_distance,
    direction_l1,
    masked_cross_entropy,
    masked_l1,
)

SHAPE = (2, 5, 7)
Case = tuple[Callable[..., Tensor], Tensor, Tensor]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def _vectors() -> Tensor:
    raw = torch.randn(2, 3, 5, 7, generator=_generator())
    return raw / raw.norm(dim=1, keepdim=True)


def _cases() -> dict[str, Case]:
    g = _generator()
    maps = torch.randn(SHAPE, generator=g)
    classes = torch.randint(0, 4, SHAPE, generator=g)
    binary = (torch.rand(SHAPE, generator=g) > 0.7).long()
    return {
        "l1": (masked_l1, maps, torch.randn(SHAPE, generator=g)),
        "cross_entropy": (masked_cross_entropy, torch.randn(2, 4, 5, 7, generator=g), classes),
        "balanced_bce": (balanced_bce, maps, binary),
        "direction_l1": (direction_l1, torch.randn(2, 3, 5, 7, generator=g), _vectors()),
        "cosine_distance": (cosine_distance, torch.randn(2, 3, 5, 7, generator=g), _vectors()),
    }


CASES = _cases()
VALID = torch.rand(SHAPE, generator=torch.Generator().manual_seed(5)) > 0.4


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_nothing_valid_is_zero_with_a_zero_gradient(case: Case) -> None:
    loss, prediction, target = case
    prediction = (prediction * 1e30).requires_grad_()
    value = loss(prediction, target, torch.zeros_like(VALID))
    value.backward()
    assert value.item() == 0.0
    assert prediction.grad is not None
    assert torch.equal(prediction.grad, torch.zeros_like(prediction))


def test_invalid_pixels_change_nothing(case: Case) -> None:
    loss, prediction, target = case
    mask = VALID if target.ndim == VALID.ndim else VALID[:, None].expand_as(target)
    poison = 255 if target.dtype == torch.int64 else 1e20
    poisoned = target.masked_fill(~mask, poison)
    first, second = (prediction.clone().requires_grad_() for _ in range(2))
    a, b = loss(first, target, VALID), loss(second, poisoned, VALID)
    a.backward()
    b.backward()
    assert torch.equal(a, b)
    assert torch.equal(first.grad, second.grad)
    assert not second.grad.movedim(1, -1)[~VALID].any() if second.grad.ndim == 4 else True


def test_descends_to_almost_nothing(case: Case) -> None:
    loss, prediction, target = case
    raw = prediction.clone().requires_grad_()
    optimiser = torch.optim.Adam([raw], lr=0.2)
    start = float(loss(raw, target, VALID).detach())
    for _ in range(120):
        optimiser.zero_grad()
        loss(raw, target, VALID).backward()
        optimiser.step()
    assert float(loss(raw, target, VALID).detach()) < 0.1 * start


def test_channels_last_predictions_give_the_same(case: Case) -> None:
    loss, prediction, target = case
    if prediction.ndim != 4:
        pytest.skip("one channel")
    other = prediction.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(loss(other, target, VALID), loss(prediction, target, VALID))


def test_l1_is_the_mean_over_valid_pixels_and_channels() -> None:
    _, prediction, target = CASES["direction_l1"]
    keep = VALID.numpy()
    error = np.abs(prediction.numpy() - target.numpy()).transpose(0, 2, 3, 1)[keep]
    assert masked_l1(prediction, target, VALID).item() == pytest.approx(error.mean(), rel=1e-5)


def test_l1_ignores_a_nan_target_where_invalid() -> None:
    _, prediction, target = CASES["l1"]
    raw = prediction.clone().requires_grad_()
    value = masked_l1(raw, target.masked_fill(~VALID, math.nan), VALID)
    value.backward()
    assert value.isfinite()
    assert raw.grad.isfinite().all()


def test_cross_entropy_equals_a_loop() -> None:
    _, prediction, target = CASES["cross_entropy"]
    values = []
    for b, y, x in zip(*np.nonzero(VALID.numpy()), strict=True):
        scores = prediction[b, :, y, x].double().numpy()
        values.append(math.log(np.exp(scores).sum()) - scores[int(target[b, y, x])])
    expected = sum(values) / len(values)
    assert masked_cross_entropy(prediction, target, VALID).item() == pytest.approx(expected, 1e-5)


@pytest.mark.parametrize("shown", [slice(None), slice(-1)], ids=["whole", "a part"])
@pytest.mark.parametrize("classes", [2, 15, 16, 40])
def test_cross_entropy_does_not_depend_on_how_scores_lie(classes: int, shown: slice) -> None:
    """Value and gradient of maps, and of classes side by side; of a part of either, too."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, classes, 6, 9, generator=generator).double()
    target = torch.randint(0, classes, (2, 6, 9), generator=generator)[..., shown]
    valid = (torch.rand(2, 6, 9, generator=generator) > 0.3)[..., shown]
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        own = scores.clone(memory_format=layout).requires_grad_()
        value = masked_cross_entropy(own[..., shown], target, valid)
        found.append([value.detach(), *torch.autograd.grad(value, own)])
    for maps, side_by_side in zip(*found, strict=True):
        torch.testing.assert_close(maps, side_by_side)


@pytest.mark.parametrize("classes", [3, 16])
def test_cross_entropy_refuses_a_target_on_its_side(classes: int) -> None:
    scores = torch.zeros(1, classes, 4, 6).to(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="target"):
        masked_cross_entropy(
            scores, torch.zeros(1, 6, 4, dtype=torch.long), torch.ones(1, 6, 4).bool()
        )


@pytest.mark.parametrize("positive_weight", [None, 0.95])
def test_bce_equals_a_loop(positive_weight: float | None) -> None:
    _, prediction, target = CASES["balanced_bce"]
    keep = VALID.numpy()
    scores, truth = prediction.double().numpy()[keep], target.numpy()[keep]
    share = (truth == 0).mean() if positive_weight is None else positive_weight
    terms = np.where(
        truth == 1, share * np.logaddexp(0, -scores), (1 - share) * np.logaddexp(0, scores)
    )
    value = balanced_bce(prediction, target, VALID, positive_weight)
    assert value.item() == pytest.approx(terms.mean(), rel=1e-5)


@pytest.mark.parametrize("truth", [0, 1])
def test_bce_still_teaches_where_only_one_class_occurs(truth: int) -> None:
    raw = torch.zeros(SHAPE, requires_grad=True)
    balanced_bce(raw, torch.full(SHAPE, truth), torch.ones(SHAPE, dtype=torch.bool)).backward()
    wanted = -1 if truth else 1
    assert (raw.grad.sign() == wanted).all()


def test_direction_losses_ignore_the_length_of_the_prediction() -> None:
    target = _vectors()
    everywhere = torch.ones(SHAPE, dtype=torch.bool)
    for loss in (direction_l1, cosine_distance):
        assert loss(target * 7, target, everywhere).item() < 1e-5
        assert loss(target * 0, target, everywhere).isfinite()
    assert cosine_distance(-target, target, everywhere).item() == pytest.approx(2, abs=1e-4)


def test_direction_gradient_is_finite_at_zero() -> None:
    raw = torch.zeros(2, 3, 5, 7, requires_grad=True)
    direction_l1(raw, _vectors(), VALID).backward()
    assert raw.grad.isfinite().all()
    assert raw.grad.any()


@pytest.mark.parametrize("loss", [masked_l1, balanced_bce, direction_l1, cosine_distance])
def test_shapes_that_would_broadcast_are_refused(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match=r"\(2, 1, 5, 7\) but target is \(2, 5, 7\)"):
        loss(torch.zeros(2, 1, 5, 7), torch.zeros(SHAPE), VALID)


def test_global_predictions_work_too() -> None:
    present = torch.tensor([True, False])
    scores, classes = torch.randn(2, 4), torch.tensor([1, 255])
    expected = torch.nn.functional.cross_entropy(scores[:1], classes[:1])
    torch.testing.assert_close(masked_cross_entropy(scores, classes, present), expected)
    values = torch.tensor([[1.0, 2.0], [9.0, 9.0]])
    assert masked_l1(values, torch.zeros(2, 2), present).item() == pytest.approx(1.5)


def test_channels_may_be_known_apart() -> None:
    torch.manual_seed(0)
    prediction = torch.randn(2, 3, 4, 4, requires_grad=True)
    target = torch.randn(2, 3, 4, 4)
    target[0, 1, :2] = float("nan")
    known = ~target.isnan()
    known[1] = False
    loss = masked_l1(prediction, target, known)
    torch.testing.assert_close(loss, (prediction - target).abs()[known].mean())
    loss.backward()
    assert prediction.grad is not None
    assert not prediction.grad[~known].any()
    assert prediction.grad[known].all()
