"""Each check of a head or data set fails for one with that one bug, and no other check does."""

from __future__ import annotations

import itertools
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch import nn
from torch.nn import functional as F

from medusa_core.api import (
    DatasetSpec,
    LabelSchema,
    MetricRef,
    OutputSpec,
    Sample,
    TargetSpec,
    TaskSpec,
    hookimpl,
)
from medusa_core.errors import DataError, UnknownNameError
from medusa_core.testing import CheckFailure, check_dataset, check_head
from medusa_core.testing.conformance import DATASET_CHECKS, HEAD_CHECKS
from medusa_core.testing.fakes import FakeDataset

REGISTRATION = {"spec_survives_json", "spec_speaks_this_api", "hook_is_repeatable"} | {
    "import_is_light"
}
"""Shared with tasks, and tested there."""

HEADS: dict[str, Any] = {}
DATASETS: dict[str, Any] = {}


def breaks(table: dict[str, Any]) -> Any:
    """Register a bug under the name of the check that must notice it."""

    def register(function: Any) -> Any:
        table[function.__name__] = function
        return function

    return register


@breaks(HEADS)
def settings_survive_json(variant, good):
    class Loose(BaseModel):
        bias: bool = True

    return variant(config=Loose)


@breaks(HEADS)
def head_fits_backbones(variant, good):
    class Deep(good.Plain):
        def forward(self, features):
            return self.predict(features[0]) + 0 * features[3].mean((1, 2, 3), keepdim=True)

    return variant(head=Deep)


@breaks(HEADS)
def head_learns(variant, good):
    class Idle(good.Plain):
        def __init__(self, features, out_channels, config):
            super().__init__(features, out_channels, config)
            self.unused = nn.Parameter(torch.zeros(3))

        def training_outputs(self, features):  # so that only a full check sees it
            return [(1.0, self(features))]

    return variant(head=Idle)


@breaks(HEADS)
def head_is_repeatable(variant, good):
    class Chance(good.Plain):
        def __init__(self, features, out_channels, config):
            super().__init__(features, out_channels, config)
            drawn = np.random.default_rng().normal(size=self.predict.bias.shape)
            self.predict.bias.data = torch.from_numpy(drawn).float()

    return variant(head=Chance)


@breaks(HEADS)
def head_is_image_by_image(variant, good):
    class Restless(good.Plain):
        def forward(self, features):
            return F.batch_norm(self.predict(features[0]), None, None, training=True)

    return variant(head=Restless)


@breaks(HEADS)
def head_leaves_its_features_alone(variant, good):
    class Thrifty(good.Plain):
        def forward(self, features):
            if not self.training:
                features[0].clamp_(max=5)
            return self.predict(features[0])

    return variant(head=Thrifty)


@breaks(HEADS)
def head_leaves_the_process_alone(variant, good):
    class Seeded(good.Plain):
        def __init__(self, features, out_channels, config):
            torch.manual_seed(0)
            super().__init__(features, out_channels, config)

    return variant(head=Seeded)


@breaks(HEADS)
def head_weights_survive_storage(variant, good):
    class Forgetful(good.Plain):
        scale = 1.0

        def forward(self, features):
            if self.training:
                self.scale *= 0.99
            return self.predict(features[0]) * self.scale

    return variant(head=Forgetful)


@breaks(HEADS)
def head_costs_can_be_counted(variant, good):
    class Curious(good.Plain):
        def forward(self, features):
            return self.predict(features[0]) * (1 if float(features[0].max()) > -1e9 else 0)

    return variant(head=Curious)


@breaks(HEADS)
def recordable_head_looks_at_no_numbers(variant, good):
    class Peeking(good.Plain):
        recordable = True

        def forward(self, features):
            first = features[0]
            shift = 0 if first.is_meta else np.tanh(first.numpy()[:, :1, :1, :1])
            return self.predict(first) + torch.as_tensor(shift)

    return variant(head=Peeking)


@breaks(HEADS)
def heads_side_by_side_say_what_each_says(variant, good):
    class Both(torch.nn.Module):
        def __init__(self, heads):
            super().__init__()
            self.heads = torch.nn.ModuleList(heads)

        def forward(self, features):
            return [head(features) for head in reversed(self.heads)]

    class Swapped(good.Plain):
        family = "swapped"

        @classmethod
        def side_by_side(cls, heads):
            return Both(heads)

    return variant(head=Swapped)


@breaks(HEADS)
def upsampling_head_says_the_same_of_upsampled_levels(variant, good):
    class Boastful(good.Plain):
        upsamples = True

    return variant(head=Boastful)


SEGMENTS = TaskSpec(
    name="segments",
    title="",
    implementation="none:None",
    output=OutputSpec(channels="labels", activation="argmax"),
    target=TargetSpec(dtype="int64"),
    metrics=(MetricRef(name="miou", higher_is_better=True, primary=True),),
)
LABELS = LabelSchema(names=("a", "b", "c"))


class Good(FakeDataset):
    """Two splits of four samples."""

    def __init__(self, location: str | None, split: str) -> None:
        if location not in (None, "here"):
            raise DataError(f"{location}: nothing there.")
        if split not in ("train", "val"):
            raise UnknownNameError("split", split, ["train", "val"])
        super().__init__(SEGMENTS, LABELS, split=split)
        self.ids = tuple(f"{split}-{i}" for i in range(4))

    def load(self, index, targets=None):
        sample = super().load(index, targets)
        return Sample(self.ids[index], sample.image, sample.targets)


@breaks(DATASETS)
def splits_open():
    class Broken(Good):
        def __init__(self, location, split):
            super().__init__(location, split)
            self.ids = tuple(f"{i}" for i in range(4))

    return Broken


@breaks(DATASETS)
def unknown_split_is_an_error():
    class Broken(Good):
        def __init__(self, location, split):
            if split not in ("train", "val"):
                raise KeyError(split)
            super().__init__(location, split)

    return Broken


@breaks(DATASETS)
def unknown_location_is_an_error():
    class Broken(Good):
        def __init__(self, location, split):
            super().__init__(None, split)

    return Broken


@breaks(DATASETS)
def samples_are_as_described():
    class Broken(Good):
        def size(self, index):
            return super().size(index)[::-1]

    return Broken


@breaks(DATASETS)
def only_asked_targets_are_read():
    class Broken(Good):
        def load(self, index, targets=None):
            return super().load(index)

    return Broken


@breaks(DATASETS)
def loading_is_repeatable():
    opened = itertools.count()

    class Broken(Good):
        def __init__(self, location, split):
            super().__init__(location, split)
            self.digest = f"{split}-{next(opened)}"

    return Broken


@pytest.fixture
def dataset_plugin(good: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a plugin whose one data set is of a class."""

    def make(implementation: type) -> ModuleType:
        code = ModuleType("broken_data")
        code.Data = implementation  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "broken_data", code)
        spec = DatasetSpec(
            name="fake",
            title="Fake",
            implementation="broken_data:Data",
            location="optional",
            targets=("segments",),
        )
        module = ModuleType("good_plugin")
        module.medusa_register_datasets = hookimpl(lambda: [spec])  # type: ignore[attr-defined]
        return module

    return make


def failures(check: Any, plugin: Any) -> set[str]:
    """Names of the checks that fail."""
    try:
        check(plugin)
    except CheckFailure as failure:
        return {line.split(": ", 1)[0] for line in str(failure).split("\n")[1:] if ": " in line}
    return set()


def test_every_check_has_a_bug_that_it_finds() -> None:
    assert set(HEADS) == {check.name for check in HEAD_CHECKS} - REGISTRATION
    assert set(DATASETS) == {check.name for check in DATASET_CHECKS} - REGISTRATION


def test_a_good_head_and_a_good_data_set_pass(variant: Any, dataset_plugin: Any) -> None:
    check_head(variant())
    check_head(variant(), settings={"bias": False})
    check_dataset(dataset_plugin(Good))


@pytest.mark.parametrize("name", HEADS)
def test_the_check_finds_the_bug_of_a_head(name: str, variant: Any, good: Any) -> None:
    assert failures(check_head, HEADS[name](variant, good[2])) == {name}


def test_a_head_that_records_gradients_whatever_is_asked_is_found(variant: Any, good: Any) -> None:
    class Eager(good[2].Plain):  # type: ignore[misc]
        def forward(self, features):
            torch.set_grad_enabled(True)
            return super().forward(features)

    assert failures(check_head, variant(head=Eager)) == {"head_leaves_the_process_alone"}
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("name", DATASETS)
def test_the_check_finds_the_bug_of_a_data_set(name: str, dataset_plugin: Any) -> None:
    assert failures(check_dataset, dataset_plugin(DATASETS[name]())) == {name}


def _noisy() -> type:
    opened = itertools.count()

    class Noisy(Good):
        def load(self, index, targets=None):
            sample = super().load(index, targets)
            found = {k: (v + next(opened)) % 3 for k, v in sample.targets.items()}
            return Sample(sample.id, sample.image, found)

    return Noisy


class Impatient(Good):
    def load(self, index, targets=None):
        whole = super().load(index)
        names = whole.targets if targets is None else targets
        return Sample(whole.id, whole.image, {name: whole.targets[name] for name in names})


class Silent(Good):
    def __init__(self, location, split):
        if split not in ("train", "val"):
            raise DataError("No.")
        super().__init__(location, split)


@pytest.mark.parametrize(
    ("implementation", "check"),
    [
        (_noisy(), "loading_is_repeatable"),
        (Impatient, "only_asked_targets_are_read"),
        (Silent, "unknown_split_is_an_error"),
    ],
)
def test_what_would_break_the_host_is_found(
    implementation: type, check: str, dataset_plugin: Any
) -> None:
    assert check in failures(check_dataset, dataset_plugin(implementation))
