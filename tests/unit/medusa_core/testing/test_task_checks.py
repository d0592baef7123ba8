"""Each check of a task fails for a task with that one bug, and no other check does."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch import nn

from medusa_core.api import (
    HeadRef,
    LabelSchema,
    MetricRef,
    OutputSpec,
    Sample,
    TargetSpec,
    TaskSpec,
    hookimpl,
)
from medusa_core.losses import masked_l1
from medusa_core.testing import CheckFailure, check_task
from medusa_core.testing.conformance import TASK_CHECKS
from medusa_core.testing.fakes import fake_image

from .conftest import with_metric

BROKEN: dict[str, Any] = {}
IMAGE = TargetSpec(source="image")
MAE = MetricRef(name="mae", higher_is_better=False, primary=True)


def breaks(function: Any) -> Any:
    """Register a bug under the name of the check that must notice it."""
    BROKEN[function.__name__] = function
    return function


@breaks
def spec_survives_json(variant, good):
    return variant(default_head=HeadRef(name="medusa", config={"width": Decimal(4)}))


@breaks
def spec_speaks_this_api(variant, good):
    return variant(api_version="1.999")


@breaks
def hook_is_repeatable(variant, good):
    plugin, count = variant(), itertools.count()
    (level,) = plugin.medusa_register_tasks()
    plugin.medusa_register_tasks = hookimpl(
        lambda: [level.model_copy(update={"title": str(next(count))})]
    )
    return plugin


@breaks
def import_is_light(variant, good):
    import heavy_plugin

    return heavy_plugin


@breaks
def settings_survive_json(variant, good):
    class Loose(BaseModel):
        width: int = 1

    return variant(config=Loose, config_model="broken_code:Config")


@breaks
def implementation_is_a_task(variant, good):
    class Broken(good.Level):
        def __init__(self, spec, labels=None, config=None):
            super().__init__(spec.model_copy(update={"title": "mine"}), labels, config)

    return variant(Broken)


@breaks
def rules_fit_the_target(variant, good):
    return variant(labels=LabelSchema(names=("left", "right"), swap_pairs=((0, 1),)))


@breaks
def target_has_its_layout(variant, good):
    class Broken(good.Level):
        def encode_target(self, raw, image):
            return raw.astype(np.float64)

    return variant(Broken)


@breaks
def target_is_repeatable(variant, good):
    class Broken(good.Level):
        def encode_target(self, raw, image):
            raw[:9] = 0
            return raw

    return variant(Broken)


@breaks
def target_is_in_range(variant, good):
    class Broken(good.Level):
        def encode_target(self, raw, image):
            return np.where(raw == -9, raw, raw + 1.5)

        def decode(self, prediction):
            return super().decode(prediction).clamp(0, 4)

    return variant(Broken, output=OutputSpec(channels=1, range=(0.0, 4.0)))


@breaks
def target_follows_flips(variant, good):
    class Broken(good.Level):
        def encode_target(self, raw, image):
            return (image.mean(2) / 255 + np.linspace(0, 1, image.shape[1])).astype(np.float32)

    return variant(Broken, target=IMAGE)


@breaks
def loss_is_finite(variant, good):
    class Broken(good.Level):
        def loss(self, prediction, target, valid):
            far = torch.where(valid, prediction.squeeze(1), 0.0).exp().sum() - valid.numel()
            return {**super().loss(prediction, target, valid), "far": 1e-9 * far}

    return variant(Broken)


@breaks
def loss_allows_nothing_valid(variant, good):
    class Broken(good.Level):
        def loss(self, prediction, target, valid):
            return {"l1": (prediction.squeeze(1) - target)[valid].abs().mean()}

    return variant(Broken)


@breaks
def loss_ignores_what_is_invalid(variant, good):
    class Broken(good.Level):
        def loss(self, prediction, target, valid):
            everywhere = valid.any() & torch.ones_like(valid)
            return {"l1": masked_l1(prediction.squeeze(1), target, everywhere)}

    return variant(Broken)


@breaks
def loss_leads_to_the_target(variant, good):
    class Broken(good.Level):
        def loss(self, prediction, target, valid):
            return super().loss(prediction, -target, valid)

    return variant(Broken)


@breaks
def loss_leaves_its_arguments_alone(variant, good):
    class Broken(good.Level):
        def loss(self, prediction, target, valid):
            return super().loss(prediction, target.masked_fill_(~valid, 5.0), valid)

    return variant(Broken)


@breaks
def metrics_report_the_spec(variant, good):
    class Extra(good.MeanError):
        def compute(self, total):
            return {**super().compute(total), "rmse": float("nan")}

    return variant(with_metric(good, Extra))


@breaks
def primary_metric_is_quick(variant, good):
    class Costly(good.MeanError):
        costly = True

    return variant(with_metric(good, Costly))


@breaks
def metrics_prefer_the_target(variant, good):
    class Other(good.MeanError):
        name = "other"

    class Broken(good.Level):
        def new_metrics(self):
            return [*super().new_metrics(), Other()]

    return variant(Broken, metrics=(MAE, MetricRef(name="other", higher_is_better=True)))


@breaks
def metrics_add_up(variant, good):
    class Batched(good.MeanError):
        def statistics(self, decoded, target, valid):
            return super().statistics(decoded, target, valid) / len(valid)

    return variant(with_metric(good, Batched))


@breaks
def metrics_ignore_what_is_invalid(variant, good):
    class Careless(good.MeanError):
        def statistics(self, decoded, target, valid):
            everywhere = valid.any(2).any(1)[:, None, None] & torch.ones_like(valid)
            return super().statistics(decoded, target, everywhere)

    return variant(with_metric(good, Careless))


@breaks
def metrics_of_nothing_are_nan(variant, good):
    class Zero(good.MeanError):
        def compute(self, total):
            return {"mae": float(total[0] / max(float(total[1]), 1.0))}

    return variant(with_metric(good, Zero))


@breaks
def decode_has_its_layout(variant, good):
    class Broken(good.Level):
        def decode(self, prediction):
            return super().decode(prediction).double()

    return variant(Broken)


@breaks
def decode_is_image_by_image(variant, good):
    class Broken(good.Level):
        def decode(self, prediction):
            return super().decode(prediction - 0.01 * prediction.mean(0, keepdim=True))

    return variant(Broken)


@breaks
def render_gives_a_picture(variant, good):
    class Broken(good.Level):
        def render(self, image, value):
            image[:] = 0
            return super().render(image, value)

    return variant(Broken)


@breaks
def render_shows_the_value(variant, good):
    class Broken(good.Level):
        def render(self, image, value):
            return image.copy()

    return variant(Broken)


@breaks
def render_survives_anything_decoded(variant, good):
    class Broken(good.Level):
        def render(self, image, value):
            if np.abs(value).max() > 100:
                raise ValueError("no colour for that")
            return super().render(image, value)

    return variant(Broken)


@breaks
def render_follows_flips(variant, good):
    class Broken(good.Level):
        def render(self, image, value):
            picture = super().render(image, value)
            picture[:, : picture.shape[1] // 2] //= 2
            return picture

    return variant(Broken)


@breaks
def metrics_weigh_pixels(variant, good):
    class Mean(good.MeanError):
        def statistics(self, decoded, target, valid):
            rows = super().statistics(decoded, target, valid)
            return rows / rows[:, 1:].clamp_min(1)

    return variant(with_metric(good, Mean))


@breaks
def metrics_keep_nothing(variant, good):
    class Counting(good.MeanError):
        seen = 0

        def statistics(self, decoded, target, valid):
            self.seen += 1
            return super().statistics(decoded, target, valid)

        def compute(self, total):
            return {name: x * (1 + self.seen) for name, x in super().compute(total).items()}

    return variant(with_metric(good, Counting))


@breaks
def task_keeps_no_state(variant, good):
    class Broken(good.Level):
        last = None

        def loss(self, prediction, target, valid):
            self.last = prediction.shape
            return super().loss(prediction, target, valid)

    return variant(Broken)


@breaks
def task_leaves_the_process_alone(variant, good):
    class Broken(good.Level):
        def loss(self, prediction, target, valid):
            torch.manual_seed(0)
            chosen = valid & (torch.rand(valid.shape) > 0.5)
            return super().loss(prediction, target, chosen)

    return variant(Broken)


@breaks
def default_head_fits_backbones(variant, good):
    class Deep(good.Plain):
        def forward(self, features):
            return self.predict(features[0]) + 0 * features[3].mean()

    return variant(head=Deep, default_head=HeadRef(name="plain"))


@breaks
def default_head_learns(variant, good):
    class Idle(good.Plain):
        def __init__(self, features, out_channels, config):
            super().__init__(features, out_channels, config)
            self.unused = nn.Parameter(torch.zeros(3))

    return variant(head=Idle, default_head=HeadRef(name="plain"))


@breaks
def main_job_works(variant, good):
    class Narrow(good.MeanError):
        def statistics(self, decoded, target, valid):
            if target.shape[-2:] == (48, 64):
                raise ValueError("no image of this size was in my tests")
            return super().statistics(decoded, target, valid)

    return variant(with_metric(good, Narrow))


def failures(plugin: Any, **options: Any) -> dict[str, str]:
    """Check name → message of those that fail."""
    try:
        check_task(plugin, **options)
    except CheckFailure as failure:
        lines = str(failure).split("\n")[1:]
        return dict(line.split(": ", 1) for line in lines if ": " in line)
    return {}


def test_a_good_task_passes(variant: Any) -> None:
    assert failures(variant()) == {}


def test_every_check_has_a_bug_that_it_finds() -> None:
    assert set(BROKEN) == {check.name for check in TASK_CHECKS}
    assert len(TASK_CHECKS) >= 25


@pytest.mark.parametrize("name", BROKEN)
def test_the_check_finds_its_bug_and_no_other_check_does(name: str, variant, good) -> None:
    plugin = BROKEN[name](variant, good[2])
    found = failures(plugin)
    assert name in found
    assert set(found) <= {name, "main_job_works"}, found  # which exercises all the others


def test_pairs_that_no_flip_would_swap_are_refused(good: Any) -> None:
    described = good[1].LEVEL.model_dump()
    with pytest.raises(ValueError, match="is for classes"):
        TaskSpec.model_validate(described | {"target": {"channels": 4, "flip": "swap_pairs"}})


def test_what_was_not_measured_may_be_nan(variant: Any, good: Any) -> None:
    class Broken(good[2].Level):
        def loss(self, prediction, target, valid):
            return super().loss(prediction, target.nan_to_num_(), valid)

    unknown = TargetSpec(invalid=float("nan"))
    assert failures(variant(target=unknown)) == {}
    assert "loss_leaves_its_arguments_alone" in failures(variant(Broken, target=unknown))


def test_what_was_measured_in_part_can_be_drawn_and_is_in_range(variant: Any, good: Any) -> None:
    class Pairs(good[2].Level):
        def render(self, image, value):
            return super().render(image, np.nan_to_num(value).mean(axis=0))

    def sample(size: tuple[int, int], seed: int) -> Sample:
        target = np.stack([fake_image(size, seed)[..., 0] / 255, np.full(size, np.nan)], axis=-1)
        return Sample("partly", fake_image(size), {"level": target.astype(np.float32)})

    pairs = TargetSpec(channels=2, invalid=float("nan"))
    output = OutputSpec(channels=2, range=(0.0, 1.0))
    found = failures(variant(Pairs, target=pairs, output=output), sample=sample)
    assert not found.keys() & {"render_gives_a_picture", "target_is_in_range"}


def test_expected_failures_need_to_fail_and_a_reason(variant: Any, good: Any) -> None:
    plugin = BROKEN["render_shows_the_value"](variant, good[2])
    check_task(plugin, expected_failures={"render_shows_the_value": "draws nothing yet"})
    unexpected = failures(variant(), expected_failures={"loss_is_finite": "who knows"})
    assert unexpected == {"loss_is_finite": "passes, but is expected to fail: who knows"}
    with pytest.raises(ValueError, match="needs a reason"):
        check_task(plugin, expected_failures={"render_shows_the_value": " "})
    with pytest.raises(Exception, match="Unknown check 'loss_is_fine'"):
        check_task(plugin, expected_failures={"loss_is_fine": "misspelt"})


def test_what_is_partly_measured_is_not_trained_where_it_is_not(variant: Any, good: Any) -> None:
    class Filled(good[2].Level):  # type: ignore[misc]
        def loss(self, prediction, target, valid):
            some = valid.flatten(1).any(1).view(-1, 1, 1)
            known = torch.where(valid, target, torch.zeros_like(target))
            wrong = (prediction.squeeze(1) - known).abs() * some
            return {"l1": wrong.mean() * valid.any()}

    assert "loss_ignores_what_is_invalid" in failures(variant(Filled))
