import math

import numpy as np
import pytest
import torch

from medusa_core.engine.feature_cache import as_target
from medusa_core.engine.scores import Scores, better


@pytest.fixture(params=["depth", "semseg", "normals"])
def counted(request, bind, memory):
    """(task, decoded, target, valid) of six images of one size, one without a valid pixel."""
    binding = bind(request.param)
    data = memory(6)
    targets = [binding.target(data.load(i))[:40] for i in range(6)]
    valid = np.stack([binding.valid(target) for target in targets])
    valid[3] = False
    target = as_target(np.stack(targets))
    raw = torch.randn(6, binding.task.out_channels, 40, 48, generator=torch.manual_seed(0))
    return binding.task, binding.task.decode(raw), target, torch.from_numpy(valid)


def test_pooled_scores_do_not_depend_on_batches(counted):
    task, *tensors = counted
    whole = Scores(task.new_metrics())
    whole.add(*tensors)
    for sizes in ([1] * 6, [4, 2], [5, 1]):
        parts = Scores(task.new_metrics())
        merged = Scores(task.new_metrics())
        start = 0
        for size in sizes:
            piece = [tensor[start : start + size] for tensor in tensors]
            parts.add(*piece)
            one = Scores(task.new_metrics())
            one.add(*piece)
            merged.extend(one)
            start += size
        assert len(parts) == len(merged) == 6
        assert parts.figures() == pytest.approx(whole.figures(), rel=1e-9)
        assert merged.figures() == parts.figures()


def test_an_image_without_a_valid_pixel_counts_for_nothing(counted):
    task, *tensors = counted
    whole, without = Scores(task.new_metrics()), Scores(task.new_metrics())
    whole.add(*tensors)
    without.add(*(torch.cat([t[:3], t[4:]]) for t in tensors))
    assert whole.figures() == pytest.approx(without.figures(), rel=1e-12)


def test_a_bootstrap_draws_images_by_index(counted):
    task, *tensors = counted
    scores = Scores(task.new_metrics())
    scores.add(*tensors)
    drawn = torch.tensor([5, 0, 0, 2, 5, 5])
    by_hand = Scores(task.new_metrics())
    by_hand.add(*(tensor[drawn] for tensor in tensors))
    assert scores.figures(drawn) == pytest.approx(by_hand.figures(), rel=1e-12)
    assert scores.figures(torch.arange(6)) == pytest.approx(scores.figures(), rel=1e-12)


def test_every_metric_of_the_spec_is_reported(counted):
    task, *tensors = counted
    scores = Scores(task.new_metrics())
    scores.add(*tensors)
    assert set(scores.figures()) == {ref.name for ref in task.spec.metrics}
    nothing = scores.figures(torch.tensor([3]))
    assert math.isnan(nothing[task.spec.primary_metric.name])


@pytest.mark.parametrize(
    ("task", "new", "old", "verdict"),
    [
        ("semseg", 0.5, 0.4, True),
        ("semseg", 0.4, 0.5, False),
        ("depth", 0.4, 0.5, True),
        ("depth", 0.5, 0.5, False),
        ("depth", 0.5, None, True),
        ("depth", 0.5, math.nan, True),
        ("depth", math.nan, 0.5, False),
        ("depth", math.nan, None, False),
    ],
)
def test_better(bind, task, new, old, verdict):
    assert better(bind(task).task.spec, new, old) is verdict
