from __future__ import annotations

import dataclasses
import errno
import gc
import json
import os
import sys

import pytest
import torch

from medusa_core.errors import FingerprintError, StoreError, UnknownNameError
from medusa_core.store import commit, files, folder, records, weights
from medusa_core.store.folder import ModelFolder


def descriptors() -> int:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to count open files")
    gc.collect()  # what earlier tests have left
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def tensors():
    return {
        "proj.weight": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "bn.running_var": torch.tensor([0.0, -0.0, torch.inf, torch.nan, 1e-45]),
        "bn.num_batches_tracked": torch.tensor(7),
        "half": torch.randn(3).half(),
        "none": torch.empty(0, 5),
    }


def same(a, b):
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype
        and a[k].shape == b[k].shape
        and a[k].contiguous().numpy().tobytes() == b[k].contiguous().numpy().tobytes()
        for k in a
    )


def test_tensors_come_back_bit_by_bit(tmp_path, tensors, backbone, head):
    data = weights.to_bytes(tensors)
    other = weights.to_bytes({"x": torch.ones(1)})
    commit.create(tmp_path / "m", backbone(data), data, {"a": head(data), "b": head(other)})
    with ModelFolder.open(tmp_path / "m") as opened:
        assert same(opened.read_backbone(), tensors)
        assert same(opened.read_head("a"), tensors)
        assert same(opened.read_head("b"), {"x": torch.ones(1)})
        assert opened.heads["a"] == head(data).manifest
        assert opened.manifest.backbone == backbone(data)


def test_equal_tensors_give_equal_bytes(tensors):
    reordered = {key: tensors[key].contiguous() for key in reversed(tensors)}
    assert weights.to_bytes(reordered) == weights.to_bytes(tensors)


def test_tied_and_sliced_tensors_can_be_stored():
    base = torch.arange(6.0)
    tied = {"a": base, "b": base, "c": base[::2]}
    assert same(weights.from_bytes(weights.to_bytes(tied), "x"), tied)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"head weights",
        (1 << 62).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        b"\x80\x04N.",  # a pickle
    ],
)
def test_malformed_weights_are_an_error(data):
    with pytest.raises(StoreError, match=r"f\.safetensors is not a valid safetensors file"):
        weights.from_bytes(data, "f.safetensors")


def test_no_proper_prefix_of_a_weights_file_is_accepted(tensors):
    data = weights.to_bytes(tensors)
    for length in range(0, len(data), 7):
        with pytest.raises(StoreError):
            weights.from_bytes(data[:length], "x")


def test_unknown_head(model):
    with ModelFolder.open(model) as opened, pytest.raises(UnknownNameError) as caught:
        opened.read_head("dept")
    assert "Did you mean 'depth'" in caught.value.message


def test_what_was_opened_stays_readable(model, head, fingerprint, backbone):
    with ModelFolder.open(model) as opened:
        new = head(b"new")
        commit.commit_head(model, "depth", new, expect_fingerprint=fingerprint, replace=True)
        commit.remove_heads(model, ["depth", "normals"])
        commit.replace_backbone(model, backbone(b"joint"), b"joint", {})
        assert opened.read_head_bytes("depth") == b"depth weights"
        assert opened.read_head_bytes("normals") == b"normals weights"
        assert opened.read_backbone_bytes() == b"backbone weights"
    with ModelFolder.open(model) as opened:
        assert not opened.heads
        assert opened.read_backbone_bytes() == b"joint"


@pytest.mark.parametrize("when", ["before the heads are opened", "after"])
def test_a_commit_while_opening_makes_it_start_again(model, monkeypatch, when):
    real, calls = files.open_read, []

    def open_read(path, root):
        calls.append(path)
        if path.parts[-4:-2] == ("heads", "depth") and "changed" not in calls:
            calls.append("changed")
            if when == "after":
                descriptor = real(path, root)
                commit.rename_head(model, "depth", "renamed")
                return descriptor
            commit.rename_head(model, "depth", "renamed")
        return real(path, root)

    monkeypatch.setattr(files, "open_read", open_read)
    count = descriptors()
    with ModelFolder.open(model) as opened:
        assert list(opened.heads) == ["renamed", "normals"]
        assert opened.read_head_bytes("renamed") == b"depth weights"
    assert descriptors() == count


def test_a_folder_that_never_rests_is_given_up(model, monkeypatch):
    real = records.read_state
    numbers = iter(range(10_000))

    def restless(layout):
        return dataclasses.replace(real(layout), identity=(next(numbers), 0))

    monkeypatch.setattr(folder.records, "read_state", restless)
    with pytest.raises(StoreError, match="keeps being changed"):
        ModelFolder.open(model)


def test_descriptors_are_closed(model):
    count = descriptors()
    with ModelFolder.open(model):
        assert descriptors() == count + 3
    opened = ModelFolder.open(model)
    del opened
    gc.collect()
    assert descriptors() == count


def test_damage_is_an_error(model):
    for path in model.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    with ModelFolder.open(model) as opened:
        with pytest.raises(StoreError, match="damaged"):
            opened.read_backbone()
        with pytest.raises(StoreError, match="heads/depth/.* is damaged") as caught:
            opened.read_head("depth")
    assert "medusa remove-task depth" in caught.value.hint


def test_an_edited_head_json_is_an_error(model):
    path = next((model / "heads" / "depth").glob("*/head.json"))
    path.write_text(path.read_text().replace("0.5", "0.1"))
    with ModelFolder.open(model) as opened, pytest.raises(StoreError, match="damaged"):
        opened.read_head_bytes("depth")


def test_a_head_of_another_backbone_is_an_error(model):
    path = model / "model.json"
    path.write_text(path.read_text().replace("f" * 64, "a" * 64))
    with (
        ModelFolder.open(model) as opened,
        pytest.raises(FingerprintError, match=r"ffffffffffff….*aaaaaaaaaaaa…"),
    ):
        opened.read_head_bytes("depth")


@pytest.mark.parametrize("name", ["head.json", "head.safetensors"])
def test_a_missing_file_is_named(model, name):
    path = next((model / "heads" / "depth").glob(f"*/{name}"))
    path.unlink()
    with ModelFolder.open(model) as opened:
        with pytest.raises(StoreError, match=str(path)):
            opened.read_head_bytes("depth")
        assert set(opened.damaged) == {"depth"}
        assert "depth" not in opened.heads


def test_a_damaged_head_is_in_no_other_heads_way(model):
    next((model / "heads" / "depth").glob("*/head.json")).write_bytes(b"{")
    with ModelFolder.open(model) as opened:
        assert set(opened.heads) == {"normals"}
        assert opened.read_head_bytes("normals")
        with pytest.raises(StoreError, match="not valid JSON"):
            opened.read_head_bytes("depth")


def test_too_many_open_files_are_no_damage(model, monkeypatch):
    """A head that could not be opened just now is not lost."""
    real = os.open

    def full(path, *args, **options):
        if str(path).endswith("head.safetensors"):
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, *args, **options)

    monkeypatch.setattr(files.os, "open", full)
    with pytest.raises(StoreError, match="Too many open files"):
        ModelFolder.open(model)


def test_a_missing_backbone_hinders_reading_it_only(model):
    (model / "backbone.safetensors").unlink()
    with ModelFolder.open(model) as opened:
        assert opened.read_head_bytes("depth")
        with pytest.raises(StoreError, match="missing"):
            opened.read_backbone()


def test_links_are_not_followed_out_of_the_folder(model, tmp_path):
    path = next((model / "heads" / "depth").glob("*/head.safetensors"))
    (model / "heads" / "depth").rename(tmp_path / "moved")
    (model / "heads" / "depth").symlink_to(tmp_path / "moved")
    assert path.exists()
    with (
        ModelFolder.open(model) as opened,
        pytest.raises(StoreError, match="symbolic link"),
    ):
        opened.read_head_bytes("depth")


def test_the_folder_itself_may_be_a_link(model, tmp_path):
    (tmp_path / "link").symlink_to(model)
    with ModelFolder.open(tmp_path / "link") as opened:
        assert opened.read_head_bytes("depth") == b"depth weights"
    commit.remove_heads(tmp_path / "link", ["depth"])
    assert not (model / "heads" / "depth").exists()


def test_a_pipe_does_not_hang_the_reader(model):
    (model / "model.json").unlink()
    os.mkfifo(model / "model.json")
    with pytest.raises(StoreError, match="not a plain file"):
        ModelFolder.open(model)


@pytest.mark.parametrize("there", [True, False])
def test_no_model_folder(tmp_path, there):
    path = tmp_path / "my-model"
    if there:
        path.mkdir()
    with pytest.raises(StoreError, match=f"There is no model folder at {path}") as caught:
        ModelFolder.open(path)
    assert caught.value.hint == f"Make one: medusa init {path}"


@pytest.mark.parametrize(
    ("field", "value"),
    [("gmacs", "NaN"), ("gmacs", "-1.0"), ("gmacs", "0.0"), ("params", "1" + 400 * "0")],
)
def test_costs_that_cannot_be_are_damage(model, field, value):
    document = json.loads((model / "model.json").read_text())
    document["backbone"][field] = "HERE"
    (model / "model.json").write_text(json.dumps(document).replace('"HERE"', value))
    with pytest.raises(StoreError, match=f"damaged: backbone.{field}|not valid JSON"):
        ModelFolder.open(model)


def test_a_newer_format_says_who_wrote_it(model):
    document = json.loads((model / "model.json").read_text())
    document |= {"schema_version": 2, "medusa_version": "9.1", "heads": "now a string"}
    (model / "model.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match=r"by medusa 9\.1 in format 2.*reads format 1") as caught:
        ModelFolder.open(model)
    assert caught.value.hint == "Upgrade: pip install --upgrade 'medusa-heads>=9.1'"


@pytest.mark.parametrize("changes", [{"medusa_version": "1" * 5000}, {"schema_version": 10**4500}])
def test_numbers_of_thousands_of_digits_are_damage(model, changes):
    document = json.loads((model / "model.json").read_text()) | {"schema_version": 2}
    (model / "model.json").write_text(_dumps(document | changes))
    with pytest.raises(StoreError, match=r"model\.json") as caught:
        ModelFolder.open(model)
    assert len(str(caught.value)) < 1000


def _dumps(document):
    """As `json.dumps`, which refuses numbers that Python does not write by itself."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(document)
    finally:
        sys.set_int_max_str_digits(limit)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "damaged: medusa_version: Field required"),
        (b" " * (16 << 20) + b"{}", "more than"),
    ],
    ids=["empty", "cut", "not text", "deep", "list", "fields missing", "long"],
)
def test_a_malformed_manifest_is_named(model, content, message):
    (model / "model.json").write_bytes(content)
    with pytest.raises(StoreError, match=f"model.json .*{message}") as caught:
        ModelFolder.open(model)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["../evil", "/evil", "A", "", "x\n"])
def test_a_manifest_cannot_name_a_head_outside(model, name):
    document = json.loads((model / "model.json").read_text())
    document["heads"][name] = "0" * 16
    (model / "model.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match="damaged: heads"):
        ModelFolder.open(model)


@pytest.mark.parametrize("revision", ["../../../../x", "0" * 15, "0" * 16 + "\n"])
def test_a_manifest_cannot_name_a_revision_outside(model, revision):
    document = json.loads((model / "model.json").read_text())
    document["heads"]["depth"] = revision
    (model / "model.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match="damaged: heads"):
        ModelFolder.open(model)


def test_a_folder_one_may_not_read(model, monkeypatch):
    def deny(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.os, "open", deny)
    with pytest.raises(StoreError, match=r"Cannot read .*model.json: Permission denied"):
        ModelFolder.open(model)


def test_folders_above_a_new_model_outlive_a_power_cut(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    files.make_folder(tmp_path / "a" / "b" / "c", parents=True)
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    files.make_folder(tmp_path / "a" / "b" / "c", parents=True)
    assert len(synced) == 3
