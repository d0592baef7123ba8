"""Passes that fill the cache and are interrupted: the next one goes on, with the same bits."""

from functools import partial

import pytest

from medusa_core.data.geometry import fixed_views
from medusa_core.engine import feature_cache, row_file
from medusa_core.engine.cache_files import Source
from medusa_core.engine.cache_folder import partial_prefix, this_boot
from medusa_core.engine.feature_cache import cache_each
from medusa_core.errors import DataError
from medusa_core.progress import SilentProgress

from .conftest import SIZE, fill

needs_locks = pytest.mark.skipif(not this_boot(), reason="nothing can be gone on with")


def _interrupted(dataset, at, run):
    """An attempt that ends when a sample is to be loaded."""
    load = dataset.load

    def interrupted(index, targets=None):
        if index == at:
            raise KeyboardInterrupt
        return load(index, targets)

    dataset.load = interrupted
    with pytest.raises(KeyboardInterrupt):
        run()
    dataset.load = load
    dataset.loads.clear()


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@needs_locks
@pytest.mark.parametrize("at", [4, 8, 19, 23])
def test_an_interrupted_pass_is_gone_on_with(
    cache, backbone, memory, bind, monkeypatch, tmp_path, at
):
    """At a whole batch of images, so that no bit depends on the pause."""
    bindings = [bind("depth"), bind("semseg")]
    fill(backbone, memory(24), bindings)
    expected = _contents(cache)
    monkeypatch.setenv("MEDUSA_CACHE", str(tmp_path / "other"))
    dataset = memory(24)
    _interrupted(dataset, at, lambda: fill(backbone, dataset, bindings))
    fill(backbone, dataset, bindings)
    assert dataset.loads == list(range(at // 8 * 8, 24))
    assert _contents(tmp_path / "other" / "features") == expected


@needs_locks
@pytest.mark.parametrize("change", ["task", "views"])
def test_features_are_gone_on_with_where_more_is_asked_for(
    cache, backbone, memory, bind, monkeypatch, tmp_path, change
):
    later = {"task": ([bind("depth"), bind("semseg")], 3), "views": ([bind("depth")], 4)}[change]
    fill(backbone, memory(24), later[0], views=later[1])
    expected = _contents(cache)
    monkeypatch.setenv("MEDUSA_CACHE", str(tmp_path / "other"))
    dataset, computed = memory(24), []
    _interrupted(dataset, 16, lambda: fill(backbone, dataset, [bind("depth")]))
    features = feature_cache._Features.__call__
    monkeypatch.setattr(
        feature_cache._Features,
        "__call__",
        lambda self, images: computed.append(len(images)) or features(self, images),
    )
    fill(backbone, dataset, later[0], views=later[1])
    assert sum(computed) == 3 * 8 if change == "task" else 3 * 8 + 24
    assert _contents(tmp_path / "other" / "features") == expected


@needs_locks
def test_features_are_kept_where_no_target_can_be_had(cache, backbone, memory, bind):
    """Which are dearer; whoever mends the targets goes on with them."""
    lacking = memory(24)
    load = lacking.load

    def broken(index, targets=None):
        if index == 20 and targets:
            raise DataError("image20: depth cannot be read.")
        return load(index, targets)

    lacking.load = broken
    with pytest.raises(DataError, match="image20"):
        fill(backbone, lacking, [bind("depth")])
    lacking.load, features = load, [path.stat().st_size for path in cache.iterdir()]
    assert len(features) == 3
    lacking.loads.clear()
    fill(backbone, lacking, [bind("depth")])
    assert lacking.loads == list(range(24))
    assert len(list(cache.iterdir())) == 9


@needs_locks
def test_a_task_that_fails_is_not_in_the_way_of_going_on(cache, backbone, memory, bind):
    lacking = memory(24)
    load = lacking.load

    def broken(index, targets=None):
        if index == 3 and targets and "normals" in targets:
            raise DataError("image3: normals cannot be read.")
        return load(index, targets)

    lacking.load = broken
    bindings = [bind("normals"), bind("depth")]
    run = partial(
        cache_each,
        backbone,
        "f" * 64,
        Source(lacking, SIZE, fixed_views(2)),
        bindings,
        SilentProgress(),
    )
    _interrupted(lacking, 20, run)
    failed, depth = run()
    assert isinstance(failed, DataError)
    assert len(depth.features) == 48
    assert set(lacking.loads) == {3, *range(16, 24)}


@needs_locks
@pytest.mark.parametrize("at", range(1, 10))
def test_a_pass_that_is_interrupted_at_its_end_is_not_lost(
    cache, backbone, memory, bind, monkeypatch, at
):
    dataset, calls = memory(20), []
    fsync = row_file.os.fsync

    def interrupted(descriptor):
        calls.append(descriptor)
        if len(calls) == at:
            raise KeyboardInterrupt
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(row_file.os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fill(backbone, dataset, [bind("depth")])
    dataset.loads.clear()
    fill(backbone, dataset, [bind("depth")])
    assert dataset.loads == []
    assert not list(cache.glob(".*"))


@needs_locks
def test_what_a_slower_pass_left_goes_when_its_file_is_used(cache, backbone, memory, bind):
    """It was being written while another pass finished, and then killed: nobody goes on with it."""
    fill(backbone, memory(20), [bind("depth")])
    [*files] = cache.glob("*.safetensors")
    for file in files:
        (cache / f"{partial_prefix(file)}left").write_bytes(b"rows")
    fill(backbone, memory(20), [bind("depth")])
    assert not list(cache.glob(".*"))
    assert sorted(cache.iterdir()) == sorted(files)
