"""Δ and its intervals."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.gains import Comparison, Judged, Run, judged, t_interval
from medusa_core.api import MetricRef
from medusa_core.engine.scores import Scores
from medusa_core.metrics import DepthErrors, relative_gain

UP = {"a": True, "b": False}


def test_the_reference_gains_nothing() -> None:
    figures = {"a": 0.4, "b": 20.0}
    assert relative_gain(figures, figures, UP) == 0


def test_better_is_positive_whatever_the_direction() -> None:
    assert relative_gain({"a": 0.5}, {"a": 0.4}, {"a": True}) == pytest.approx(25)
    assert relative_gain({"a": -1.0}, {"a": -2.0}, {"a": True}) == pytest.approx(50)
    assert relative_gain({"b": 15.0}, {"b": 20.0}, {"b": False}) == pytest.approx(25)
    assert relative_gain({"a": 0.5, "b": 25.0}, {"a": 0.4, "b": 20.0}, UP) == pytest.approx(0)


def test_units_do_not_matter() -> None:
    metres, feet = {"a": 0.5, "b": 0.8}, {"a": 0.5, "b": 0.8 / 0.3048}
    reference = {"a": 0.4, "b": 1.0}
    other = {"a": 0.4, "b": 1.0 / 0.3048}
    assert relative_gain(metres, reference, UP) == pytest.approx(relative_gain(feet, other, UP))


@pytest.mark.parametrize(
    ("figures", "reference"), [({}, {}), ({"a": 1.0}, {"b": 1.0}), ({"a": 1.0}, {"a": 0.0})]
)
def test_what_has_no_relative_gain_is_refused(
    figures: dict[str, float], reference: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match="reference"):
        relative_gain(figures, reference, dict.fromkeys(figures, True))


def _scores(error: float, seed: int) -> Scores:
    """Depth maps that are wrong by about `error`."""
    generator = torch.Generator().manual_seed(seed)
    scores = Scores([DepthErrors()])
    for _ in range(12):
        truth = torch.rand(1, 4, 5, generator=generator) + 1
        noise = error * (1 + 0.1 * torch.randn(1, 4, 5, generator=generator))
        scores.add(truth + noise, truth, torch.ones(1, 4, 5, dtype=torch.bool))
    return scores


def _comparison(first: float, second: float, seeds: int = 3) -> Comparison:
    depth = MetricRef(name="rmse", unit="m", higher_is_better=False, primary=True)

    def runs(error: float) -> list[Run]:
        return [
            {"depth": judged(_scores(error * (1 + 0.01 * seed), seed), "rmse")}
            for seed in range(seeds)
        ]

    return Comparison({"depth": depth}, {"one": runs(first), "two": runs(second)}, runs(1.0))


def test_a_method_differs_from_itself_by_nothing() -> None:
    same = _comparison(0.7, 0.7).difference("one", "two")
    assert same.mean == 0
    assert same.over_seeds == same.over_images == (0, 0)


def test_a_difference_lies_in_its_intervals_and_turns_its_sign_with_the_order() -> None:
    comparison = _comparison(0.6, 0.8)
    found = comparison.difference("one", "two")
    assert found.mean == pytest.approx(20, abs=0.5)  # of the reference
    assert found.over_seeds[0] < found.mean < found.over_seeds[1]
    assert 0 < found.over_images[0] < found.mean < found.over_images[1]
    turned = comparison.difference("two", "one")
    assert turned.mean == -found.mean
    assert turned.over_images == pytest.approx(tuple(-x for x in reversed(found.over_images)))


def test_one_seed_says_nothing_about_seeds() -> None:
    assert t_interval([1.0]) == (-math.inf, math.inf)


def test_the_interval_over_seeds_is_students() -> None:
    low, high = t_interval([1.0, 2.0, 3.0])
    assert high - 2 == pytest.approx(2 - low)
    assert high == pytest.approx(2 + 4.302653 / math.sqrt(3))


def test_without_a_task_gains_are_those_of_the_others() -> None:
    depth = MetricRef(name="rmse", higher_is_better=False)
    edges = MetricRef(name="odsf", higher_is_better=True)
    run = {
        "depth": Judged({"rmse": 0.5}, ()),
        "edges": Judged({"odsf": 0.9}, ()),
    }
    reference = {task: Judged(dict.fromkeys(of.figures, 1.0), ()) for task, of in run.items()}
    both = Comparison({"depth": depth, "edges": edges}, {"one": [run]}, [reference])
    assert both.gains("one") == pytest.approx([20])
    assert both.gains("one", without="depth") == pytest.approx([-10])
    told = both.as_json({"one": {}}, ours="one")["methods"]["one"]["gains_without"]
    assert told == {"depth": pytest.approx([-10]), "edges": pytest.approx([50])}
