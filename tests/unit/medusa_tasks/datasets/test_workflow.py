"""Training and evaluation on a tree in a published layout, as a user runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import medusa_core
from medusa_core.errors import DataError, LabelsError
from medusa_tasks.plugin import medusa_register_datasets

QUICK: dict[str, Any] = {
    "steps": 3,
    "batch": 2,
    "views": 2,
    "settings": {"width": 4, "fused_width": 8},
}


@pytest.fixture
def trained(make_model: Callable[..., Path], nyud: Path) -> tuple[Path, list[str]]:
    model, data = make_model(), [f"nyud:{nyud}"]
    done = medusa_core.add_task(["semseg", "depth"], model=model, data=data, **QUICK)
    assert set(done["heads"]) == {"semseg", "depth"}
    return model, data


def test_two_tasks_are_trained_and_scored(trained: tuple[Path, list[str]]) -> None:
    model, data = trained
    heads = medusa_core.evaluate(model, data=data)["heads"]
    assert set(heads) == {"semseg", "depth"}
    assert heads["depth"]["metrics"]["rmse"] > 0
    assert 0 <= heads["semseg"]["metrics"]["miou"] <= 1


def test_the_copy_of_mtan_has_other_classes(
    trained: tuple[Path, list[str]], trees: Any, tmp_path: Path
) -> None:
    content = trees.make_content(["0", "1"], 13)
    data = [f"nyud:{trees.write_mtan(tmp_path / 'mtan', content)}"]
    with pytest.raises(LabelsError, match="40 classes against 13"):
        medusa_core.evaluate(trained[0], tasks=["semseg"], data=data)
    assert set(medusa_core.evaluate(trained[0], tasks=["depth"], data=data)["heads"]) == {"depth"}


def test_a_target_it_does_not_have(make_model: Callable[..., Path], nyud: Path) -> None:
    with pytest.raises(DataError, match=r"nyud \(NYUD_MT\): no target 'saliency'"):
        medusa_core.add_task("saliency", model=make_model(), data=[f"nyud:{nyud}"], **QUICK)


def test_what_is_listed_is_what_is_there(nyud: Path) -> None:
    from medusa_tasks.datasets.nyud.dataset import open_nyud

    specs = {spec.name: spec for spec in medusa_register_datasets()}
    assert set(specs["nyud"].targets) == set(open_nyud(str(nyud), "train").targets)
    for name in ("nyud", "pascal_context"):
        assert "cite" in specs[name].licence
        assert specs[name].location == "required"
