"""Whatever is wrong with what people give: one clear error, the right code, an unchanged model."""

import errno
import json
import os
import re
import shutil
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from medusa_core.cli import main
from medusa_core.engine import head_training
from medusa_core.errors import FAILED, USAGE
from medusa_core.plugin_host import default_host
from medusa_core.store import files, transaction

FAST = ("--limit", "6", "--size", "64x64", "--steps", "4", "--batch", "2", "--views", "2")
TINY = ("--set", "head.width=4", "--set", "head.fused_width=4")
ROOMS = ("--data", "rooms:64x64")
ADD = ("add-task", "edges", *ROOMS, *FAST, *TINY)


def add(task, data, *more):
    return ("add-task", task, "--name", "own", "--data", f"folder:{data}", *FAST, *TINY, *more)


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("add-task dept", "Unknown task 'dept'. Did you mean 'depth'? Known: depth,", "plugins"),
        ("add-task normals,dept", "Unknown task 'dept'", "plugins"),
        ("add-task edges --data roms", "Unknown data set 'roms'. Did you mean 'rooms'?", "plugins"),
        ("add-task edges --data Rooms/", "'Rooms/' is not of the form", "--data folder:"),
        ("add-task edges --data egdes=rooms", "'egdes'. Did you mean 'edges'?", "egdes=rooms"),
        ("add-task edges --split tran", "Unknown split 'tran'. Did you mean 'train'?", ""),
        ("add-task edges --head medsua", "'medsua'. Did you mean 'medusa'?", "plugins"),
        ("add-task edges --set head.widht=4", "head.widht", "width, fused_width"),
        ("add-task edges --set head.width=0", "head.width", "width, fused_width"),
        ("add-task edges --set depth.width=4", "only settings of the head", "head.width"),
        ("add-task edges --set width=4", "is not SECTION.KEY=VALUE", ""),
        ("add-task edges --steps 0", "--steps", ""),
        ("add-task edges --epochs 0", "--epochs", ""),
        ("add-task edges --steps 3 --epochs 2", "exclude each other", ""),
        ("add-task edges --batch 0", "--batch", ""),
        ("add-task edges --lr 0", "--lr", ""),
        ("add-task edges --lr nan", "--lr nan", ""),
        ("add-task edges --lr 1e300", "--lr 1e+300", ""),
        ("add-task edges --epochs inf", "--epochs inf", ""),
        ("add-task edges --epochs nan", "--epochs nan", ""),
        (f"add-task edges --seed {10**30}", "--seed 1000", ""),
        ("add-task edges --device meta", "Device 'meta' cannot be used", ""),
        ("add-task edges --device hpu", "Device 'hpu' cannot be used", ""),
        ("add-task edges --size 8x8", "sides must be 32 to 4096", "--size HxW"),
        ("add-task edges --size 64", "'64' is not HEIGHTxWIDTH", ""),
        ("add-task edges --size 32x32 --batch 1", "BatchNorm needs", "--batch"),
        ("add-task edges --device gpu", "Device 'gpu' cannot be used", ""),
        ("add-task edges,edges", "named twice", "--name"),
        ("add-task edges,normals --name both", "--name goes with a single task", ""),
        ("add-task edges --name Not-A-Name", "'Not-A-Name'", ""),
        ("add-task edges --name depth", "A head 'depth' exists already", "--replace"),
        ("add-task depth", "A head 'depth' exists already", "--replace"),
        ("add-task ./depth.medusa --steps 3", "--steps is for training", "--dry-run"),
        ("init other --backbone resnet19 --from-scratch", "Did you mean 'resnet18'?", "timm"),
        ("init other --backbone resnet18", "where the weights", "--pretrained"),
        ("init other --from-scratch", "Which backbone", "--backbone NAME"),
        ("eval --tasks detph", "Unknown head 'detph'. Did you mean 'depth'?", "medusa list"),
        ("eval --split test", "Unknown split 'test'. Known: train, val", ""),
        ("eval --data folder", "needs a path", "folder:PATH"),
        ("eval --data depht=rooms", "Did you mean 'depth'?", "depht=rooms"),
        ("eval --min depth.rmes=1", "Unknown metric 'rmes'. Did you mean 'rmse'?", "'depth'"),
        ("eval --min dept.rmse=1", "Unknown head 'dept'. Did you mean 'depth'?", "--min"),
        ("eval --tasks semseg --min depth.rmse=1", "Unknown head 'depth'", "--min"),
        ("eval --min depth.rmse", "not of the form HEAD.METRIC=VALUE", "semseg.miou=0.4"),
        ("predict photos/one --tasks deph", "Unknown head 'deph'. Did you mean 'depth'?", "list"),
        ("predict nothing.png", "nothing.png: no such file", ""),
        ("predict empty", "no images to predict", "files or folders"),
        ("rename-head dept x", "Unknown head 'dept'. Did you mean 'depth'?", ""),
        ("rename-head depth semseg", "A head 'semseg' exists already", ""),
        ("rename-head depth Semseg", "A head cannot be called 'Semseg'", "lower-case"),
        ("remove-task depht --yes", "Unknown head 'depht'. Did you mean 'depth'?", "medusa list"),
        ("remove-task depth,nothing --yes", "Unknown head 'nothing'", "medusa list"),
        ("evaluate", "Unknown command 'evaluate'. Did you mean 'eval'?", "--help"),
    ],
)
def test_what_does_not_exist_or_makes_no_sense(medusa, unchanged, photos, line, error, hint):
    (unchanged.parent / "empty").mkdir()
    done = medusa(*line.split())
    assert done.code == USAGE
    assert error in done.error
    assert hint in done.hint
    assert done.out == ""
    assert not (unchanged.parent / "other").exists()
    assert not (unchanged.parent / "out").exists()


@pytest.mark.parametrize(
    "command", ["list", "eval", "verify", "add-task depth", "predict photos/one"]
)
def test_a_folder_without_a_model(medusa, photos, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    done = medusa(*command.split(), "-m", "photos")
    assert done.code == FAILED
    assert done.error == "There is no model folder at photos: it has no model.json."
    assert done.hint == "Make one: medusa init photos"


# -- samples --------------------------------------------------------------------------------------


def _missing(path):
    path.unlink()


def _truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def _text(path):
    path.write_text("not an image")


def _other_size(path):
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(path)


@pytest.mark.parametrize(
    ("damage", "file", "said"),
    [
        (_missing, "image/im3.png", "image/im3.png: no such file"),
        (_truncated, "image/im3.png", "image/im3.png: truncated or damaged"),
        (_text, "image/im3.png", "image/im3.png: not an image"),
        (_other_size, "image/im3.png", "depth/im3.npy: 64×64 but its image is 64×32"),
        (_truncated, "depth/im3.npy", "depth/im3.npy: not a .npy file"),
    ],
)
@pytest.mark.parametrize("command", ["add-task", "eval"])
def test_a_damaged_sample(medusa, unchanged, folder, damage, file, said, command):
    damage(folder / file)
    evaluate = ("eval", "--tasks", "depth", "--data", f"folder:{folder}", "--split", "train")
    done = medusa(*(evaluate if command == "eval" else add("depth", folder)))
    assert done.code == FAILED
    assert said in done.error


def test_a_truncated_label_map(medusa, unchanged, folder):
    _truncated(folder / "semseg" / "im3.png")
    done = medusa(*add("semseg", folder))
    assert done.code == FAILED
    assert "semseg/im3.png: truncated or damaged" in done.error


def test_a_label_outside_the_schema(medusa, unchanged, folder):
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(folder / "semseg" / "im2.png")
    done = medusa(*add("semseg", folder))
    assert done.code == FAILED
    assert "semseg/im2.png: label 7 is outside the schema: 2 classes" in done.error
    assert "ignore_index" in done.hint


def test_depth_that_is_not_a_number(medusa, unchanged, folder):
    values = np.ones((64, 64), np.float32)
    values[5, :7] = np.nan
    np.save(folder / "depth" / "im1.npy", values)
    done = medusa(*add("depth", folder))
    assert done.code == FAILED
    assert "depth/im1.npy: 7 values are NaN" in done.error
    assert '"invalid": "nan"' in done.hint


def test_a_set_without_a_valid_pixel(medusa, unchanged, folder):
    for path in (folder / "depth").iterdir():
        np.save(path, np.zeros((64, 64), np.float32))
    done = medusa(*add("depth", folder))
    assert done.code == FAILED
    assert "own: no valid pixel of 'depth' in 6 images" in done.error
    assert done.hint


def test_a_batch_without_a_valid_pixel_is_skipped(medusa, model, folder):
    for number in range(5):
        np.save(folder / "depth" / f"im{number}.npy", np.zeros((64, 64), np.float32))
    done = medusa(*add("depth", folder, "--batch", "1", "--steps", "12"))
    if done.code == FAILED:  # the only image with depth is kept aside to choose weights by
        assert "none of 12 batches had a valid pixel" in done.error
        assert "--batch" in done.hint
    else:
        assert medusa("verify").code == 0


def test_training_images_without_a_valid_pixel(medusa, unchanged, folder, monkeypatch):
    """Depth in the selection part alone."""
    monkeypatch.setattr(
        "medusa_core.workflows.head_run.selection_split", lambda _: ([0, 1, 2, 3, 4], [5])
    )
    for number in range(5):
        np.save(folder / "depth" / f"im{number}.npy", np.zeros((64, 64), np.float32))
    done = medusa(*add("depth", folder))
    assert done.code == FAILED
    assert done.error == "Training own: none of 4 batches had a valid pixel."
    assert done.hint


@pytest.mark.parametrize(
    ("split", "said"),
    [("empty", "split 'empty' has no images"), ("one", "1 image is too few: at least 2")],
)
def test_too_few_images(medusa, unchanged, folder, split, said):
    description = json.loads((folder / "dataset.json").read_text())
    description["splits"]["one"] = "one.txt"
    (folder / "dataset.json").write_text(json.dumps(description))
    (folder / "one.txt").write_text("im0")
    done = medusa(*add("depth", folder, "--split", split))
    assert done.code == FAILED
    assert said in done.error


def test_no_data_set_there(medusa, unchanged, tmp_path):
    done = medusa(*add("depth", tmp_path / "nowhere"))
    assert done.code == FAILED
    assert "nowhere/dataset.json: no such file" in done.error
    assert "dataset.json" in done.hint


def test_a_data_set_without_the_target(medusa, unchanged, folder):
    done = medusa(*add("normals", folder))
    assert done.code == FAILED
    assert "own: no target 'normals' for task 'normals'. Its targets: depth, semseg." in done.error
    done = medusa("eval", "--tasks", "depth", "--data", f"semseg=folder:{folder}")
    assert done.code == USAGE


def test_other_labels_at_evaluation_are_shown(medusa, unchanged, folder):
    done = medusa("eval", "--tasks", "semseg", "--data", f"folder:{folder}")
    assert done.code == FAILED
    assert "'semseg'" in done.error
    assert "15 classes against 2" in done.error
    assert "only in the second: sky, road" in done.error
    assert "medusa add-task" in done.hint


# -- places ---------------------------------------------------------------------------------------


def test_an_output_folder_in_use(medusa, unchanged, photos):
    for folder in (unchanged, photos):
        before = sorted(os.listdir(folder))
        done = medusa("init", folder, "--backbone", "test_resnet", "--from-scratch")
        assert done.code == FAILED
        assert f"{folder} is an output folder in use" in done.error
        assert "does not exist, or is empty" in done.hint
        assert sorted(os.listdir(folder)) == before


@pytest.fixture
def no_writing(unchanged, monkeypatch):
    """The model folder refuses every write, as it does to people who do not own it."""
    real_open, real_mkdir = os.open, os.mkdir

    def ours(path):
        return os.path.abspath(os.fspath(path)).startswith(str(unchanged))

    def opened(path, flags, *rest, **keywords):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and ours(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, flags, *rest, **keywords)

    def made(path, *rest, **keywords):
        if ours(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_mkdir(path, *rest, **keywords)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "mkdir", made)
    return unchanged


@pytest.mark.parametrize(
    "line", [ADD, ("remove-task", "depth", "-y"), ("rename-head", "depth", "d")]
)
def test_no_permission_to_write_the_model(medusa, no_writing, line):
    done = medusa(*line)
    assert done.code == FAILED
    assert "medusa-model" in done.error
    assert "Permission denied" in done.error
    assert "you own the folder" in done.hint


def test_no_permission_to_read_is_not_needed_to_write(medusa, no_writing, photos):
    """What only reads works in a folder that cannot be written."""
    assert medusa("list").code == 0
    assert medusa("verify").code == 0
    assert medusa("eval", *ROOMS, "--limit", "1").code == 0
    assert medusa("predict", photos / "one", "--out", photos.parent / "out").code == 0


@pytest.mark.parametrize("file", ["head.json", "head.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "a folder"])
def test_a_damaged_head_can_be_removed_and_the_others_work_again(medusa, model, file, damage):
    [path] = (model / "heads" / "depth").glob(f"*/{file}")
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:50])
    elif damage == "a folder":
        path.mkdir()
    assert medusa("verify").code == FAILED
    assert medusa("eval", "--tasks", "depth", *ROOMS, "--limit", 1).code == FAILED
    others = medusa("eval", *ROOMS, "--limit", 1, "--json")
    assert (others.code, set(others.document["heads"])) == (0, {"semseg"})
    assert "depth" in others.err
    assert medusa("remove-task", "depth", "--yes").code == 0
    assert medusa("verify").code == 0
    assert medusa("eval", *ROOMS, "--limit", 1).code == 0


def test_verify_tells_of_weights_that_no_reader_accepts(medusa, model):
    """Their hashes are right: they were put there by hand, or by another program."""
    document = json.loads((model / "model.json").read_text())
    folder = model / "heads" / "depth" / document["heads"]["depth"]
    head = json.loads((folder / "head.json").read_text())
    head["sha256"] = sha256(b"no tensors").hexdigest()
    text = json.dumps(head).encode()
    (folder / "head.json").write_bytes(text)
    (folder / "head.safetensors").write_bytes(b"no tensors")
    document["heads"]["depth"] = sha256(text + b"no tensors").hexdigest()[:16]
    folder.rename(folder.with_name(document["heads"]["depth"]))
    (model / "model.json").write_text(json.dumps(document))
    done = medusa("verify", "--json")
    assert done.code == FAILED
    [problem] = done.document["problems"]
    assert "'depth' is not a valid safetensors file" in problem["message"]
    assert done.document["probes"] == {"depth": "not replayed", "semseg": "equal"}


def test_predict_does_not_write_over_the_images_it_reads(medusa, unchanged, photos):
    street, clash = photos / "one" / "street.png", photos / "one" / "street.depth.png"
    shutil.copy(street, clash)
    before = clash.read_bytes()
    done = medusa("predict", photos / "one", "--out", photos / "one", "--tasks", "depth")
    assert done.code == USAGE
    assert "street.depth.png: is one of the images" in done.error
    assert "--out" in done.hint
    assert clash.read_bytes() == before
    assert sorted(path.name for path in clash.parent.iterdir()) == [clash.name, street.name]


def test_a_name_too_long_for_its_results_is_cut(medusa, unchanged, photos, tmp_path):
    shutil.move(photos / "one" / "street.png", photos / "one" / f"{'é' * 120}.png")
    done = medusa("predict", photos / "one", "--out", tmp_path / "out", "--tasks", "depth")
    assert done.code == 0
    [written] = (tmp_path / "out").iterdir()
    assert re.fullmatch(r"é{95}-[0-9a-f]{8}\.depth\.png", written.name)


@pytest.mark.parametrize("draw", ["raises", "talks"])
def test_a_plugin_that_cannot_draw_or_talks_loses_no_head(medusa, model, monkeypatch, draw):
    task = default_host().implementation(default_host().tasks.get("edges"))
    plain = task.render

    def render(self, image, value):
        print("I am drawing!")
        if draw == "raises":
            raise ZeroDivisionError("no ink")
        return plain(self, image, value)

    monkeypatch.setattr(task, "render", render)
    done = medusa(*ADD, "--json")
    assert done.code == 0
    report = done.document["heads"]["edges"]["report"]
    assert (report is None) == (draw == "raises")
    reason = "failed in render of task 'edges': ZeroDivisionError: no ink."
    assert (reason in done.err) == ("No report of edges: Plugin medusa-tasks" in done.err)
    assert (reason in done.err) == (draw == "raises")
    assert "edges" in json.loads((model / "model.json").read_text())["heads"]


def test_a_report_is_not_written_through_a_link(medusa, model, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (model / "reports").mkdir(exist_ok=True)
    (model / "reports" / "edges.png").symlink_to(victim)
    assert medusa(*ADD).code == 0
    assert victim.read_text() == "mine"
    assert not (model / "reports" / "edges.png").is_symlink()


def test_no_permission_to_write_results(medusa, unchanged, photos, tmp_path):
    (tmp_path / "out").write_text("a file where a folder is wanted")
    done = medusa("predict", photos)
    assert done.code in (FAILED, USAGE)
    assert "out" in done.error


def test_a_full_disk_is_noticed_before_features_are_computed(
    medusa, unchanged, monkeypatch, tmp_path
):
    monkeypatch.setenv("MEDUSA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    done = medusa(*ADD)
    assert done.code == FAILED
    assert "are needed, 0.0 MB are free" in done.error
    assert "MEDUSA_CACHE" in done.hint
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("line", [ADD, ("rename-head", "depth", "d")])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_disk_that_is_full_at_the_commit(medusa, unchanged, monkeypatch, line, at):
    real, calls = files.write, []

    def write(path, data):
        if ".work" not in path.parts:
            calls.append(path)
        if len(calls) == at:
            files.temporary(path).write_bytes(data[:10])
            with files.reported("write", path):
                raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data)

    monkeypatch.setattr(files, "write", write)
    done = medusa(*line)
    assert done.code == FAILED
    assert "No space left on device" in done.error
    assert "Free some disk space" in done.hint
    assert ("--resume" in done.hint) == (line is ADD)


@pytest.mark.parametrize("how", [("--replace",), ()])
def test_a_training_whose_name_was_taken_meanwhile_is_not_lost(medusa, model, monkeypatch, how):
    """Somebody gives another head the name while this one trains."""
    line = ["add-task", "edges", *ROOMS, *FAST, *TINY]
    real = head_training.HeadTraining.run

    def run(self, *args):
        outcome = real(self, *args)
        assert main(["--quiet", "rename-head", "depth", "edges"]) == 0
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(head_training.HeadTraining, "run", run)
        done = medusa(*line)
    assert done.code == USAGE
    assert "A head 'edges' exists already" in done.error
    assert "is kept, --resume" in done.hint
    if not how:
        assert medusa("rename-head", "edges", "depth").code == 0
    with monkeypatch.context() as patch:  # nothing is trained again
        patch.setattr(head_training.HeadTraining, "losses", None)
        again = medusa(*line, *how, "--resume", "--json")
    assert again.code == 0, again.err
    assert medusa("verify").code == 0
    assert os.listdir(model / ".work") == []


def test_two_trainings_of_one_name_are_not_begun(medusa, model):
    line = ["add-task", "edges", *ROOMS, *FAST, *TINY]
    with transaction.training(model, "edges", "a head 'edges'"):
        done = medusa(*line)
        assert done.code == FAILED
        assert "is training a head 'edges'" in done.error
        assert medusa("rename-head", "depth", "d").code == 0, "writers are not kept waiting"
    assert medusa(*line).code == 0


def test_a_sample_that_breaks_halfway_is_named_or_skipped(medusa, model, folder):
    """Four of six samples are left: an image cut short and a target with impossible values."""
    image, depth = folder / "image" / "im3.png", folder / "depth" / "im5.npy"
    image.write_bytes(image.read_bytes()[:200])
    np.save(depth, np.full((64, 64), -3.0, np.float32))
    line = add("depth", folder)
    done = medusa(*line)
    assert done.code == FAILED
    assert "im3" in done.error
    assert not (model / "heads" / "own").exists()
    done = medusa(*line, "--on-bad-sample", "skip", "--json")
    assert done.code == 0, done.err
    skipped = done.document["heads"]["own"]["skipped"]
    assert (skipped["count"], set(skipped["samples"])) == (2, {"im3", "im5"})
    assert done.document["heads"]["own"]["images"] == 4
    assert "im3" in done.err
    [record] = (model / "heads" / "own").glob("*/head.json")
    provenance = json.loads(record.read_text())["provenance"]
    assert provenance["skipped"]["count"] == 2
    assert provenance["images"] + provenance["selection_images"] == 4
    assert medusa(*line, "--replace").code == FAILED, "what is cached with skipping is not reused"


def test_a_sample_that_breaks_halfway_can_be_left_out_of_an_evaluation(medusa, model, folder):
    """Scores are those over the other samples, and what was left out is counted."""
    line = ["eval", "-m", model, "--tasks", "depth", "--data", f"folder:{folder}"]
    line += ["--split", "train", "--engine", "plain", "--json"]
    image, depth = folder / "image" / "im3.png", folder / "depth" / "im5.npy"
    ids = (folder / "train.txt").read_text().split()
    (folder / "train.txt").write_text("\n".join(n for n in ids if n not in ("im3", "im5")))
    expected = medusa(*line).document
    (folder / "train.txt").write_text("\n".join(ids))
    image.write_bytes(image.read_bytes()[:200])
    np.save(depth, np.full((64, 64), -3.0, np.float32))
    done = medusa(*line)
    assert done.code == FAILED
    assert "im3" in done.error
    done = medusa(*line, "--on-bad-sample", "skip")
    assert done.code == 0, done.err
    assert done.document["heads"] == expected["heads"]
    assert expected["skipped_samples"] == {"count": 0, "samples": {}}
    skipped = done.document["skipped_samples"]
    assert skipped["count"] == 2
    assert {name.rpartition(": ")[2] for name in skipped["samples"]} == {"im3", "im5"}
    line.remove("--json")
    assert "Skipped: 2 samples" in medusa(*line, "--on-bad-sample", "skip").out
    for path in (folder / "image").iterdir():
        path.write_bytes(b"")
    done = medusa(*line, "--on-bad-sample", "skip")
    assert done.code == FAILED
    assert "no sample of split 'train' can be used" in done.error


def test_a_sample_that_breaks_halfway_can_be_left_out_of_a_joint_training(medusa, tmp_path, folder):
    new = tmp_path / "new"
    assert medusa("init", new, "--backbone", "test_resnet", "--from-scratch").code == 0
    image = folder / "image" / "im3.png"
    image.write_bytes(image.read_bytes()[:200])
    line = ["train-backbone", new, "--tasks", "depth", "--data", f"folder:{folder}"]
    line += ["--head", "linear", "--steps", 1, "--batch", 2, "--size", "64x64"]
    done = medusa(*line)
    assert done.code == FAILED
    assert "im3" in done.error
    planned = medusa(*line, "--on-bad-sample", "skip", "--dry-run", "--json").document
    done = medusa(*line, "--on-bad-sample", "skip", "--json")
    assert done.code == 0, done.err
    for document in (planned, done.document):
        assert document["skipped"]["count"] == 1
        assert set(document["skipped"]["samples"]) == {"im3"}
    provenance = json.loads((new / "model.json").read_text())["backbone"]["provenance"]
    assert provenance["skipped"]["count"] == 1
    assert provenance["images"] + provenance["selection_images"] == 5


def test_a_data_set_without_a_usable_sample_is_not_skipped_over(medusa, unchanged, folder):
    for path in (folder / "image").iterdir():
        path.write_bytes(b"")
    done = medusa(*add("depth", folder), "--on-bad-sample", "skip")
    assert done.code == FAILED
    assert "6 of 6 samples" in done.error


# -- heads and trainings --------------------------------------------------------------------------


def test_a_head_for_another_backbone(medusa, model, tmp_path):
    """Somebody copies a head's folder from one model into another."""
    other = tmp_path / "other"
    init = ["init", other, "--backbone", "test_efficientnet", "--from-scratch", "--seed", 5]
    assert medusa(*init).code == 0
    shutil.copytree(model / "heads" / "depth", other / "heads" / "depth")
    theirs = json.loads((model / "model.json").read_text())
    ours = json.loads((other / "model.json").read_text())
    ours["heads"]["depth"] = theirs["heads"]["depth"]
    (other / "model.json").write_text(json.dumps(ours))
    before = sorted(path.read_bytes() for path in other.rglob("*") if path.is_file())
    for line in ("eval", "predict photos", "verify"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "photos" / "a.png")
        done = medusa(*line.split(), "-m", "other")
        assert done.code == FAILED
        said = done.out + done.err
        for manifest in (ours, theirs):
            assert manifest["backbone"]["fingerprint"][:12] in said
        assert "'depth'" in said
        assert "Traceback" not in said
    assert before == sorted(path.read_bytes() for path in other.rglob("*") if path.is_file())


def test_a_training_that_diverges(medusa, unchanged):
    done = medusa(*ADD, "--lr", "1e30")
    assert done.code == FAILED
    assert "The training diverged at step" in done.error
    assert "lower --lr" in done.hint


def test_a_new_folder_is_made_before_training_and_nothing_else(medusa, tmp_path, monkeypatch):
    """A mistake in the task is found before a folder is made for it."""
    monkeypatch.chdir(tmp_path)
    done = medusa("add-task", "dept")
    assert done.code == USAGE
    assert os.listdir(tmp_path) == []
