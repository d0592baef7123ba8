"""Several tasks in one command: each is told its own faults, and named as `add-task` takes it."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

import medusa_core
from medusa_core.errors import FAILED, USAGE, UnknownNameError

from .conftest import FAST, ROOMS, TINY


def test_each_task_is_told_what_is_wrong_with_its_own_target(medusa, model, folder):
    (folder / "depth" / "im2.npy").write_bytes(b"damaged")
    (folder / "semseg" / "im4.png").write_bytes(b"damaged, too")
    for name in ("depth", "semseg"):
        assert medusa("remove-task", name, "--yes").code == 0
    done = medusa("add-task", "depth,semseg", "--data", f"folder:{folder}", *FAST, *TINY, "--json")
    assert done.code == FAILED
    failed = done.document["failed"]
    assert "im2.npy" in failed["depth"]["error"]
    assert "im4.png" in failed["semseg"]["error"]


def test_estimate_takes_what_add_task_takes(medusa, model, folder):
    names = ("medusa-tasks:depth", "--data", f"depth=folder:{folder}", *FAST[:6], *TINY)
    assert medusa("estimate", *names).code == 0
    own = ("medusa-tasks:depth", "--head", "medusa-heads:linear", *ROOMS, *FAST[:6])
    assert medusa("estimate", *own).code == 0
    other = medusa("estimate", "medusa-tasks:depth", "--data", f"edges=folder:{folder}")
    assert other.code == USAGE


def test_a_folder_that_is_missing_is_no_damage(medusa, model, tmp_path):
    done = medusa("export-head", "depth", "-o", tmp_path / "nowhere" / "depth.medusa")
    assert done.code == FAILED
    assert done.hint == "Make the folder first, or name another place."


def test_data_bound_to_a_head_go_before_those_of_its_task(medusa, model, folder):
    add = ("add-task", "depth", "--name", "depth_own", "--data", f"folder:{folder}", *FAST, *TINY)
    assert medusa(*add).code == 0
    data = ("--data", "depth=rooms:64x64", "--data", f"depth_own=folder:{folder}")
    done = medusa("eval", "--tasks", "depth,depth_own", *data, "--limit", "2", "--json")
    assert done.code == 0, done.err
    used = {name: head["data"] for name, head in done.document["heads"].items()}
    assert used == {"depth": ["depth=rooms:64x64"], "depth_own": [f"depth_own=folder:{folder}"]}


def test_a_head_records_its_own_data_only(medusa, model, folder, tmp_path):
    """Others are wrong, and their paths are nobody's business who gets the head."""
    flat = shutil.copytree(folder, tmp_path / "flat")
    description = json.loads((flat / "dataset.json").read_text())
    del description["targets"]["depth"]
    (flat / "dataset.json").write_text(json.dumps(description))
    whole, part = f"folder:{folder}", f"folder:{flat}"
    for data, own in (
        ((f"depth={whole}", f"semseg={part}"), ([f"depth={whole}"], [f"semseg={part}"])),
        ((part, whole), ([whole], [part, whole])),
    ):
        options = [word for name in data for word in ("--data", name)]
        done = medusa("add-task", "depth,semseg", "--replace", *options, *FAST, *TINY)
        assert done.code == 0, done.err
        records = [next(model.glob(f"heads/{head}/*/head.json")) for head in ("depth", "semseg")]
        found = [json.loads(record.read_text())["provenance"]["data"] for record in records]
        assert found == [*own]


def test_a_head_that_has_seen_the_images_is_named(medusa, model, folder, tmp_path):
    seen = ("--name", "seen", "--split", "val", "--data", f"folder:{folder}")
    assert medusa("add-task", "depth", *seen, *FAST, *TINY).code == 0
    told = "seen was trained on images of this split ('val')"
    done = medusa("eval", "--tasks", "depth,seen", "--data", f"folder:{folder}", "--json")
    assert done.code == 0, done.err
    assert told in done.err
    assert "depth was trained on images" not in done.err
    heads = done.document["heads"]
    assert {n: row["trained_on_these"] for n, row in heads.items()} == {
        "depth": False,
        "seen": True,
    }
    part = medusa("eval", "--tasks", "seen", "--data", f"folder:{folder}", "--limit", "2")
    assert told in part.err
    other = medusa("eval", "--tasks", "seen", "--data", f"folder:{folder}", "--split", "train")
    assert "was trained on images" not in other.err
    twin = shutil.copytree(folder, tmp_path / "twin")
    data = [("--data", f"folder:{place}") for place in (folder, twin)]
    assert medusa("add-task", "depth", "--name", "both", *data[0], *data[1], *FAST, *TINY).code == 0
    for each in data:
        done = medusa("eval", "--tasks", "both", *each, "--split", "train", "--limit", "2")
        assert "both was trained on images of this split ('train')" in done.err


def test_what_cannot_be_evaluated_is_told_before_anything_is(medusa, model, folder, tmp_path):
    flat = shutil.copytree(folder, tmp_path / "flat")
    description = json.loads((flat / "dataset.json").read_text())
    classes = description["targets"]["semseg"]["labels"]
    del description["targets"]["semseg"]
    (flat / "dataset.json").write_text(json.dumps(description))
    done = medusa("eval", "--tasks", "depth,semseg", "--data", f"folder:{flat}")
    assert done.code == 1
    assert done.error.startswith("No target for semseg")
    assert "Evaluating" not in done.err
    other = shutil.copytree(folder, tmp_path / "other")
    description = json.loads((folder / "dataset.json").read_text())
    description["targets"]["semseg"]["labels"] = classes[::-1]
    (other / "dataset.json").write_text(json.dumps(description))
    done = medusa("eval", "--data", f"depth=folder:{folder}", "--data", f"semseg=folder:{other}")
    assert done.code == 1
    assert "classes differ" in done.error
    assert "Evaluating" not in done.err


def test_resuming_tells_which_heads_are_there_already(medusa, model):
    line = ("add-task", "depth,semseg", *ROOMS, *FAST, *TINY, "--resume", "--json")
    done = medusa(*line)
    assert done.code == 0
    assert done.document["already_there"] == ["depth", "semseg"]
    assert done.document["heads"] == {}
    assert "depth is in the model already" in done.err


def test_a_plain_string_is_one_name(model, photos):
    found = medusa_core.predict(str(photos / "two" / "room.jpg"), model=model, formats="npy")
    assert len(found["images"]) == 1
    checked = medusa_core.evaluate(model, data=ROOMS[1], minimum="depth.rmse=9", limit=2)
    assert len(checked["checks"]) == 1
    with pytest.raises(UnknownNameError, match="'nothing'"):
        medusa_core.remove_task("nothing", model=model)
    with pytest.raises(UnknownNameError, match="'nowhere'"):
        medusa_core.add_task("edges", model=model, data="nowhere")
    medusa_core.remove_task(["depth", "semseg"], model=model)
    with pytest.raises(UnknownNameError, match="'nothing'"):
        medusa_core.train_backbone(model, tasks="nothing", dry_run=True)


def test_options_that_a_function_does_not_take_are_refused(model):
    with pytest.raises(UnknownNameError, match="'stpes'. Did you mean 'steps'"):
        medusa_core.add_task("edges", model=model, stpes=3)
    for name in ("views", "patience", "smaller_batches"):
        with pytest.raises(UnknownNameError, match=f"train_backbone.* '{name}'"):
            medusa_core.train_backbone(model, tasks="depth", **{name: 1})
    with pytest.raises(UnknownNameError, match=r"estimate\(\) 'resume'"):
        medusa_core.estimate("edges", model=model, resume=True)


def test_the_home_folder_is_known_without_a_shell(medusa, model, monkeypatch):
    monkeypatch.setenv("HOME", str(model.parent))
    monkeypatch.setenv("MEDUSA_MODEL", f"~/{model.name}")
    assert medusa("list").code == 0
    joint = medusa("train-backbone", "--tasks", "depth", "--dry-run")
    assert joint.error.startswith(f"{model} has heads")
    assert "~nobody-of-that-name/x" in medusa("list", "-m", "~nobody-of-that-name/x").error
    monkeypatch.setenv("MEDUSA_CACHE", "~nobody-of-that-name/x")
    assert medusa("doctor").code in (0, FAILED)
    monkeypatch.setenv("MEDUSA_CACHE", str(model.parent / "cache"))
    done = medusa("add-task", "edges", "--data", "folder:~/photos")
    assert str(model.parent / "photos") in done.error


@pytest.mark.parametrize(
    ("name", "value"), [("MEDUSA_CACHE", "~nobody-of-that-name/x"), ("MEDUSA_CACHE_LIMIT", "much")]
)
def test_no_model_is_made_where_settings_of_the_cache_are_wrong(
    medusa, monkeypatch, tmp_path, name, value
):
    monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    done = medusa("add-task", "depth", "--limit", 8)
    assert done.code == USAGE
    assert value in done.error
    assert not Path("medusa-model").exists()


def test_renaming_to_a_name_that_is_taken_says_what_can_be_done(medusa, model):
    done = medusa("rename-head", "depth", "semseg")
    assert done.code != 0
    assert "--name" not in done.hint


def test_the_next_command_names_data_of_the_heads_that_were_added(medusa, model, folder):
    (folder / "semseg" / "im4.png").write_bytes(b"damaged")
    data = [f"{name}=folder:{folder}" for name in ("depth", "semseg")]
    for name in ("depth", "semseg"):
        assert medusa("remove-task", name, "--yes").code == 0
    line = ("add-task", "depth,semseg", "--data", data[0], "--data", data[1], *FAST, *TINY)
    done = medusa(*line)
    assert done.code == FAILED
    [following] = [line for line in done.out.splitlines() if line.startswith("Next: medusa ")]
    assert medusa(*shlex.split(following)[2:]).code == 0


def test_a_head_of_other_classes_is_in_no_other_heads_way(medusa, model, folder):
    """Unless it is named, or all there is."""
    data = ("--data", f"folder:{folder}")
    done = medusa("eval", *data, "--json")
    assert done.code == 0, done.err
    assert (set(done.document["heads"]), done.document["skipped"]) == ({"depth"}, ["semseg"])
    assert "Left out: Head 'semseg' (first)" in done.err
    named = medusa("eval", *data, "--tasks", "depth,semseg")
    assert (named.code, "the classes differ" in named.error) == (FAILED, True)
    bound = medusa("eval", "--data", f"semseg=folder:{folder}", "--data", f"depth=folder:{folder}")
    assert (bound.code, "the classes differ" in bound.error) == (FAILED, True)
    assert medusa("remove-task", "depth", "--yes").code == 0
    alone = medusa("eval", *data)
    assert (alone.code, "the classes differ" in alone.error) == (FAILED, True)
