import pytest

from medusa_core.api import LabelSchema, TargetInfo
from medusa_core.engine.datasets import (
    DataRef,
    Joined,
    Only,
    Subset,
    check_target,
    load_dataset,
    require_same_labels,
    selection_split,
    shorten,
)
from medusa_core.errors import DataError, LabelsError, UnknownNameError, UsageError
from medusa_core.plugin_host import default_host


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("rooms", DataRef("rooms")),
        ("folder:/data/a b", DataRef("folder", "/data/a b")),
        ("folder:C:\\data=x", DataRef("folder", "C:\\data=x")),
        ("depth=folder:x:y", DataRef("folder", "x:y", "depth")),
        ("depth_indoor=rooms", DataRef("rooms", None, "depth_indoor")),
    ],
)
def test_the_data_option(text, ref):
    assert DataRef.parse(text) == ref
    assert str(ref) == text


@pytest.mark.parametrize("text", ["", "Rooms", "/data", "folder:", "=rooms", "a=b=rooms", "a b"])
def test_a_malformed_data_option(text):
    with pytest.raises(UsageError, match="is not of the form") as caught:
        DataRef.parse(text)
    assert "folder:photos" in caught.value.hint


def test_the_selection_part_is_a_tenth_and_never_changes(memory):
    whole = memory(2000)
    train, selection = selection_split(whole)
    assert sorted(train + selection) == list(range(2000))
    assert 150 < len(selection) < 250
    assert (train, selection) == selection_split(memory(2000))
    chosen = {whole.ids[i] for i in selection}
    smaller = memory(700)  # its ids are the first 700 of the others
    assert {smaller.ids[i] for i in selection_split(smaller)[1]} == {
        name for name in smaller.ids if name in chosen
    }


@pytest.mark.parametrize("count", range(2, 40))
def test_both_parts_have_a_sample(memory, count):
    train, selection = selection_split(memory(count))
    assert train
    assert selection
    assert sorted(train + selection) == list(range(count))


@pytest.mark.parametrize("shares", [[0.01, 0.02, 0.03], [0.9, 0.8, 0.7]])
def test_both_parts_have_a_sample_whatever_the_hashes(memory, monkeypatch, shares):
    data = memory(3)
    by_id = dict(zip(data.ids, shares, strict=True))
    monkeypatch.setattr("medusa_core.engine.datasets._share", by_id.__getitem__)
    train, selection = selection_split(data)
    assert len(selection) == 1
    assert len(train) == 2


def test_one_image_cannot_be_split(memory):
    with pytest.raises(DataError, match="at least 2 are needed"):
        selection_split(memory(1))


def test_shortening_spreads_evenly(memory):
    data = memory(10)
    assert shorten(data, None) is data
    assert shorten(data, 10) is data
    short = shorten(data, 4)
    assert short.ids == ("image0", "image2", "image5", "image7")
    assert [short.load(i).id for i in range(4)] == list(short.ids)
    assert short.size(1) == data.size(2)
    assert short.digest not in (data.digest, shorten(data, 5).digest)


def test_a_subset_is_what_it_names(memory):
    data = memory(5)
    part = Subset(data, [3, 1])
    assert len(part) == 2
    assert part.load(0, ["depth"]).id == "image3"
    assert set(part.load(0, ["depth"]).targets) == {"depth"}
    assert part.digest != Subset(data, [1, 3]).digest


def test_joined_data_sets_are_one_after_the_other(memory):
    first, second = memory(3), memory(4, seed=1)
    del second.targets["normals"]
    joined = Joined([first, second])
    assert len(joined) == 7
    assert len(set(joined.ids)) == 7
    assert set(joined.targets) == {"depth", "semseg", "normals"}
    for index in range(7):
        part, inner = (first, index) if index < 3 else (second, index - 3)
        sample = joined.load(index, ["depth"])
        assert sample.id == joined.ids[index]
        assert (sample.image == part.load(inner).image).all()
        assert set(sample.targets) == {"depth"}
        assert joined.size(index) == part.size(inner)
    assert joined.digest != Joined([second, first]).digest


def test_the_selection_part_is_a_tenth_of_each_joined_data_set(memory):
    """The same images as alone, wherever the data set stands and whatever is taken of it."""
    first, second = memory(40), memory(30, seed=1)
    second.ids = [f"other{i}" for i in range(30)]
    alone = [{data.ids[i] for i in selection_split(data)[1]} for data in (first, second)]
    for parts in ([first, second], [second, first]):
        joined = Joined(parts)
        train, selection = selection_split(joined)
        assert {joined.ids[i].partition("/")[2] for i in selection} == alone[0] | alone[1]
        assert sorted(train + selection) == list(range(70))
    short = shorten(Joined([first, second]), 20)
    chosen = {short.ids[i].partition("/")[2] for i in selection_split(short)[1]}
    assert chosen & set(first.ids)
    assert chosen & set(second.ids)


def test_each_joined_data_set_with_two_images_can_be_chosen_by(memory):
    train, selection = selection_split(Joined([memory(2), memory(1, seed=1), memory(2, seed=2)]))
    assert len([i for i in selection if i < 2]) == 1
    assert len([i for i in selection if i > 2]) == 1
    assert 2 in train
    assert len(selection_split(Joined([memory(1), memory(1, seed=1)]))[1]) == 1


def test_only_some_targets_are_read(memory):
    data = memory(3)
    part = Only(data, {"depth", "edges"})
    assert set(part.targets) == {"depth"}
    assert (len(part), part.ids, part.size(1)) == (3, data.ids, data.size(1))
    assert set(part.load(0).targets) == {"depth"}
    assert set(part.load(0, ["depth", "semseg"]).targets) == {"depth"}
    assert part.load(0, ["semseg"]).targets == {}
    assert part.digest not in (data.digest, Only(data, {"semseg"}).digest)
    with pytest.raises(DataError, match="no target 'semseg'"):
        check_target(part, default_host().tasks.get("semseg"))


def test_a_unit_that_one_part_leaves_open_is_that_of_the_other(memory):
    first, second = memory(2), memory(2)
    first.targets["depth"] = TargetInfo()
    second.targets["depth"] = TargetInfo(unit="mm")
    for parts in ([first, second], [second, first]):
        joined = Joined(parts)
        assert joined.targets["depth"].unit == "mm"
        with pytest.raises(DataError, match="is in 'mm', task 'depth' needs 'm'"):
            check_target(joined, default_host().tasks.get("depth"))


def test_parts_that_disagree_are_not_joined(memory):
    def with_labels(**changes):
        data = memory(2)
        labels = data.targets["semseg"].labels
        data.targets["semseg"] = TargetInfo(labels=labels.model_copy(update=changes))
        return data

    feet = memory(2)
    feet.targets["depth"] = TargetInfo(unit="ft")
    with pytest.raises(DataError, match="'depth' is in 'm' and in 'ft'"):
        Joined([memory(2), feet])
    with pytest.raises(LabelsError, match="only in the second: wall"):
        Joined([memory(2), with_labels(names=("floor", "left", "right", "wall"))])
    with pytest.raises(DataError, match="ignore_index 255 and 250"):
        Joined([memory(2), with_labels(ignore_index=250)])
    with pytest.raises(DataError, match="swap_pairs"):
        Joined([memory(2), with_labels(swap_pairs=())])


def test_the_target_of_a_task(memory):
    host, data = default_host(), memory(2)
    assert check_target(data, host.tasks.get("depth")) is None
    assert check_target(data, host.tasks.get("semseg")) == data.targets["semseg"].labels
    with pytest.raises(DataError, match=r"no target 'edges'.*depth, normals, semseg") as caught:
        check_target(data, host.tasks.get("edges"))
    assert "--data" in caught.value.hint
    data.targets["depth"] = TargetInfo(unit="mm")
    with pytest.raises(DataError, match="is in 'mm'") as caught:
        check_target(data, host.tasks.get("depth"))
    assert "scale" in caught.value.hint
    data.targets["semseg"] = TargetInfo()
    with pytest.raises(DataError, match="no class names"):
        check_target(data, host.tasks.get("semseg"))


def test_names_of_channels_are_no_classes(memory):
    """Their ignore index would mark what is unknown in numbers that are no classes."""
    data, spec = memory(2), default_host().tasks.get("depth")
    for source in ("data", "image"):
        target = spec.target.model_copy(update={"source": source})
        named = spec.model_copy(update={"target": target, "labels": data.targets["semseg"].labels})
        assert check_target(data, named) is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a", "b"), "3 classes against 2; only in the first: c"),
        (("a", "b", "c", "d"), "only in the second: d"),
        (("a", "c", "b"), "'b' is 1 and 2"),
        (("x", "y", "z"), "only in the first: a, b, c; only in the second: x, y, z"),
    ],
)
def test_differences_of_classes_are_shown(names, said):
    head = LabelSchema(names=("a", "b", "c"))
    with pytest.raises(LabelsError, match=said) as caught:
        require_same_labels(head, LabelSchema(names=names), "Here")
    assert caught.value.message.startswith("Here: the classes differ")
    assert caught.value.hint


def test_equal_classes_and_none_are_fine():
    head = LabelSchema(names=("a", "b"))
    require_same_labels(head, LabelSchema(names=("a", "b"), ignore_index=9), "Here")
    require_same_labels(None, head, "Here")
    require_same_labels(head, None, "Here")


@pytest.mark.parametrize(
    ("ref", "split", "error", "said"),
    [
        (DataRef("roms"), "train", UnknownNameError, "Did you mean 'rooms'"),
        (DataRef("rooms"), "tran", UnknownNameError, "Unknown split 'tran'. Did you mean 'train'"),
        (DataRef("folder"), "train", UsageError, "needs a path"),
    ],
)
def test_data_that_cannot_be_opened(ref, split, error, said):
    with pytest.raises(error, match=said):
        load_dataset(default_host(), ref, split)


def test_a_folder_named_like_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(UnknownNameError, match="Unknown data set 'photos'") as caught:
        load_dataset(default_host(), DataRef.parse("photos"), "train")
    assert "--data folder:photos" in caught.value.hint


@pytest.mark.parametrize("pairs", [((0, 1), (1, 2)), ((0, 0),)])
def test_a_class_is_swapped_with_one_other(pairs):
    with pytest.raises(ValueError, match="a class twice"):
        LabelSchema(names=("a", "b", "c"), swap_pairs=pairs)
