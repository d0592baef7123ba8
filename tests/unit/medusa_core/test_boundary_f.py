"""Boundary scores against exhaustive matching and the definitions written out."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from medusa_core.metrics import BoundaryF, thin
from medusa_core.metrics.boundary_matching import count_matches

SIZE = (30, 40)  # a diagonal of 50
METRIC = BoundaryF(max_distance=0.04)  # 2 pixels of it
EVERYWHERE = torch.ones(1, *SIZE, dtype=torch.bool)


def pixels(mask: np.ndarray) -> list[tuple[int, int]]:
    return [(int(row), int(column)) for row, column in np.argwhere(mask)]


def near(first: np.ndarray, second: np.ndarray, radius: float) -> list[list[int]]:
    """For each pixel of the first the numbers of those of the second within the radius."""
    return [
        [j for j, q in enumerate(pixels(second)) if math.dist(p, q) <= radius]
        for p in pixels(first)
    ]


def exhaustive(first: np.ndarray, second: np.ndarray, radius: float) -> int:
    """Every choice of partners tried."""
    partners = near(first, second, radius)

    @functools.cache
    def most(index: int, taken: int) -> int:
        if index == len(partners):
            return 0
        free = [j for j in partners[index] if not taken >> j & 1]
        return max([most(index + 1, taken), *(1 + most(index + 1, taken | 1 << j) for j in free)])

    return most(0, 0)


def augmenting(first: np.ndarray, second: np.ndarray, radius: float) -> int:
    """One augmenting path after the other."""
    partners, owner = near(first, second, radius), {}

    def find(index: int, seen: set[int]) -> bool:
        for j in partners[index]:
            if j not in seen:
                seen.add(j)
                if j not in owner or find(owner[j], seen):
                    owner[j] = index
                    return True
        return False

    return sum(find(index, set()) for index in range(len(partners)))


def scattered(seed: int, count: int, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(math.prod(shape), bool)
    mask[np.random.RandomState(seed).permutation(mask.size)[:count]] = True
    return mask.reshape(shape)


@given(
    seed=st.integers(0, 10**6),
    counts=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    shape=st.tuples(st.integers(4, 7), st.integers(4, 7)),
    radius=st.sampled_from([0.0, 0.9, 1.0, 1.5, 2.0, 2.9, 4.3, 20.0]),
)
@settings(deadline=None)
def test_matches_are_as_many_as_any_choice_gives(seed, counts, shape, radius) -> None:
    first, second = (scattered(seed + i, count, shape) for i, count in enumerate(counts))
    expected = exhaustive(first, second, radius)
    assert count_matches(first[None], second, radius).tolist() == [expected]
    assert count_matches(second[None], first, radius).tolist() == [expected]
    assert augmenting(first, second, radius) == expected


@given(
    seed=st.integers(0, 10**6),
    counts=st.lists(st.integers(0, 120), max_size=5),
    radius=st.sampled_from([0.0, 1.0, 1.2, 2.9]),
)
@settings(deadline=None)
def test_each_of_several_maps_is_matched_alone(seed, counts, radius) -> None:
    """Dense and sparse ones, in which many pixels are matched before a flow is looked for."""
    second = scattered(seed, 60, (12, 14))
    maps = [scattered(seed + 1 + i, count, (12, 14)) for i, count in enumerate(counts)]
    first = np.array(maps).reshape(-1, 12, 14).astype(bool)
    found = count_matches(first, second, radius)
    assert found.tolist() == [augmenting(one, second, radius) for one in maps]


def test_nearest_first_would_not_be_enough() -> None:
    """Pixel 2 must leave its place to pixel 3, which can go nowhere else."""
    first, second = np.zeros((2, 1, 6), bool)
    first[0, [2, 3]] = True
    second[0, [0, 2]] = True
    assert count_matches(first[None], second, 2.0) == [2]
    assert count_matches(first[None], second, 1.9) == [1]


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be matched"):
        count_matches(np.ones((1, 2, 3), bool), np.ones((3, 2), bool), 1.0)


def figures(decoded: Tensor, target: Tensor, valid: Tensor | None = None) -> dict[str, float]:
    valid = torch.ones(target.shape, dtype=torch.bool) if valid is None else valid
    return METRIC.compute(METRIC.statistics(decoded, target, valid).sum(0))


def row(*rows: int) -> Tensor:
    """`(1, H, W) int64` with full rows set."""
    target = torch.zeros(1, *SIZE, dtype=torch.int64)
    target[:, list(rows)] = 1
    return target


def by_definition(decoded: np.ndarray, true: np.ndarray, radius: float) -> dict[str, float]:
    """The docstring of `BoundaryF`, threshold by threshold."""
    images = []
    for probability, boundary in zip(decoded, true, strict=True):
        line, counts = thin(boundary), []
        for threshold in np.arange(1, 100) / 100:
            drawn = thin(probability >= np.float32(threshold))
            hits = augmenting(drawn, line, radius)
            counts.append((hits, drawn.sum(), line.sum()))
        images.append(counts)
    table = np.array(images, float)
    pooled = table.sum(axis=0)
    best = [max(reversed(counts), key=lambda c: _f(*c)) for counts in table]
    points = sorted((m / t, m / p) for m, p, t in pooled if p)
    recalls = sorted({r for r, _ in points})
    precision = [max(p for r, p in points if r == recall) for recall in recalls]
    return {
        "odsf": max(_f(*counts) for counts in pooled),
        "oisf": _f(*np.sum(best, axis=0)),
        "ap": sum(r * p for r, p in zip(recalls[:1], precision[:1], strict=True))
        + sum(
            (recalls[i] - recalls[i - 1]) * (precision[i] + precision[i - 1]) / 2
            for i in range(1, len(recalls))
        ),
    }


def _f(matched: float, predicted: float, true: float) -> float:
    precision = matched / predicted if predicted else 0.0
    recall = matched / true if true else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(seed=st.integers(0, 10**6), steps=st.sampled_from([3, 20, 1000]), empty=st.booleans())
@example(seed=0, steps=1, empty=False)
@settings(deadline=None, max_examples=12)
def test_figures_follow_their_definitions(seed: int, steps: int, empty: bool) -> None:
    noise = np.random.RandomState(seed)
    true = noise.rand(2, 13, 17) > 0.8
    if empty:
        true[1] = False
    decoded = np.clip(0.3 * true + 0.7 * noise.rand(*true.shape), 0, 1)
    decoded = (np.floor(decoded * steps) / steps).astype(np.float32)
    metric = BoundaryF(max_distance=0.1)
    target = torch.from_numpy(true.astype(np.int64))
    total = metric.statistics(torch.from_numpy(decoded), target, target >= 0).sum(0)
    expected = by_definition(decoded, true, 0.1 * math.hypot(13, 17))
    assert metric.compute(total) == pytest.approx(expected)


def test_the_truth_is_perfect_and_so_is_a_thick_one() -> None:
    target = row(10)
    assert figures(target.float(), target) == {"odsf": 1, "oisf": 1, "ap": 1}
    thick = row(9, 10, 11)
    line = torch.from_numpy(thin(thick[0].numpy()).astype(np.float32))[None]
    assert figures(line, thick)["odsf"] == 1


@pytest.mark.parametrize(("shift", "expected"), [(0, 1), (1, 1), (2, 1), (3, 0), (7, 0)])
def test_the_tolerance_is_a_distance_on_the_diagonal(shift: int, expected: float) -> None:
    found = figures(row(10 + shift).float(), row(10))
    assert found == {"odsf": expected, "oisf": expected, "ap": expected}


def test_two_predicted_lines_cannot_both_claim_one() -> None:
    """Both lie within the tolerance of the true line."""
    found = figures(row(9, 11).float(), row(10))
    assert found["odsf"] == pytest.approx(2 / 3)
    assert found["ap"] == pytest.approx(0.5)


def test_a_thick_prediction_is_thinned_first() -> None:
    assert figures(row(9, 10, 11).float(), row(10))["odsf"] > 0.97


def test_one_operating_point_has_the_area_precision_times_recall() -> None:
    """Two of four predicted lines are right, and they are two of three true ones."""
    found = figures(row(2, 8, 14, 20).float(), row(2, 8, 26))
    assert found["odsf"] == pytest.approx(2 * 2 / (4 + 3))
    assert found["ap"] == pytest.approx(1 / 2 * 2 / 3)


def test_each_image_may_choose_its_threshold() -> None:
    """A wrong line at 0.5 is to be left out in one image, a right one at 0.3 kept in the other."""
    sure = row(5).float() * 0.9 + row(20).float() * 0.5
    faint = row(5).float() * 0.3
    found = figures(torch.cat([sure, faint]), torch.cat([row(5), row(5)]))
    assert found["oisf"] == 1
    assert found["odsf"] == pytest.approx(2 * 2 / (3 + 2))


def test_an_image_without_boundary_is_best_left_empty() -> None:
    found = figures(torch.cat([row(5).float(), row(9).float() * 0.5]), torch.cat([row(5), row()]))
    assert found["oisf"] == found["odsf"] == 1


@pytest.mark.parametrize(("value", "seen"), [(0.009, False), (0.01, True), (0.99, True)])
def test_a_threshold_is_reached_by_its_own_value(value: float, seen: bool) -> None:
    total = METRIC.statistics(row(10).float() * value, row(10), EVERYWHERE)[0]
    assert total[0] == (SIZE[1] if seen else 0)
    assert total[98] == (SIZE[1] if value == 0.99 else 0)


def test_without_true_boundary_there_is_no_figure_and_without_hit_it_is_zero() -> None:
    assert all(math.isnan(value) for value in figures(row(3).float(), row()).values())
    assert figures(row().float(), row(3)) == {"odsf": 0, "oisf": 0, "ap": 0}
    unknown = row(3).float().masked_fill(row(3) == 1, math.nan)
    assert figures(unknown, row(3)) == {"odsf": 0, "oisf": 0, "ap": 0}


def test_what_is_predicted_where_nothing_is_known_does_not_count() -> None:
    valid = EVERYWHERE.clone()
    valid[:, 15:] = False
    known = row(10).float()
    noise = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(0))
    clutter = torch.where(valid, known, noise)
    expected = METRIC.statistics(known, row(10), valid)
    assert torch.equal(METRIC.statistics(clutter, row(10), valid), expected)
    assert torch.equal(METRIC.statistics(known, row(10, 20), valid), expected)
    assert METRIC.compute(expected[0])["odsf"] == 1


def test_a_wider_tolerance_finds_no_less() -> None:
    g = torch.Generator().manual_seed(0)
    decoded, target = torch.rand(1, *SIZE, generator=g), row(10, 20)
    counts = [
        BoundaryF(distance).statistics(decoded, target, EVERYWHERE)[0, :99]
        for distance in (0.0, 0.01, 0.02, 0.04, 0.1)
    ]
    assert all((a <= b).all() for a, b in itertools.pairwise(counts))
    assert counts[0].sum() < counts[-1].sum()


@pytest.mark.parametrize("distance", [-0.1, 1.5, math.nan, math.inf])
def test_impossible_tolerances_are_refused(distance: float) -> None:
    with pytest.raises(ValueError, match="max_distance"):
        BoundaryF(distance)
