"""`medusa train-backbone` from the outside."""

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medusa_core.engine.joint_training import JointTraining
from medusa_core.errors import FAILED, INTERRUPTED, USAGE
from medusa_core.store import transaction
from medusa_core.store.layout import JOINT

from .conftest import ROOMS, TINY

FAST = ("--limit", "8", "--size", "64x64", "--steps", "6", "--batch", "2")
TRAIN = ("train-backbone", "joint", "--tasks", "depth,semseg", *FAST, *TINY)


@pytest.fixture
def joint(medusa, tmp_path, monkeypatch):
    """A model folder without heads."""
    monkeypatch.chdir(tmp_path)
    init = ("init", "joint", "--backbone", "test_efficientnet", "--from-scratch")
    assert medusa(*init).code == 0
    return tmp_path / "joint"


def content(model):
    """Every file but resume state."""
    return {
        str(path.relative_to(model)): path.read_bytes()
        for path in model.rglob("*")
        if path.is_file() and ".work" not in path.parts
    }


def heads_of(model):
    return {p.parts[-3]: p.read_bytes() for p in model.glob("heads/*/*/head.safetensors")}


def press_ctrl_c(monkeypatch, step):
    real = JointTraining.losses

    def losses(self):
        if self.step == step - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self)

    monkeypatch.setattr(JointTraining, "losses", losses)


def diverge(monkeypatch, step, task):
    real = JointTraining.losses

    def losses(self):
        found = real(self)
        bad = self.step == step - 1 and self.settings.lr > 5e-4
        return {**found, task: found[task] * float("nan")} if bad else found

    monkeypatch.setattr(JointTraining, "losses", losses)


def test_what_a_joint_training_leaves(medusa, joint):
    done = medusa(*TRAIN, *ROOMS, "--set", "head.deep_supervision=0.25", "--json")
    assert done.code == 0
    assert sorted(os.listdir(joint / "reports")) == ["train-backbone.jsonl", "train-backbone.png"]
    with Image.open(done.document["report"]) as picture:
        assert picture.width > 800
    lines = [json.loads(line) for line in Path(done.document["log"]).read_text().splitlines()]
    assert [r["step"] for r in lines if r["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["event"] == "evaluation"
    record = json.loads((joint / "model.json").read_text())
    provenance = record["backbone"]["provenance"]
    assert provenance["precision"] == "fp32"
    assert provenance["balance"] == {"method": "fixed", "weights": {"depth": 1.0, "semseg": 1.0}}
    assert "unfolded_norms" not in provenance
    for name, revision in record["heads"].items():
        head = json.loads((joint / "heads" / name / revision / "head.json").read_text())
        assert head["head"]["config"]["deep_supervision"] == 0.25
        last = [r for r in lines if r["event"] == "evaluation"][-1]
        curve = head["provenance"]["curve"][-1]
        assert curve["loss"] == pytest.approx(last["losses"][name], rel=1e-4)
    assert not (joint / ".work" / "backbone").exists()
    assert medusa("verify", "-m", joint).code == 0


def test_a_dry_run_checks_all_and_changes_nothing(medusa, joint):
    before = content(joint)
    done = medusa(*TRAIN, *ROOMS, "--dry-run", "--json")
    assert done.code == 0
    plan = done.document
    assert (plan["images"] + plan["selection_images"], plan["steps"]) == (8, 6)
    assert plan["heads"]["semseg"]["classes"] > 1
    assert plan["heads"]["depth"]["gmacs"] > 0
    assert plan["backbone"]["params"] > 0
    shown = medusa(*TRAIN, *ROOMS, "--dry-run")
    assert "Would train test_efficientnet on 7 images at 64×64 for 6 steps of 2" in shown.out
    assert medusa(*TRAIN, "--dry-run", "--data", "folder:nowhere").code == FAILED
    assert content(joint) == before
    assert not (joint / ".work").exists()


@pytest.mark.parametrize("balance", ["uncertainty", "dwa"])
def test_balance_and_precision_are_recorded(medusa, joint, balance):
    args = ("--balance", balance, "--precision", "bf16")
    done = medusa(*TRAIN, *ROOMS, *args, "--json")
    assert done.code == 0
    provenance = json.loads((joint / "model.json").read_text())["backbone"]["provenance"]
    assert provenance["precision"] == done.document["precision"] == "bf16"
    assert provenance["balance"] == done.document["balance"]
    assert provenance["balance"]["method"] == balance


def test_an_interrupted_training_leaves_the_folder_and_can_be_taken_up(
    medusa, joint, monkeypatch, tmp_path
):
    shutil.copytree(joint, tmp_path / "straight")
    before = content(joint)
    with monkeypatch.context() as patch:
        press_ctrl_c(patch, 4)
        assert medusa(*TRAIN, *ROOMS).code == INTERRUPTED
    assert content(joint) == before

    other = medusa(*TRAIN, *ROOMS, "--resume", "--balance", "dwa", "--lr", "0.5")
    assert other.code == USAGE
    assert "balance: fixed → dwa; lr: 0.001 → 0.5." in other.error

    done = medusa(*TRAIN, *ROOMS, "--resume", "--json")
    assert done.code == 0
    assert "Going on with the backbone at step 4" in done.err
    straight = tmp_path / "straight"
    assert medusa(TRAIN[0], straight, *TRAIN[2:], *ROOMS).code == 0
    assert heads_of(joint) == heads_of(straight)
    files = [m / "backbone.safetensors" for m in (joint, straight)]
    assert files[0].read_bytes() == files[1].read_bytes()
    logs = [
        (m / "reports/train-backbone.jsonl").read_text().splitlines() for m in (joint, straight)
    ]
    steps = [[json.loads(line)["step"] for line in log] for log in logs]
    assert steps[0] == steps[1]


def test_no_head_is_in_the_way_of_an_unfinished_joint_training(medusa, joint, monkeypatch):
    """Whatever it is called: heads go by their names, where trainings are kept."""
    with monkeypatch.context() as patch:
        press_ctrl_c(patch, 3)
        assert medusa(*TRAIN).code == INTERRUPTED
    before = {p: p.read_bytes() for p in (joint / ".work").rglob("*") if p.is_file()}
    assert before
    for name in ("backbone", "joint", "train_backbone"):
        done = medusa("add-task", "edges", "-m", joint, "--name", name, *ROOMS, *FAST, *TINY)
        assert done.code == 0, done.err
    assert before == {p: p.read_bytes() for p in (joint / ".work").rglob("*") if p.is_file()}
    for name in ("backbone", "joint", "train_backbone"):
        assert medusa("remove-task", name, "-m", joint, "--yes").code == 0
    assert medusa(*TRAIN, "--resume").code == 0


def test_two_joint_trainings_of_one_folder_are_not_begun(medusa, joint):
    before = content(joint)
    with transaction.training(joint, JOINT):
        done = medusa(*TRAIN)
        assert done.code == FAILED
        assert "is training the backbone of" in done.error
    assert content(joint) == before
    assert medusa(*TRAIN).code == 0


def test_a_diverged_training_leaves_the_folder_and_goes_on_with_a_lower_rate(
    medusa, joint, monkeypatch
):
    before = content(joint)
    diverge(monkeypatch, 5, "semseg")
    done = medusa(*TRAIN, *ROOMS)
    assert done.code == FAILED
    assert done.error == "The training diverged at step 5: the loss of semseg is nan."
    assert re.search(r"The state of step [1-4], the best so far, is kept", done.hint)
    assert content(joint) == before
    again = medusa(*TRAIN, *ROOMS, "--resume")
    assert again.code == USAGE
    assert "diverged at step 5 with --lr 0.001: the loss of semseg is nan" in again.error
    assert medusa(*TRAIN, *ROOMS, "--resume", "--lr", "0.0003", "--json").code == 0
    provenance = json.loads((joint / "model.json").read_text())["backbone"]["provenance"]
    [restart] = provenance["restarts"]
    assert restart["lr"] == 0.0003


def test_a_log_that_cannot_be_written_costs_nothing(medusa, joint):
    (joint / ".work" / JOINT / "log.jsonl").mkdir(parents=True)
    (joint / "reports").write_text("a file")
    done = medusa(*TRAIN, *ROOMS, "--json")
    assert done.code == 0
    assert done.err.count("No log any more") == 1
    assert done.document["report"] is None
    assert done.document["log"] is None


def test_a_picture_that_cannot_be_drawn_costs_nothing(medusa, joint, monkeypatch):
    def fails(*_):
        raise ZeroDivisionError("no room to draw in")

    monkeypatch.setattr("medusa_core.workflows.train_backbone.joint_report", fails)
    done = medusa(*TRAIN, *ROOMS, "--json")
    assert done.code == 0, done.err
    assert done.document["report"] is None
    assert "No report of the backbone: ZeroDivisionError: no room to draw in" in done.err
    assert set(heads_of(joint)) == {"depth", "semseg"}


@pytest.fixture
def streets(tmp_path):
    """A second data set of one's own: classes only, and other ones."""
    root, noise = tmp_path / "streets", np.random.RandomState(2)
    for part in ("image", "semseg"):
        (root / part).mkdir(parents=True)
    for i in range(5):
        pixels = noise.randint(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "image" / f"im{i}.png")
        classes = noise.randint(0, 3, (64, 64), dtype=np.uint8)
        Image.fromarray(classes).save(root / "semseg" / f"im{i}.png")
    labels = ["road", "car", "tree"]
    target = {"encoding": "index", "path": "semseg/{id}.png", "labels": labels}
    description = {
        "schema_version": 1,
        "name": "streets",
        "image": "image/{id}.png",
        "splits": {"train": "train.txt"},
        "targets": {"semseg": target},
    }
    (root / "dataset.json").write_text(json.dumps(description))
    (root / "train.txt").write_text("\n".join(f"im{i}" for i in range(5)))
    return root


def test_every_task_reads_its_own_data(medusa, joint, folder, streets):
    args = ("--data", f"depth=folder:{folder}", "--data", f"semseg=folder:{streets}")
    line = ("train-backbone", "joint", "--tasks", "depth,semseg", *FAST[2:], *TINY, *args)
    plan = medusa(*line, "--dry-run", "--json").document
    assert plan["heads"]["semseg"]["classes"] == 3  # those of streets
    assert plan["images"] + plan["selection_images"] == 11
    assert plan["selection_images"] >= 2  # one of each data set
    done = medusa(*line, "--json")
    assert done.code == 0
    assert all(value is not None for value in done.document["heads"]["depth"].values())
    record = json.loads((joint / "model.json").read_text())
    heads = {
        name: json.loads((joint / "heads" / name / revision / "head.json").read_text())
        for name, revision in record["heads"].items()
    }
    assert heads["semseg"]["labels"]["names"] == ["road", "car", "tree"]
    images = {"depth": 6, "semseg": 5}
    for name, data in zip(("depth", "semseg"), args[1::2], strict=True):
        assert f"{images[name]} of 11 images" in done.err
        own = heads[name]["provenance"]
        assert own["data"] == [data]
        assert own["images"] + own["selection_images"] == images[name]
    whole = record["backbone"]["provenance"]
    assert whole["data"] == [*args[1::2]]
    assert whole["images"] + whole["selection_images"] == 11


def test_a_folder_spelt_in_two_ways_is_one_data_set(medusa, joint, folder):
    spelt = f"{folder.parent}/./{folder.name}/"
    data = ("--data", f"depth=folder:{folder}", "--data", f"semseg=folder:{spelt}")
    line = ("train-backbone", "joint", "--tasks", "depth,semseg", *FAST[2:], *TINY, *data)
    plan = medusa(*line, "--dry-run", "--json").document
    assert plan["images"] + plan["selection_images"] == 6


def test_data_that_does_not_fit_is_refused(medusa, joint, folder, streets):
    def refused(*data, tasks="depth,semseg"):
        line = ["train-backbone", "joint", "--tasks", tasks, *FAST, *TINY]
        done = medusa(*line, *(part for ref in data for part in ("--data", ref)))
        assert done.code in (FAILED, USAGE)
        assert not (joint / ".work").exists()
        return done

    own, other = f"folder:{folder}", f"folder:{streets}"
    classes = refused(own, other)
    assert "2 classes against 3; only in the first: sky; only in the second: car" in classes.error
    assert "--data TASK=NAME:PATH" in classes.hint
    assert "no target 'depth'" in refused(other).error
    assert "no target 'depth'" in refused(own, f"depth={other}").error
    assert "streets: no target of depth is read" in refused(own, other, tasks="depth").error
    assert "every --data is bound" in refused(f"depth={own}").error
    assert "Unknown task or head 'normals'" in refused(own, f"normals={other}").error


def test_classes_beyond_those_declared_are_refused(medusa, joint, folder):
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(folder / "semseg" / "im3.png")
    before = content(joint)
    done = medusa(*TRAIN, "--data", f"folder:{folder}")
    assert done.code == FAILED
    assert "im3.png: label 7 is outside the schema: 2 classes" in done.error
    assert content(joint) == before


def test_options_this_machine_cannot_do_are_refused_at_once(medusa, joint, monkeypatch, tmp_path):
    fp16 = medusa(*TRAIN, *ROOMS, "--precision", "fp16", "--device", "cpu")
    assert fp16.code == USAGE
    assert "fp16 on cpu" in fp16.error
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    board = medusa(*TRAIN, *ROOMS, "--tensorboard", tmp_path / "board")
    assert board.code == USAGE
    assert board.hint == "pip install 'medusa-heads[log]'"
    assert not (joint / ".work").exists()


def test_the_log_for_tensorboard(medusa, joint, tmp_path):
    pytest.importorskip("tensorboard")
    assert medusa(*TRAIN, *ROOMS, "--tensorboard", tmp_path / "board").code == 0
    assert list((tmp_path / "board" / JOINT).glob("events.out.tfevents.*"))
