"""Files of results: no value and no link in the folder makes them something else."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from medusa_core.api import OutputSpec, TargetSpec, TaskSpec
from medusa_core.errors import UsageError
from medusa_core.model.medusa_model import Result
from medusa_core.workflows import new_plugin
from medusa_core.workflows.prediction import results
from medusa_tasks.depth.spec import DEPTH
from medusa_tasks.depth.task import Depth as DepthTask

IMAGE = np.zeros((16, 16, 3), np.uint8)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.float32("nan"), None),
        (np.asarray([1.5, np.inf, -np.inf], np.float32), [1.5, None, None]),
        (np.int64(3), 3),
    ],
)
def test_a_value_that_is_not_finite_is_null_in_a_summary(tmp_path, value, told) -> None:
    """What a stranger's head computes is not for JSON to stumble over."""
    result = Result("head", "task", np.asarray(value), None, None)
    results.write(None, tmp_path, "a", IMAGE, result, ["json"])
    assert json.loads((tmp_path / "a.head.json").read_text())["value"] == told


def test_the_mean_of_large_values_is_finite() -> None:
    huge = Result("a", "b", np.full((40, 40), 3e38, np.float32), None, None)
    assert results.summary(huge)["mean"] == pytest.approx(3e38)


def test_a_picture_without_a_finite_value_has_a_summary(tmp_path) -> None:
    result = Result("head", "task", np.full((4, 4), np.nan, np.float32), "m", None)
    results.write(None, tmp_path, "a", IMAGE, result, ["json"])
    assert json.loads((tmp_path / "a.head.json").read_text())["size"] == [4, 4]


def test_whoever_draws_a_value_cannot_change_the_other_files(tmp_path) -> None:
    class Careless(DepthTask):
        def render(self, image, value):
            image[:] = 255
            return image

    class Other(Careless):
        def render(self, image, value):
            value -= value.min()
            return image

    result = Result("head", "task", np.arange(4, dtype=np.float32).reshape(2, 2) + 1, "m", None)
    for task in (Careless(DEPTH), Other(DEPTH)):
        with pytest.raises(ValueError, match="read-only"):
            results.write(task, tmp_path, "a", IMAGE, result, ["png"])
    results.write(Careless(DEPTH), tmp_path, "a", IMAGE, result, ["npy"])
    assert np.load(tmp_path / "a.head.npy").min() == 1
    result.value[0, 0] = 5  # still the caller's


def metres(low: float | None, high: float | None) -> TaskSpec:
    output = OutputSpec(channels=1, unit="m", range=(low, high))
    return DEPTH.model_copy(update={"output": output})


@pytest.mark.parametrize(
    ("low", "high"), [(0, None), (0, 10), (0.5, 65.535), (-2, 2), (-30, 0), (0, 200), (-1, 500)]
)
def test_metres_are_the_same_as_16_bit_images(low: float, high: float | None) -> None:
    """Negative ones and far ones, too, as exactly as the scale allows."""
    value = np.linspace(low, 65.535 if high is None else high, 600).reshape(20, 30)
    spec = metres(low, high)
    scale, offset = results.scale_of(spec)
    pixels = results.as_16_bit(spec, Result("head", "task", value, "m", None))
    assert np.abs(pixels * scale + offset - value).max() <= scale / 2 + 1e-9


@pytest.mark.parametrize(("low", "high"), [(None, None), (None, 5), (-1, None)])
def test_metres_that_may_be_anything_are_no_16_bit_images(low, high) -> None:
    with pytest.raises(UsageError, match="never negative") as caught:
        results.check_formats(["png16"], [metres(low, high)])
    assert "npy" in str(caught.value.hint)


def test_bins_that_are_decoded_into_metres_are_16_bit_images() -> None:
    bins = metres(0.5, 10).model_copy(
        update={"output": OutputSpec(channels=20, unit="m", range=(0.5, 10))}
    )
    assert results.scale_of(bins) == results.scale_of(metres(0.5, 10))
    vectors = bins.model_copy(update={"target": TargetSpec(channels=2)})
    with pytest.raises(UsageError, match="one number a pixel"):
        results.scale_of(vectors)


def test_two_that_write_one_file_do_not_meet(tmp_path: Path) -> None:
    """Each writes its own part; the later one wins, and both are whole."""
    path, begun, go_on = tmp_path / "a.bin", threading.Event(), threading.Event()

    def slowly(file: BinaryIO) -> None:
        file.write(b"slow ")
        begun.set()
        assert go_on.wait(10)
        file.write(b"and whole")

    with ThreadPoolExecutor() as pool:
        slow = pool.submit(results.write_whole, path, slowly)
        assert begun.wait(10)
        results.write_whole(path, lambda file: file.write(b"fast"))
        assert path.read_bytes() == b"fast"
        go_on.set()
        slow.result()
    assert path.read_bytes() == b"slow and whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
@pytest.mark.parametrize("part", [True, False])
def test_results_are_not_written_through_links(tmp_path: Path, part: bool) -> None:
    name = f".{os.getpid()}-{threading.get_ident()}.part" if part else "a.head.npy"
    precious = tmp_path / "precious"
    precious.write_text("kept")
    out = tmp_path / "out"
    out.mkdir()
    (out / name).symlink_to(precious)
    result = Result("head", "task", np.ones((4, 4), np.float32), "m", None)
    results.write(None, out, "a", IMAGE, result, ["npy"])
    assert precious.read_text() == "kept"
    assert [path.name for path in out.iterdir()] == ["a.head.npy"]
    assert not (out / "a.head.npy").is_symlink()


@pytest.mark.parametrize(
    "name",
    ["../x", "a/b", "/etc", "", "-", "a--b", "A", "1a", "ä", "a\x1b[2J", "a\n", "a" * 31],
)
def test_a_plugin_cannot_be_called_just_anything(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        new_plugin.new_plugin(name, into=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_author_is_text_on_one_line(tmp_path: Path) -> None:
    author = 'A "B"\n$author ${year}\x1b[2J'
    done = new_plugin.new_plugin("wall-paint", into=tmp_path, licence="MIT", author=author)
    text = (Path(done["folder"]) / "LICENSE").read_text()
    assert 'A "B" $author ${year}' in text
    assert "\x1b" not in text
