"""Views: image and targets stay together, values follow the geometry, nothing is made up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa_core.api import LabelSchema, TargetSpec
from medusa_core.data.geometry import (
    IDENTITY,
    MAX_VIEWS,
    View,
    fixed_views,
    invalid_value,
    place,
    size_votes,
    valid_mask,
    view_image,
    view_target,
    view_value,
)

FILL = (124, 116, 104)
DEPTH = TargetSpec(invalid=0.0, zoom="divide")
NORMALS = TargetSpec(channels=3, invalid=0.0, flip="negate_x")
CLASSES = TargetSpec(dtype="int64")
PARTS = TargetSpec(dtype="int64", flip="swap_pairs")
LABELS = LabelSchema(names=("back", "left", "right", "head"), swap_pairs=((1, 2),))

sides = st.integers(3, 24)
sizes = st.tuples(sides, sides)
shares = st.floats(0, 1)
views = st.builds(View, flip=st.booleans(), zoom=st.floats(1, 3), offset=st.tuples(shares, shares))
seeds = st.integers(0, 999)


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _normals(seed: int, size: tuple[int, int]) -> np.ndarray:
    vectors = _rng(seed).normal(size=(*size, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    vectors[0, 0] = 0
    return vectors


def _parts(seed: int, size: tuple[int, int], ignore: int = 255) -> np.ndarray:
    return _rng(seed).choice(np.array([0, 1, 2, 3, ignore]), size=size).astype(np.int64)


def _targets(seed: int, size: tuple[int, int]) -> list[tuple[Any, TargetSpec, LabelSchema | None]]:
    depth = _rng(seed).uniform(0.5, 9, size).astype(np.float32)
    depth[0, -1] = 0
    return [
        (depth, DEPTH, None),
        (_normals(seed, size), NORMALS, None),
        (_parts(seed, size), CLASSES, LABELS),
        (_parts(seed, size), PARTS, LABELS),
    ]


@given(sizes, seeds)
def test_the_identity_changes_nothing(size: tuple[int, int], seed: int) -> None:
    image = _rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(view_image(image, size, IDENTITY, FILL), image)
    for target, spec, labels in _targets(seed, size):
        viewed = view_target(target, size, IDENTITY, spec, labels)
        np.testing.assert_array_equal(viewed, target)
        assert viewed.dtype == target.dtype


@given(sizes, seeds)
def test_two_flips_are_none(size: tuple[int, int], seed: int) -> None:
    flip = View(flip=True)
    image = _rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    once = view_image(image, size, flip, FILL)
    np.testing.assert_array_equal(once, image[:, ::-1])
    np.testing.assert_array_equal(view_image(once, size, flip, FILL), image)
    for target, spec, labels in _targets(seed, size):
        mirrored = view_target(target, size, flip, spec, labels)
        assert mirrored.dtype == target.dtype
        back = view_target(mirrored, size, flip, spec, labels)
        np.testing.assert_array_equal(back, target)


@given(sizes, seeds)
def test_a_flip_negates_the_x_of_normals_only(size: tuple[int, int], seed: int) -> None:
    vectors = _normals(seed, size)
    flipped = view_target(vectors, size, View(flip=True), NORMALS, None)
    np.testing.assert_array_equal(flipped, vectors[:, ::-1] * np.float32([-1, 1, 1]))


@pytest.mark.parametrize("ignore", [255, -1, -100])
def test_a_flip_exchanges_left_and_right(ignore: int) -> None:
    labels = LabelSchema(names=LABELS.names, ignore_index=ignore, swap_pairs=((1, 2),))
    target = np.array([[0, 1, 2], [3, ignore, 1]])
    flipped = view_target(target, (2, 3), View(flip=True), PARTS, labels)
    np.testing.assert_array_equal(flipped, [[1, 2, 0], [2, ignore, 3]])
    plain = view_target(target, (2, 3), View(flip=True), CLASSES, labels)
    np.testing.assert_array_equal(plain, target[:, ::-1])


def test_a_flip_exchanges_the_class_of_a_whole_image() -> None:
    labels = LabelSchema(names=("none", "left", "right"), swap_pairs=((1, 2),))
    spec = TargetSpec(dtype="int64", flip="swap_pairs")
    for one in (np.int64(1), np.array(1)):  # a row of a table, and an array of one
        assert view_value(one, View(flip=True), spec, labels) == 2  # type: ignore[arg-type]


def test_the_layout_of_a_flipped_label_map_is_kept() -> None:
    target = np.array([[0, 1], [2, 3]], np.uint8)
    assert view_target(target, (2, 2), View(flip=True), PARTS, LABELS).dtype == np.uint8


@given(sizes, sizes, views, seeds)
def test_a_zoom_divides_depth_exactly_and_nothing_else(
    size: tuple[int, int], canvas: tuple[int, int], view: View, seed: int
) -> None:
    for target, spec, labels in _targets(seed, size):
        plain = spec.model_copy(update={"zoom": "none"})
        kept = view_target(target, canvas, view, plain, labels)
        zoomed = view_target(target, canvas, view, spec, labels)
        divisor = np.float32(view.zoom) if spec is DEPTH else 1
        np.testing.assert_array_equal(zoomed, kept / divisor)
        assert zoomed.dtype == target.dtype


@given(sizes, sizes, views, seeds)
def test_a_view_fills_its_canvas_and_marks_what_is_outside(
    size: tuple[int, int], canvas: tuple[int, int], view: View, seed: int
) -> None:
    image = _rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    shown = view_image(image, canvas, view, FILL)
    assert shown.shape == (*canvas, 3)
    assert shown.dtype == np.uint8
    height, width = place(size, canvas, view).size
    outside = np.ones(canvas, bool)
    outside[:height, :width] = False
    assert (shown[outside] == FILL).all()
    for target, spec, labels in _targets(seed, size):
        viewed = view_target(target, canvas, view, spec, labels)
        assert viewed.shape == (*canvas, *target.shape[2:])
        assert (viewed[outside] == invalid_value(spec, labels)).all()
        valid = valid_mask(viewed, spec, labels)
        assert valid.shape == canvas
        assert not valid[outside].any()


@given(sizes, sizes, views, seeds)
def test_only_values_of_the_target_appear(
    size: tuple[int, int], canvas: tuple[int, int], view: View, seed: int
) -> None:
    target = _parts(seed, size)
    viewed = view_target(target, canvas, view, CLASSES, LABELS)
    assert set(np.unique(viewed)) <= {*np.unique(target), 255}


@pytest.mark.parametrize("invalid", [0.0, -1.0, float("nan")])
def test_invalid_stays_invalid(invalid: float) -> None:
    """Zooming and flipping must not turn a missing measurement into a measurement."""
    view = View(flip=True, zoom=2.0)
    depth = np.array([[invalid, 4.0], [4.0, invalid]], np.float32)
    spec = TargetSpec(invalid=invalid, zoom="divide")
    viewed = view_target(depth, (4, 4), view, spec, None)
    valid = valid_mask(viewed, spec, None)
    np.testing.assert_array_equal(valid, viewed == 2)
    shown = view_target(depth, (4, 4), view, spec.model_copy(update={"zoom": "none"}), None)
    np.testing.assert_array_equal(valid, valid_mask(shown, spec, None))

    vectors = np.full((2, 2, 3), invalid, np.float32)
    vectors[0, 0] = 0.5
    spec = TargetSpec(channels=3, invalid=invalid, flip="negate_x")
    viewed = view_target(vectors, (2, 2), View(flip=True), spec, None)
    np.testing.assert_array_equal(valid_mask(viewed, spec, None), [[False, True], [False, False]])

    pair = np.array([invalid, 0.5], np.float32)  # one of two channels is known
    spec = TargetSpec(channels=2, invalid=invalid, flip="negate_x", zoom="divide")
    np.testing.assert_array_equal(view_value(pair, view, spec, None), [invalid, 0.25])
    viewed = view_target(pair[None, None], (1, 1), view, spec, None)
    np.testing.assert_array_equal(viewed, [[[invalid, 0.25]]])


def test_valid_mask_counts_a_vector_with_any_known_channel() -> None:
    vectors = np.zeros((1, 3, 3), np.float32)
    vectors[0, 1, 2] = 1
    np.testing.assert_array_equal(valid_mask(vectors, NORMALS, None), [[False, True, False]])
    assert valid_mask(np.zeros((2, 3), np.float32), TargetSpec(), None).all()
    labels = valid_mask(np.array([[0, 3, 255]]), CLASSES, LABELS)
    np.testing.assert_array_equal(labels, [[True, True, False]])


@given(st.tuples(st.integers(3, 400), st.integers(3, 400)), sizes, views)
def test_the_aspect_ratio_is_kept(
    picture: tuple[int, int], canvas: tuple[int, int], view: View
) -> None:
    placement = place(picture, canvas, view)
    left, top, right, bottom = placement.box
    assert 0 <= left < right <= picture[1] * (1 + 1e-12)
    assert 0 <= top < bottom <= picture[0] * (1 + 1e-12)
    scale = min(canvas[0] / picture[0], canvas[1] / picture[1]) * view.zoom
    for shown, extent, whole in zip(
        placement.size, (bottom - top, right - left), canvas, strict=True
    ):
        assert 1 <= shown <= whole
        assert abs(shown - max(1, extent * scale)) <= 0.5 + 1e-9


@given(sizes, st.tuples(st.integers(25, 40), st.integers(25, 40)), views)
def test_offsets_reach_every_corner(
    canvas: tuple[int, int], picture: tuple[int, int], view: View
) -> None:
    first = place(picture, canvas, View(zoom=view.zoom, offset=(0.0, 0.0))).box
    last = place(picture, canvas, View(zoom=view.zoom, offset=(1.0, 1.0))).box
    assert first[:2] == (0, 0)
    np.testing.assert_allclose(last[2:], picture[::-1])


@pytest.mark.parametrize("canvas", [(48, 64), (64, 48), (40, 96), (33, 47), (96, 128)])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("zoom", "offset"), [(1.0, (0, 0)), (1.5, (0.0, 1.0)), (2.0, (0.5, 0.5)), (1.3, (1.0, 0.3))]
)
def test_image_and_target_stay_aligned(
    canvas: tuple[int, int], flip: bool, zoom: float, offset: tuple[float, float]
) -> None:
    """The picture's colour tells each pixel's label and coordinates; the target must agree."""
    height, width = 60, 90
    y, x = np.mgrid[:height, :width]
    label = ((y // 15) * 6 + x // 15).astype(np.int64)
    image = np.stack([label * 10, y * 2, x * 2], axis=2).astype(np.uint8)
    view = View(flip, zoom, offset)
    names = tuple(f"c{i}" for i in range(24))
    shown = view_image(image, canvas, view, (255, 255, 255)).astype(float)
    viewed = view_target(label, canvas, view, CLASSES, LabelSchema(names=names))
    inside = viewed != 255
    assert (inside == (shown != 255).any(axis=2)).all()
    agree = np.abs(shown[..., 0] - viewed * 10) < 5
    assert agree[inside].mean() > 0.75  # blocks have edges, where colours mix

    where = TargetSpec(channels=2, invalid=-1.0)
    at = view_target(np.stack([y, x], 2).astype(np.float32), canvas, view, where, None)
    colours = shown[..., 1:] / 2
    scale = min(canvas[0] / height, canvas[1] / width) * zoom
    tolerance = 0.5 + 0.5 / min(scale, 1) + 0.51  # nearest; antialiasing at the border; rounding
    assert np.abs(at - colours)[inside].max() <= tolerance
    assert abs((at - colours)[inside].mean()) < 0.1 + 0.5 / 60  # and nothing is shifted


def test_fixed_views() -> None:
    assert fixed_views(1) == (IDENTITY,)
    many = fixed_views(8)
    assert len(set(many)) == 8
    assert many[:4] == fixed_views(4)
    assert all(view.zoom >= 1 for view in many)


def test_the_most_common_size_wins_and_the_largest_among_equals() -> None:
    assert size_votes([(3, 4), (5, 6), (3, 4)]) == (3, 4)
    assert size_votes([(3, 4), (5, 6)]) == (5, 6)


def test_no_view_is_another_one_again():
    views = fixed_views(MAX_VIEWS)
    assert len(set(views)) == len(views) == MAX_VIEWS
    assert all(fixed_views(count) == views[:count] for count in range(1, MAX_VIEWS))
