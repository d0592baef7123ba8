"""Data sets and tasks of plugins that break the contract are named, with what is wrong."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from medusa_core.api import (
    Metric,
    MetricRef,
    OutputSpec,
    Sample,
    TargetInfo,
    TargetSpec,
    Task,
    TaskSpec,
)
from medusa_core.engine.binding import Binding
from medusa_core.errors import DataError, PluginError
from medusa_core.plugin_host.attribution import AttributedDataset, AttributedMetric, AttributedTask
from medusa_core.plugin_host.report import Provider

PROVIDER = Provider("their-data", "their-data", "1.0")


class Theirs:
    """Two grey images."""

    name, split, digest = "theirs", "train", "d"  # equal everywhere
    targets: Any = MappingProxyType({"depth": TargetInfo()})
    shape: Any = (4, 4)

    def __init__(self, ids: Any = ("a", "b"), image: Any = None) -> None:
        self.ids, self.image = ids, np.zeros((4, 4, 3), np.uint8) if image is None else image

    def __len__(self) -> int:
        return 2

    def size(self, index: int) -> Any:
        return self.shape

    def load(self, index: int, targets: Any = None) -> Sample:
        return Sample(self.ids[index], self.image)


def test_a_sound_one_is_passed_on() -> None:
    found = AttributedDataset(Theirs(), PROVIDER, "theirs")
    assert found.load(1).id == "b"


def test_data_sets_of_equal_digests_are_told_apart_by_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes and times of files are often equal in copies out of archives, whatever they hold."""

    def digest(place: str | None) -> str:
        return AttributedDataset(Theirs(), PROVIDER, "theirs", place).digest

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert digest("a") == digest(str(tmp_path / "a")) == digest("link")
    assert digest("a") != digest("b")
    assert digest(None) == digest("64x96"), "what is no place says nothing"


def test_the_digest_of_a_data_set_is_of_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who edits `load` would train on features of the images as they were."""
    package = tmp_path / "edited"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "drawing.py").write_text("INK = 1\n")
    lines = f"from {__name__} import Theirs\n\n\nclass Data(Theirs):\n    pass\n"
    (package / "dataset.py").write_text(lines)
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("edited.dataset").Data()
    seen = [AttributedDataset(own, PROVIDER, "theirs").digest]
    for name, text in (("drawing.py", "INK = 2\n"), ("dataset.py", lines + "    x = 1\n")):
        (package / name).write_text(text)
        seen.append(AttributedDataset(own, PROVIDER, "theirs").digest)
    assert len(set(seen)) == 3
    assert AttributedDataset(own, PROVIDER, "theirs").digest == seen[-1]


@pytest.mark.parametrize(
    ("ids", "wrong"),
    [
        (("a",), "2 samples and 1 ids"),
        (("a", 7), "id 7 is not text"),
        (("a", "\udcfc.jpg"), "UTF-8"),
    ],
)
def test_ids_that_cannot_be(ids: Any, wrong: str) -> None:
    with pytest.raises(PluginError, match=wrong) as error:
        AttributedDataset(Theirs(ids), PROVIDER, "theirs")
    assert "their-data" in str(error.value)


@pytest.mark.parametrize(
    ("image", "wrong"),
    [
        (np.zeros((4, 4, 3), np.float32), "float32, not uint8"),
        (np.zeros((4, 4), np.uint8), "not \\(H, W, 3\\)"),
        ("a file name", "not \\(H, W, 3\\)"),
    ],
)
def test_images_that_cannot_be(image: Any, wrong: str) -> None:
    found = AttributedDataset(Theirs(image=image), PROVIDER, "theirs")
    with pytest.raises(PluginError, match=wrong) as error:
        found.load(0)
    assert "their-data" in str(error.value)


def spec_of(**target: Any) -> TaskSpec:
    return TaskSpec(
        name="theirs",
        title="",
        implementation="none:None",
        output=OutputSpec(channels=1, range=(0.0, None)),
        target=TargetSpec(**target),
        metrics=(MetricRef(name="mae", higher_is_better=False, primary=True),),
    )


@pytest.mark.parametrize(
    ("target", "wrong"), [("1 m", "is str"), (1.0, "is float"), (torch.ones(4, 4), "is a Tensor")]
)
def test_targets_that_cannot_be(target: Any, wrong: str) -> None:
    own = Theirs()
    own.load = lambda index, names=None: Sample("a", own.image, {"depth": target})  # type: ignore[method-assign]
    with pytest.raises(PluginError, match=f"target 'depth' of 'a' {wrong}.*not an array"):
        AttributedDataset(own, PROVIDER, "theirs").load(0)


@pytest.mark.parametrize(
    ("what", "value", "wrong"),
    [
        ("targets", ["depth"], "targets is list, not a mapping"),
        ("targets", {"depth": ("near", "far")}, r"targets\['depth'\] is tuple, not a TargetInfo"),
        ("digest", None, "its digest is NoneType, not text"),
        ("shape", (4.0, 4.0), "'float' object cannot be interpreted as an integer"),
    ],
)
def test_descriptions_that_cannot_be(what: str, value: Any, wrong: str) -> None:
    def described(own: Theirs) -> tuple[str, tuple[int, int]]:
        found = AttributedDataset(own, PROVIDER, "theirs")
        return found.digest, found.size(0)

    own = Theirs()
    setattr(own, what, value)
    with pytest.raises(PluginError, match=f"their-data.*{wrong}"):
        described(own)


def test_sizes_are_plain_numbers() -> None:
    own = Theirs()
    own.shape = np.array([4, 8])
    height, width = AttributedDataset(own, PROVIDER, "theirs").size(0)
    assert (type(height), type(width)) == (int, int)  # reports are JSON


class Computes(Task):
    """Its target is the same for every image."""

    target: Any = None

    def encode_target(self, raw: Any, image: Any) -> Any:
        return self.target

    def loss(self, prediction: Any, target: Any, valid: Any) -> Any:
        return {}

    def new_metrics(self) -> Any:
        return []

    def render(self, image: Any, value: Any) -> Any:
        return image


@pytest.mark.parametrize(
    ("target", "wrong"),
    [
        (np.zeros((2, 4), np.float32), r"is \(2, 4\), task 'theirs' needs \(4, 8\)"),
        (np.zeros((), np.float32), r"is \(\), task 'theirs' needs \(4, 8\)"),
        (np.full((4, 8), -9, np.float32), "holds 32 values such as -9"),
        (np.full((4, 8), np.nan, np.float32), "holds 32 values such as nan"),
        (np.full((4, 8), -1, np.float32), None),  # invalid, so of no range
    ],
)
def test_targets_computed_from_an_image_are_what_the_task_says(target: Any, wrong: str) -> None:
    own = Computes(spec_of(source="image", invalid=-1.0))
    own.target = target
    task, image = AttributedTask(own, PROVIDER), np.zeros((4, 8, 3), np.uint8)
    if wrong is None:
        assert task.encode_target(None, image) is target
        return
    with pytest.raises(PluginError, match=f"their-data.*encode_target.*{wrong}"):
        task.encode_target(None, image)


@pytest.mark.parametrize("shape", [(2, 4, 3), (0, 8, 3), (4, 8), (4, 8, 4)])
def test_renderings_are_of_the_size_of_the_image(shape: tuple[int, ...]) -> None:
    task = AttributedTask(Computes(spec_of()), PROVIDER)
    image = np.zeros((4, 8, 3), np.uint8)
    assert task.render(image, image[..., 0]) is image
    task.inner.render = lambda *_: np.zeros(shape, np.uint8)  # type: ignore[method-assign]
    with pytest.raises(PluginError, match="their-data.*render of task"):
        task.render(image, image[..., 0])


def test_statistics_have_one_number_of_columns() -> None:
    class Growing(Metric):
        def statistics(self, decoded: Any, target: Any, valid: Any) -> Any:
            return torch.zeros(len(decoded), len(decoded), dtype=torch.float64)

        def compute(self, total: Any) -> dict[str, float]:
            return {}

    metric = AttributedMetric(Growing(), PROVIDER, "theirs")
    for _ in range(2):
        metric.statistics(torch.zeros(2, 4, 4), torch.zeros(0), torch.zeros(0))
    with pytest.raises(PluginError, match="their-data.*2 columns before"):
        metric.statistics(torch.zeros(3, 4, 4), torch.zeros(0), torch.zeros(0))


@pytest.mark.parametrize("invalid", [0.0, -1.0, float("nan"), None])
def test_nothing_measured_is_what_the_task_says_it_is(invalid: float | None) -> None:
    """Data sets know no task's mark: theirs is NaN. A measured 0 stays one."""
    raw = np.array([[np.nan, 0.5], [0.0, 2.0]], np.float32)
    sample = Sample("a", np.zeros((2, 2, 3), np.uint8), {"theirs": raw})
    own = Computes(spec_of(invalid=invalid))
    own.encode_target = lambda raw, image: raw  # type: ignore[method-assign]
    binding = Binding(AttributedTask(own, PROVIDER), None)
    if invalid is None:
        with pytest.raises(DataError, match="nan"):
            binding.target(sample)
        return
    target = binding.target(sample)
    assert target is not None
    known = binding.valid(target)
    np.testing.assert_array_equal(known, [[False, True], [invalid != 0, True]])
    np.testing.assert_array_equal(target[known], raw[known])
    assert np.isnan(raw[0, 0]), "the sample is not written to"
