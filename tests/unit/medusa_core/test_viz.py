"""Pictures: shapes, what must stay as it is, and what must be visible."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medusa_core.viz import (
    apply_colour_map,
    colour_map,
    curve,
    dim,
    draw_colour_bar,
    draw_swatches,
    outline,
    overlay,
    palette,
    panel,
)
from medusa_core.viz.curve import _number, nice_ticks

LUMA = np.array([0.299, 0.587, 0.114])


def _photo(height: int = 120, width: int = 160) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_colour_map_gets_lighter_all_the_way() -> None:
    table = colour_map()
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    luma = table @ LUMA
    assert (np.diff(luma) > -1).all()
    assert luma[0] < 25
    assert luma[-1] > 230


def test_colour_map_clips_and_knows_nan() -> None:
    values = np.array([[-3.0, 0.0, math.nan], [1.0, 7.0, math.inf]])
    picture = apply_colour_map(values)
    assert picture.shape == (2, 3, 3)
    assert (picture[0] == colour_map()[0]).all()
    assert (picture[1] == colour_map()[-1]).all()


def test_callers_cannot_spoil_the_tables() -> None:
    colour_map()[:] = 0
    palette(5)[:] = 0
    assert colour_map().any()
    assert palette(5).any()


@pytest.mark.parametrize("count", [0, 1, 7, 21, 40, 150, 400])
def test_palette_is_distinct_and_a_prefix_of_longer_ones(count: int) -> None:
    colours = palette(count)
    assert colours.shape == (count, 3)
    assert colours.dtype == np.uint8
    assert len({tuple(c) for c in colours.tolist()}) == count
    assert np.array_equal(palette(count + 1)[:count], colours)


def test_the_first_forty_colours_are_told_apart() -> None:
    colours = palette(40).astype(float)
    gaps = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1e3 * np.eye(40)
    assert gaps.min() > 25


def test_overlay_leaves_what_is_not_tinted() -> None:
    image, colours = _photo(), np.full((120, 160, 3), (10, 200, 30), np.uint8)
    alpha = np.zeros((120, 160))
    alpha[:60] = 1
    picture = overlay(image, colours, alpha)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture[60:], image[60:])
    assert (picture[:60] == colours[:60]).all()
    assert np.array_equal(overlay(image, colours, 0.0), image)


def test_dim_keeps_and_darkens() -> None:
    image = _photo()
    amount = np.zeros((120, 160))
    amount[:, 80:] = 1
    picture = dim(image, amount)
    assert np.array_equal(picture[:, :80], image[:, :80])
    assert picture[:, 80:].mean() < 0.5 * image[:, 80:].mean()
    assert np.ptp(picture[:, 80:].astype(int), axis=-1).max() <= 1


def test_outline_touches_only_borders() -> None:
    image = _photo()
    regions = np.zeros((120, 160), int)
    regions[:, 80:] = 1
    picture = outline(image, regions, (255, 0, 0), alpha=1.0)
    changed = (picture != image).any(axis=-1)
    assert not changed[:, :78].any()
    assert not changed[:, 82:].any()
    assert (picture[:, 79] == (255, 0, 0)).all()
    assert np.array_equal(outline(image, np.zeros((120, 160), int)), image)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (37, 53), (240, 320), (720, 1280)])
def test_legends_keep_the_size_and_the_input(size: tuple[int, int]) -> None:
    image = _photo(*size)
    before = image.copy()
    entries = [(f"a class called {i}", colour) for i, colour in enumerate(palette(30))]
    for picture in (draw_colour_bar(image, "0.5 m", "9.9 m"), draw_swatches(image, entries)):
        assert picture.shape == image.shape
        assert picture.dtype == np.uint8
        if min(size) >= 240:
            assert not np.array_equal(picture, image)
            assert np.array_equal(picture[: size[0] // 2], image[: size[0] // 2])
    assert np.array_equal(image, before)
    assert np.array_equal(draw_swatches(image, []), image)


def test_legend_shows_the_colours_it_names() -> None:
    image = np.full((240, 320, 3), 128, np.uint8)
    picture = draw_swatches(image, [("floor", (10, 220, 40)), ("wall", (200, 30, 90))])
    for colour in ((10, 220, 40), (200, 30, 90)):
        assert (picture == colour).all(axis=-1).sum() > 20


def test_colour_bar_runs_from_end_to_end() -> None:
    image = np.full((240, 320, 3), 128, np.uint8)
    forward, reverse = (draw_colour_bar(image, "1 m", "1 m", reverse=r) for r in (False, True))
    inside = slice(240 - 25, 240 - 8)
    light = [(p[inside] @ LUMA).mean(axis=0)[40:80] for p in (forward, reverse)]
    assert np.diff(light[0]).mean() > 0 > np.diff(light[1]).mean()


def test_panel_holds_pictures_of_any_size() -> None:
    big, small = np.full((90, 120, 3), 7, np.uint8), np.full((30, 20, 3), 9, np.uint8)
    sheet = panel([[(big, "big"), (small, "a caption far too long for it")], [(small, "")]])
    assert sheet.ndim == 3
    assert sheet.dtype == np.uint8
    assert (sheet == 7).all(axis=-1).sum() == 90 * 120
    assert (sheet == 9).all(axis=-1).sum() == 2 * 30 * 20
    assert sheet.shape[1] == 8 + 120 + 8 + 20 + 8


def test_panel_scales_to_cells_and_may_be_empty() -> None:
    image = np.full((400, 100, 3), 7, np.uint8)
    sheet = panel([[(image, "x")]], cell=(80, 80))
    assert (sheet == 7).all(axis=-1).sum() == 80 * 20
    assert panel([]).ndim == 3


@pytest.mark.parametrize(
    "series",
    [
        {},
        {"empty": []},
        {"one point": [(1.0, 2.0)]},
        {"flat": [(0.0, 3.0), (1.0, 3.0)]},
        {"zero": [(0.0, 0.0), (0.0, 0.0)]},
        {"holes": [(0.0, 1.0), (1.0, math.nan), (2.0, 1e-9), (3.0, math.inf)]},
        {"huge": [(0.0, -1e12), (1e9, 1e12)], "tiny": [(0.0, 1e-12)]},
    ],
)
def test_curve_draws_anything(series: dict[str, list[tuple[float, float]]]) -> None:
    picture = curve(series, "title", "x", "y", size=(180, 320))
    assert picture.shape == (180, 320, 3)
    assert picture.dtype == np.uint8


def test_curve_goes_where_the_points_are() -> None:
    picture = curve({"up": [(0, 0), (1, 1)]}, size=(200, 300)).astype(int)
    blue = np.abs(picture - palette(1)[0]).sum(axis=-1) < 40
    rows, columns = np.nonzero(blue[60:])
    assert np.corrcoef(rows, columns)[0, 1] < -0.95


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3e-5, 7e-5), (12, 13.7), (-1e9, 4e9)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    span = high - low
    assert 3 <= len(ticks) <= 7
    assert all(low - 1e-6 * span <= t <= high + 1e-6 * span for t in ticks)
    leading = (ticks[1] - ticks[0]) / 10 ** math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9)
    assert leading == pytest.approx(round(leading))


@pytest.mark.parametrize(("low", "high"), [(0, 2e4), (1e4, 10400), (1e-6, 3e-6), (0, 1.5e7)])
def test_ticks_are_told_apart_and_say_what_they_are(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert [float(_number(tick)) for tick in ticks] == pytest.approx(ticks)


def test_a_curve_keeps_the_axis_it_is_given_and_leaves_unnamed_series_out_of_the_legend():
    points = [(4, 0), (6, 1)]
    own, given = (
        curve({"": points}, size=(200, 300), x_range=x_range).astype(int)
        for x_range in (None, (0, 10))
    )
    blue = [np.argwhere((p[..., 2] - p[..., 0]) > 60)[:, 1] for p in (own, given)]
    assert np.ptp(blue[1]) < np.ptp(blue[0]) / 3
    assert own[:40].min() == 255  # neither title nor legend
    assert curve({"name": points}, size=(200, 300))[:40].min() < 255
