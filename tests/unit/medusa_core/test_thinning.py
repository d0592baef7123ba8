"""Thinning against its definition read pixel by pixel, and what makes a skeleton a skeleton."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import ndimage

from medusa_core.metrics import thin

EIGHT = np.ones((3, 3), bool)


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Noise of any density, and blobs."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    noise = np.random.RandomState(draw(st.integers(0, 2**31))).rand(height, width)
    blur = draw(st.sampled_from([0.0, 0.7, 1.5]))
    level = ndimage.gaussian_filter(noise, blur)
    return np.asarray(level >= np.quantile(level, draw(st.floats(0, 1))))


def by_definition(mask: np.ndarray) -> np.ndarray:
    """The published conditions G1, G2, G3 and G3', one pixel after the other."""
    image = np.pad(mask, 1).astype(int)
    while True:
        before = image.copy()
        for half in (0, 1):
            gone = [
                (r, c)
                for r, c in zip(*np.nonzero(image), strict=True)
                if _goes(_neighbours(image, r, c), half)
            ]
            for r, c in gone:
                image[r, c] = 0
        if np.array_equal(image, before):
            return image[1:-1, 1:-1].astype(bool)


def _neighbours(image: np.ndarray, r: int, c: int) -> dict[int, int]:
    """x1 to x9: east, then counter-clockwise, east again."""
    ring = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1)]
    return {i: int(image[r + dr, c + dc]) for i, (dr, dc) in enumerate(ring, 1)}


def _goes(x: dict[int, int], half: int) -> bool:
    crossings = sum(not x[2 * i - 1] and (x[2 * i] or x[2 * i + 1]) for i in range(1, 5))
    n1 = sum(x[2 * k - 1] or x[2 * k] for k in range(1, 5))
    n2 = sum(x[2 * k] or x[2 * k + 1] for k in range(1, 5))
    last = (x[6] or x[7] or not x[4]) and x[5] if half else (x[2] or x[3] or not x[8]) and x[1]
    return crossings == 1 and 2 <= min(n1, n2) <= 3 and not last


@given(masks())
@example(np.ones((24, 17), bool))
def test_equals_its_definition(mask: np.ndarray) -> None:
    assert np.array_equal(thin(mask), by_definition(mask))


@given(masks())
def test_is_a_subset_with_the_same_parts_and_holes_that_stays_as_it_is(mask: np.ndarray) -> None:
    before = mask.copy()
    line = thin(mask)
    assert np.array_equal(mask, before)
    assert line.dtype == bool
    assert not (line & ~mask).any()
    assert np.array_equal(thin(line), line)
    assert ndimage.label(line, EIGHT)[1] == ndimage.label(mask, EIGHT)[1]
    assert ndimage.label(~np.pad(line, 1))[1] == ndimage.label(~np.pad(mask, 1))[1]


@given(masks(), st.integers(0, 3), st.integers(0, 3))
def test_outside_counts_as_empty(mask: np.ndarray, above: int, left: int) -> None:
    inside = np.pad(mask, ((above, 1), (left, 2)))
    assert np.array_equal(thin(inside), np.pad(thin(mask), ((above, 1), (left, 2))))


@pytest.mark.parametrize("thickness", [2, 3, 4, 7, 12])
def test_a_bar_becomes_a_line_in_its_middle(thickness: int) -> None:
    mask = np.zeros((30, 60), bool)
    mask[10 : 10 + thickness] = True
    line = thin(mask)
    rows, columns = np.nonzero(line)
    inner = (columns >= 20) & (columns < 40)
    assert (line[:, 20:40].sum(axis=0) == 1).all()
    assert (np.abs(rows[inner] - (10 + (thickness - 1) / 2)) <= 0.5).all()


def test_a_blob_keeps_no_block_of_four() -> None:
    y, x = np.mgrid[:80, :100]
    line = thin((((y - 40) / 30) ** 2 + ((x - 50) / 45) ** 2 < 1) & ~((y - 40) ** 2 < 9))
    assert line.any()
    assert not (line[:-1, :-1] & line[1:, :-1] & line[:-1, 1:] & line[1:, 1:]).any()


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (1, 9)])
def test_degenerate_masks(shape: tuple[int, int]) -> None:
    assert np.array_equal(thin(np.ones(shape, bool)), np.ones(shape, bool))


def test_numbers_are_taken_as_set_or_not() -> None:
    assert np.array_equal(thin(np.full((6, 9), 200, np.uint8)), thin(np.ones((6, 9), bool)))


def test_masks_of_a_batch_are_thinned_each_alone() -> None:
    masks = np.random.default_rng(0).random((2, 3, 20, 30)) < np.linspace(0, 1, 6).reshape(
        2, 3, 1, 1
    )
    alone = np.array([thin(mask) for mask in masks.reshape(6, 20, 30)])
    assert np.array_equal(thin(masks), alone.reshape(masks.shape))


def test_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="two axes"):
        thin(np.ones(4, bool))


def test_how_a_mask_lies_in_memory_does_not_matter() -> None:
    mask = np.random.default_rng(0).random((20, 30)) < 0.7
    assert np.array_equal(thin(np.asfortranarray(mask)), thin(mask))


def test_the_layout_in_memory_does_not_matter() -> None:
    """Files of other programs come column by column."""
    mask = np.random.RandomState(0).rand(20, 30) > 0.3
    for same in (np.asfortranarray(mask), mask.T.copy().T, np.repeat(mask, 2, axis=1)[:, ::2]):
        assert np.array_equal(thin(same), thin(mask))
