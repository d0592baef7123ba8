"""Tiles cover every pixel, weights add up, and what looks at its surroundings hardly changes."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medusa_core.errors import UsageError
from medusa_core.model.images import STRIDE
from medusa_core.model.tiles import MIN_TILE, _starts, _weights, blended


def _images(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@given(st.integers(1, 3000), st.integers(MIN_TILE, 900))
def test_tiles_cover_a_side_and_overlap(side: int, tile: int) -> None:
    starts = _starts(side, tile)
    assert starts[0] == 0
    assert starts[-1] < side <= starts[-1] + tile
    assert all(start % STRIDE == 0 for start in starts)
    if len(starts) > 1:
        steps = [b - a for a, b in itertools.pairwise(starts)]
        assert min(steps) > 0
        assert max(steps) <= tile * 3 // 4


@settings(max_examples=50, deadline=None)
@given(st.integers(40, 700), st.integers(40, 700), st.integers(MIN_TILE, 400))
def test_pointwise_predictions_are_unchanged(height: int, width: int, tile: int) -> None:
    images = _images(height, width)
    found = blended(images, lambda part: {"a": part * 2, "b": part.mean((2, 3))}, tile)
    assert found["a"].shape == images.shape
    assert torch.allclose(found["a"], images * 2, atol=1e-5)
    assert found["b"].shape == (1, 3)


def test_weights_have_no_jump() -> None:
    """Where a tile begins or ends inside the image, it counts for nothing."""
    side, tile = 1000, 256
    starts = _starts(side, tile)
    total = torch.zeros(side)
    shares = []
    for start in starts:
        weight = _weights(starts, start, side, tile, torch.device("cpu"))
        own = torch.zeros(side)
        own[start : start + len(weight)] = weight
        shares.append(own)
        total += own
    for own in shares:
        assert (own / total).diff().abs().max() < 2 / (tile / 4)


def test_a_network_of_small_reach_says_the_same_away_from_the_seams() -> None:
    """Inner borders, where context is missing, weigh least."""
    kernel = torch.ones(1, 3, 9, 9) / 243
    images = _images(300, 700)

    def run(part: Tensor) -> dict[str, Tensor]:
        return {"a": torch.nn.functional.conv2d(part, kernel, padding=4)}

    whole, found = run(images)["a"], blended(images, run, 256)["a"]
    assert (whole - found).abs().max() < 0.05 * whole.abs().max()
    assert (whole - found).abs().mean() < 1e-3 * whole.abs().mean()


def test_small_images_are_not_cut() -> None:
    calls = []
    blended(_images(200, 100), lambda part: calls.append(part.shape) or {}, 200)
    assert calls == [(1, 3, 200, 100)]


def test_tiny_tiles_are_refused() -> None:
    for side in (200, 100):  # that needs no tiles, too
        with pytest.raises(UsageError, match="too small"):
            blended(_images(side, side), lambda part: {}, MIN_TILE - 1)
