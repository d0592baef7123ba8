"""Scatter plots: the front is what nothing beats, labels never lie on each other."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scatter import Point, front, scatter, spread

POINTS = st.lists(
    st.builds(Point, st.floats(0.001, 100), st.floats(-50, 50), st.just("a <head>")),
    min_size=2,
    max_size=20,
)


@given(POINTS)
def test_nothing_beats_the_front_and_it_beats_the_rest(points: list[Point]) -> None:
    best = front(points)
    for point in points:
        beaten = any(p.cost <= point.cost and p.quality > point.quality for p in points)
        assert not (point in best and beaten)
        assert any(p.cost <= point.cost and p.quality >= point.quality for p in best)


@given(st.lists(st.floats(0, 400), max_size=25).map(sorted))
def test_labels_keep_their_distance_and_their_order(heights: list[float]) -> None:
    placed = spread(heights, 15, 500)
    assert len(placed) == len(heights)
    assert all(b - a >= 15 - 1e-9 for a, b in pairwise(placed))
    assert not placed or placed[-1] <= 500
    if all(b - a >= 15 for a, b in pairwise(heights)):
        assert placed == heights


@given(POINTS)
def test_every_point_has_a_dot_and_its_label(points: list[Point]) -> None:
    picture = scatter(points, "title", "x", "y")
    assert picture.count("<circle") == len(points)
    assert picture.count("a &lt;head&gt;") == len(points)


def test_a_plot_is_well_formed_and_names_every_point() -> None:
    points = [Point(0.1, 1.0, "a < b"), Point(2.0, 3.0, "c & d", marked=True)]
    root = ET.fromstring(scatter(points, "title", "cost", "quality"))
    texts = {element.text for element in root.iter() if element.tag.endswith("text")}
    assert {"a < b", "c & d", "title", "cost", "quality"} <= texts
    assert len([e for e in root.iter() if e.tag.endswith("circle")]) == 2
