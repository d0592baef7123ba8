import copy
import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medusa_core.backbones import timm_backbone
from medusa_core.data.geometry import IDENTITY, View, fixed_views, view_image
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import Rows, Source, compact
from medusa_core.engine.cache_pass import PADDING
from medusa_core.engine.feature_cache import cache_each, cache_images
from medusa_core.engine.row_file import RowWriter, read_rows
from medusa_core.errors import DataError, StoreError
from medusa_core.model.images import to_tensor
from medusa_core.progress import SilentProgress

from .conftest import SIZE, fill

NAMES = ("depth", "normals", "semseg")


@pytest.mark.parametrize("net", ["test_efficientnet", "test_vit"])
def test_cached_features_are_those_of_the_viewed_image(cache, memory, bind, net):
    backbone = timm_backbone.build(timm_backbone.describe(net)).freeze()
    dataset = memory()
    [task] = fill(backbone, dataset, [bind("depth")])
    views = fixed_views(3)
    for index in range(len(dataset)):
        for number, view in enumerate(views):
            shown = view_image(dataset.load(index).image, SIZE, view, PADDING)
            image = to_tensor(shown)
            padded = backbone.mean.expand(1, 3, 64, 64).clone()
            padded[..., : SIZE[0], : SIZE[1]] = image
            with torch.no_grad():
                direct = backbone(padded)
            features, _, _ = task.batch([index * len(views) + number])
            assert len(features) == len(direct)
            for cached, level in zip(features, direct, strict=True):
                assert cached.shape == level.shape
                assert cached.dtype == torch.float32
                torch.testing.assert_close(cached, level, rtol=2e-3, atol=2e-3)


def test_levels_lie_in_memory_as_if_computed(cache, backbone, memory, bind):
    [task] = fill(backbone, memory(), [bind("depth")])
    features, _, _ = task.batch([0, 3, 1])
    assert all(level.is_contiguous(memory_format=torch.channels_last) for level in features)


@pytest.mark.parametrize("name", [*NAMES, "edges"])
def test_cached_targets_are_those_of_the_view(cache, backbone, memory, bind, name):
    dataset, views = memory(), fixed_views(4)
    dataset.targets |= {"edges": dataset.targets["normals"]}
    binding = bind(name)
    if name == "edges":  # a target computed from the image, as plugins may have it
        spec = binding.task.spec
        target = spec.target.model_copy(update={"source": "image"})
        binding.task.spec = spec.model_copy(update={"target": target})
        binding.task.encode_target = lambda raw, image: (image[..., 0] > 127).astype(np.int64)
    [task] = fill(backbone, dataset, [binding], views=4)
    for index in range(len(dataset)):
        sample = dataset.load(index)
        for number, view in enumerate(views):
            shown = view_image(sample.image, SIZE, view, PADDING)
            target, valid = binding.viewed(sample, shown, SIZE, view)
            row = index * len(views) + number
            np.testing.assert_array_equal(task.targets[row], target)
            np.testing.assert_array_equal(task.valid[row].astype(bool), valid)
            assert valid.any()
            if number == 0:
                assert not valid.all()  # beside the picture, at least


def test_the_second_call_reads_no_sample_and_gives_the_same_rows(cache, backbone, memory, bind):
    dataset = memory()
    first = fill(backbone, dataset, [bind(name) for name in NAMES])
    assert dataset.loads == list(range(len(dataset)))  # one pass for everything
    dataset.loads.clear()
    again = fill(backbone, dataset, [bind(name) for name in NAMES])
    assert dataset.loads == []
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.features, b.features)
        np.testing.assert_array_equal(a.targets, b.targets)


def test_a_new_task_on_cached_features_computes_none(cache, backbone, memory, bind, monkeypatch):
    dataset = memory()
    fill(backbone, dataset, [bind("depth")])
    monkeypatch.setattr(type(backbone), "forward", lambda *_: pytest.fail("features were cached"))
    fill(backbone, dataset, [bind("semseg")])


@pytest.mark.parametrize("change", ["fingerprint", "size", "digest", "labels"])
def test_whatever_decides_the_content_is_another_file(cache, backbone, memory, bind, change):
    dataset, binding = memory(), bind("semseg")
    options = {}
    fill(backbone, dataset, [binding])
    before = set(cache.iterdir())
    if change == "fingerprint":
        options["fingerprint"] = "e" * 64
    elif change == "size":
        options["size"] = (56, 40)
    elif change == "digest":
        dataset = memory(seed=1)
    else:
        names = ("floor", "wall", "right")
        labels = binding.labels.model_copy(update={"names": names})
        binding = dataclasses.replace(binding, labels=labels)
    dataset.loads.clear()
    fill(backbone, dataset, [binding], **options)
    assert dataset.loads
    new = len(set(cache.iterdir()) - before)
    views = 3
    assert new == {"fingerprint": views, "labels": 2 * views}.get(change, 3 * views)


def test_equal_views_are_equal_whatever_made_them(cache, backbone, memory, bind):
    source = Source(memory(), SIZE, (View(), View(flip=True)))
    assert source.identities("d") == Source(memory(), SIZE, fixed_views(2)).identities("d")


@pytest.mark.parametrize("part", ["image", "target"])
def test_new_targets_of_old_images_need_no_new_features(cache, backbone, memory, bind, part):
    dataset = memory()
    dataset.image_digest = "images"
    fill(backbone, dataset, [bind("depth")])
    before = set(cache.iterdir())
    dataset.digest += "-changed"
    dataset.image_digest += "-changed" * (part == "image")
    fill(backbone, dataset, [bind("depth")])
    views = 3
    assert len(set(cache.iterdir()) - before) == (3 if part == "image" else 2) * views


def test_views_are_shared_and_new_ones_added(cache, backbone, memory, bind):
    dataset = memory()
    [alone] = fill(backbone, dataset, [bind("depth")], views=4)
    expected = [np.array(alone.features), np.array(alone.targets)]
    for file in cache.iterdir():
        file.unlink()
    fill(backbone, dataset, [bind("depth")], views=2)
    kept = {path: path.stat().st_ino for path in cache.iterdir()}
    [more] = fill(backbone, dataset, [bind("depth")], views=4)
    assert {path: path.stat().st_ino for path in kept} == kept
    np.testing.assert_array_equal(more.features, expected[0])
    np.testing.assert_array_equal(more.targets, expected[1])
    dataset.loads.clear()
    fill(backbone, dataset, [bind("depth")], views=3)
    assert dataset.loads == []


@pytest.mark.parametrize("damage", ["another's", "cut", "empty", "text"])
def test_a_file_that_is_not_what_its_name_says_is_computed_anew(
    cache, backbone, memory, bind, damage
):
    dataset = memory()
    [whole] = fill(backbone, dataset, [bind("depth")])
    expected = np.array(whole.features)
    del whole
    before = {path: path.read_bytes() for path in cache.iterdir()}
    fill(backbone, dataset, [bind("depth")], fingerprint="e" * 64)
    others = [path for path in cache.iterdir() if path not in before]
    assert len(others) == 3
    features = [path for path in before if path.stat().st_size == others[0].stat().st_size]
    assert len(features) == 3
    for path in features:
        data = before[path]
        stranger = others[0].read_bytes()
        changed = {"another's": stranger, "cut": data[:-1], "empty": b"", "text": b"hello, world"}
        path.write_bytes(changed[damage])
    [again] = fill(backbone, dataset, [bind("depth")])
    np.testing.assert_array_equal(again.features, expected)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_single_file_that_is_lost_is_written_anew(cache, backbone, memory, bind, damage):
    """Whatever it held: features, targets, or which of them count."""
    dataset, bindings = memory(), [bind("depth"), bind("semseg")]
    fill(backbone, dataset, bindings)
    before = {path: path.read_bytes() for path in cache.iterdir()}
    assert len(before) == 5 * 3
    for path, data in before.items():
        path.unlink()
        if damage == "cut":
            path.write_bytes(data[:-1])
        fill(backbone, dataset, bindings)
        assert {path: path.read_bytes() for path in cache.iterdir()} == before


@pytest.mark.parametrize("how", ["unreadable", "plugin", "nothing valid"])
def test_a_target_that_cannot_be_cached_is_not_in_the_way_of_others(
    cache, backbone, memory, bind, monkeypatch, how
):
    [good] = fill(backbone, memory(), [bind("semseg")])
    expected = [np.array(rows) for rows in (good.features, good.targets, good.valid)]
    for file in cache.iterdir():
        file.unlink()
    lacks = {i: {"depth"} for i in range(6)} if how == "nothing valid" else {}
    dataset, depth = memory(), bind("depth")
    dataset.lacks = lacks
    load = dataset.load

    def unreadable(index, targets=None):
        if index == 4 and "depth" in targets:
            raise DataError("image4: depth is torn")
        return load(index, targets)

    if how == "unreadable":
        monkeypatch.setattr(dataset, "load", unreadable)
    if how == "plugin":
        depth.task.encode_target = lambda raw, image: 1 / 0
    source = Source(dataset, SIZE, fixed_views(3))
    bindings = [depth, bind("semseg")]
    failed, task = cache_each(backbone, "f" * 64, source, bindings, SilentProgress())
    kind, said = {
        "unreadable": (DataError, "depth is torn"),
        "plugin": (ZeroDivisionError, "division"),
        "nothing valid": (DataError, "no valid pixel of 'depth'"),
    }[how]
    assert isinstance(failed, kind)
    assert said in str(failed)
    for rows, wanted in zip((task.features, task.targets, task.valid), expected, strict=True):
        np.testing.assert_array_equal(rows, wanted)
    with pytest.raises(kind, match=said):
        fill(backbone, dataset, bindings)
    with pytest.raises(kind, match=said):
        fill(backbone, dataset, [depth])
    assert not [path for path in cache.iterdir() if path.name.startswith(".")]


def test_missing_targets_are_rows_without_a_valid_pixel(cache, backbone, memory, bind):
    dataset = memory(lacks={0: {"depth"}, 2: {"depth", "semseg", "normals"}})
    tasks = fill(backbone, dataset, [bind(name) for name in NAMES], views=1)
    present = [[bool(task.valid[row].any()) for row in range(len(dataset))] for task in tasks]
    assert present[0] == [False, True, False, True, True, True]
    assert present[1] == present[2] == [True, True, False, True, True, True]
    assert not tasks[0].targets[0].any()
    assert (tasks[2].targets[2] == 255).all()


def test_no_valid_pixel_in_the_whole_set(cache, backbone, memory, bind):
    dataset = memory(3, lacks={i: {"depth"} for i in range(3)})
    for _ in range(2):  # the second time from the cache
        with pytest.raises(DataError, match="memory: no valid pixel of 'depth' in 3 images") as err:
            fill(backbone, dataset, [bind("depth")])
        assert err.value.hint


def test_features_that_are_no_numbers_are_refused(cache, backbone, memory, bind):
    dataset, net = memory(10), copy.deepcopy(backbone)
    with torch.no_grad():
        next(iter(net.net.parameters())).fill_(torch.nan)
    with pytest.raises(DataError, match="memory: .* no finite numbers for 'image0'") as err:
        fill(net, dataset, [bind("depth")])
    assert err.value.hint
    assert not list(cache.glob("*.safetensors"))


def test_a_full_disk_is_noticed_before_any_sample_is_read(
    cache, backbone, memory, bind, monkeypatch
):
    dataset = memory()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=50_000))
    with pytest.raises(StoreError, match="are needed"):
        fill(backbone, dataset, [bind("depth")])
    assert dataset.loads == []
    assert list(cache.iterdir()) == []


def test_images_are_cached_as_they_are_viewed(cache, memory, bind):
    dataset = memory()
    source = Source(dataset, SIZE, (View(),))
    images, [(targets, valid)] = cache_images(source, [bind("semseg")], SilentProgress())
    for index in range(len(dataset)):
        shown = view_image(dataset.load(index).image, SIZE, View(), PADDING)
        np.testing.assert_array_equal(images[index], shown)
    assert images.dtype == targets.dtype == valid.dtype == np.uint8


def test_a_task_that_writes_to_what_it_is_given_spoils_nothing(cache, backbone, memory, bind):
    """Features are cached once for all tasks, so what one does to an image must not reach them."""

    def vandal(raw, image):
        image[:] = 0
        if raw is None:
            return np.zeros(image.shape[:2], np.int64)
        return np.array(raw.fill(1) or raw)

    [clean] = fill(backbone, memory(), [bind("depth")], views=4)
    expected = np.array(clean.features)
    for file in cache.iterdir():
        file.unlink()
    edges, depth = bind("edges"), bind("depth")
    spec = edges.task.spec
    target = spec.target.model_copy(update={"source": "image"})
    edges.task.spec = spec.model_copy(update={"target": target})
    edges.task.encode_target = depth.task.encode_target = vandal
    dataset = memory()
    sample = dataset.load(0)
    before = sample.image.copy(), sample.targets["depth"].copy()
    for binding in (edges, depth):
        binding.target(sample)
        shown = view_image(sample.image, SIZE, IDENTITY, PADDING)
        binding.viewed(sample, shown, SIZE, IDENTITY)
        assert shown.any()
    np.testing.assert_array_equal(sample.image, before[0])
    np.testing.assert_array_equal(sample.targets["depth"], before[1])
    [spoilt, _] = fill(backbone, dataset, [edges, depth], views=4)
    np.testing.assert_array_equal(spoilt.features, expected)


def test_values_that_the_task_cannot_predict_are_refused(memory, bind):
    sample = memory().load(0)
    sample.targets["depth"][7, 7] = -1
    with pytest.raises(DataError, match=r"image0: target 'depth' holds 1 values such as -1") as e:
        bind("depth").target(sample)
    assert "invalid" in e.value.hint
    sample.targets["normals"][:] = 2
    with pytest.raises(DataError, match="'normals'"):
        bind("normals").target(sample)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("depth", np.inf, "holds 1 values such as inf; those of task 'depth' lie in \\[0.0, ∞\\]"),
        ("semseg", 7, "holds 1 values such as 7; those of task 'semseg' lie in \\[0, 2\\]"),
        ("semseg", 258, "such as 258"),  # as a byte it would be a class
        ("semseg", -1, "such as -1"),
        ("semseg", 0.5, "such as 0.5; those of task 'semseg' are whole numbers"),
        ("semseg", np.nan, "such as nan; those of task 'semseg' are whole numbers"),
    ],
)
def test_values_that_no_loss_can_take_are_refused(memory, bind, name, value, said):
    sample = memory().load(0)
    sample.targets[name] = sample.targets[name].astype(np.result_type(value, np.float32))
    sample.targets[name][7, 7] = value
    with pytest.raises(DataError, match=f"image0: target {name!r} .*{said}"):
        bind(name).target(sample)


def test_targets_of_other_types_become_those_of_the_task(memory, bind):
    sample, whole = memory().load(0), memory().load(0)
    for name, kind in (("depth", np.float64), ("semseg", np.uint8), ("semseg", np.float32)):
        sample.targets[name] = whole.targets[name][:, ::-1].astype(kind)[:, ::-1]
        target = bind(name).target(sample)
        np.testing.assert_array_equal(target, whole.targets[name])
        assert (target.dtype, target.flags.c_contiguous) == (whole.targets[name].dtype, True)
    sample.targets["depth"] = np.full(sample.image.shape[:2], "1 m")
    with pytest.raises(DataError, match="is <U3, task 'depth' needs float32"):
        bind("depth").target(sample)


@pytest.mark.parametrize(("value", "stored"), [(-1, np.int64), (255, np.uint8)])
def test_what_is_stored_is_what_was_encoded(bind, value, stored):
    """An invalid value of -1 would be 255 as a byte, and no loss would know it."""
    edges = bind("edges")
    spec = edges.task.spec
    spec = spec.model_copy(
        update={"target": spec.target.model_copy(update={"channels": 2, "invalid": value})}
    )
    edges = Binding(SimpleNamespace(spec=spec), None)
    partly = np.array([[[1, value], [value, value]]], np.int64)
    np.testing.assert_array_equal(compact(partly, edges), partly)
    assert compact(partly, edges).dtype == stored
    np.testing.assert_array_equal(edges.valid(partly), [[True, False]])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
def test_reading_a_large_cache_takes_no_memory_of_ones_own(tmp_path):
    """100 MB are read batch by batch; pages of files are the kernel's, and may be dropped."""

    def anonymous():
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

    shape, rows = (50_000,), []
    for view in range(2):
        with RowWriter(tmp_path / str(view), 500, shape, np.dtype(np.float16), {}) as writer:
            for number in range(500):
                writer.write(np.full(shape, number + view, np.float16))
        rows.append(read_rows(tmp_path / str(view))[0])
    whole = Rows(rows)
    before, total = anonymous(), 0.0
    for start in range(0, len(whole), 8):
        total += float(np.stack([whole[row] for row in range(start, start + 8)])[:, 0].sum())
    assert total == 2 * sum(range(500)) + 500
    assert anonymous() - before < 20_000_000
