"""Room for the feature cache: told before, made where it can be, and refused where it cannot."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from medusa_core.data.geometry import fixed_views
from medusa_core.engine.cache_files import Source
from medusa_core.engine.cache_folder import PARTIAL, cache_limit, this_boot
from medusa_core.engine.feature_cache import cache_sizes, cache_tasks
from medusa_core.errors import StoreError, UsageError
from medusa_core.progress import SilentProgress

from .conftest import SIZE, fill


def test_what_will_be_written_is_told_before(cache, backbone, memory, bind):
    class Told(SilentProgress):
        def message(self, text):
            said.append((text, list(cache.iterdir())))

    said = []
    source, bindings = Source(memory(), SIZE, fixed_views(3)), [bind("depth"), bind("semseg")]
    sizes = cache_sizes(backbone, "f" * 64, source, bindings)
    needed = sum(sizes.values())
    cache_tasks(backbone, "f" * 64, source, bindings, Told())
    [(text, there)] = said
    assert there
    assert all(path.name.startswith(PARTIAL) for path in there)
    assert f"3 views: {needed / 1e6:.1f} MB in {cache}" in text
    assert "are free" in text
    written = sum(path.stat().st_size for path in cache.iterdir())
    headers = 4096 * len(list(cache.iterdir()))
    assert needed <= written < needed + headers
    assert set(sizes) == set(cache.iterdir())
    cache_tasks(backbone, "f" * 64, source, bindings, Told())
    assert len(said) == 1


def test_room_is_made_of_cache_files_alone(cache, backbone, memory, bind, monkeypatch):
    """The folder may be somebody's: what else lies there is not ours to delete."""
    fill(backbone, memory(seed=0), [bind("depth")])
    ours = set(cache.iterdir())
    size = sum(path.stat().st_size for path in ours)
    theirs = [cache / "measured.csv", cache / "weights.safetensors"]
    for path in theirs:
        path.write_bytes(b"hours of work")
        os.utime(path, (1, 1))  # the oldest
    monkeypatch.setenv("MEDUSA_CACHE_LIMIT", f"{1.2 * size / 1e9:.9f}GB")
    fill(backbone, memory(seed=1), [bind("depth")])
    assert all(path.read_bytes() == b"hours of work" for path in theirs)
    assert ours - set(cache.iterdir())


def test_files_in_use_stay_and_the_least_recently_used_go_first(
    cache, backbone, memory, bind, monkeypatch
):
    """Three data sets, of which two fit: the one that is held stays though it is the oldest."""
    held = fill(backbone, memory(seed=0), [bind("depth")])
    size = sum(path.stat().st_size for path in cache.iterdir())
    expected, first = np.array(held[0].features), set(cache.iterdir())
    fill(backbone, memory(seed=1), [bind("depth")])
    second = set(cache.iterdir()) - first
    for path in first:
        os.utime(path, (1, 1))
    for path in second:
        os.utime(path, (2, 2))
    monkeypatch.setenv("MEDUSA_CACHE_LIMIT", f"{2.2 * size / 1e9:.9f}GB")
    fill(backbone, memory(seed=2), [bind("depth")])
    there = set(cache.iterdir())
    assert first <= there
    assert second - there
    assert sum(path.stat().st_size for path in there) < 2.2 * size
    np.testing.assert_array_equal(held[0].features, expected)

    third = there - first - second
    del held
    for path in first:
        os.utime(path, None)  # used again, and let go
    for path in third:
        os.utime(path, (3, 3))
    fill(backbone, memory(seed=3), [bind("depth")])
    assert first <= set(cache.iterdir())
    assert third - set(cache.iterdir())


def _interrupt(backbone, dataset, bindings):
    """A pass over the first eight images."""
    load = dataset.load

    def interrupted(index, targets=None):
        if index == 8:
            raise KeyboardInterrupt
        return load(index, targets)

    dataset.load = interrupted
    with pytest.raises(KeyboardInterrupt):
        fill(backbone, dataset, bindings)
    dataset.load = load


@pytest.mark.skipif(not this_boot(), reason="nothing can be gone on with")
def test_what_was_interrupted_goes_as_others_do_but_not_before_it_is_gone_on_with(
    cache, backbone, memory, bind, monkeypatch
):
    whole, begun, other = (memory(16, seed=seed) for seed in range(3))
    fill(backbone, whole, [bind("depth")])
    size = sum(path.stat().st_size for path in cache.iterdir())
    for path in cache.iterdir():
        path.unlink()
    _interrupt(backbone, begun, [bind("depth")])
    monkeypatch.setenv("MEDUSA_CACHE_LIMIT", f"{1.01 * size / 1e9:.9f}GB")
    for path in cache.iterdir():
        os.utime(path, (1, 1))
    begun.loads.clear()
    fill(backbone, begun, [bind("depth")])  # which fits, its own half being there
    assert begun.loads == list(range(8, 16))
    for path in cache.iterdir():
        path.unlink()
    _interrupt(backbone, begun, [bind("depth")])
    fill(backbone, other, [bind("depth")])  # which fits in its place
    begun.loads.clear()
    fill(backbone, begun, [bind("depth")])
    assert begun.loads == list(range(16))


def test_use_makes_a_file_young(cache, backbone, memory, bind):
    fill(backbone, memory(), [bind("depth")])
    for path in cache.iterdir():
        os.utime(path, (1, 1))
    fill(backbone, memory(), [bind("depth")])
    assert all(path.stat().st_mtime > 1e9 for path in cache.iterdir())


def test_what_cannot_fit_is_refused_and_nothing_is_deleted(
    cache, backbone, memory, bind, monkeypatch
):
    fill(backbone, memory(seed=1), [bind("depth")])
    before = sorted(cache.iterdir())
    dataset = memory()
    monkeypatch.setenv("MEDUSA_CACHE_LIMIT", "1KB")
    with pytest.raises(StoreError, match=r"are needed, the cache may hold 0\.0 MB") as caught:
        fill(backbone, dataset, [bind("depth")])
    assert "MEDUSA_CACHE_LIMIT=1GB" in caught.value.hint
    monkeypatch.delenv("MEDUSA_CACHE_LIMIT")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(StoreError, match=r"are needed, 0\.0 MB are free") as caught:
        fill(backbone, memory(20), [bind("depth")])
    assert "MEDUSA_CACHE=DIR" in caught.value.hint
    assert sorted(cache.iterdir()) == before
    assert dataset.loads == []


def test_a_short_disk_is_made_room_on(cache, backbone, memory, bind, monkeypatch):
    fill(backbone, memory(seed=1), [bind("depth")])
    before = set(cache.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    fill(backbone, memory(), [bind("depth")])
    assert not before & set(cache.iterdir())


@pytest.mark.parametrize("text", ["much", "-1GB", "1e3GB", "10"])
def test_a_limit_that_is_no_size(cache, monkeypatch, text):
    monkeypatch.setenv("MEDUSA_CACHE_LIMIT", text)
    with pytest.raises(UsageError, match="is not a size"):
        cache_limit()
