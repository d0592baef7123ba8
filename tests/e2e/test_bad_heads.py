"""Heads that are damaged or of another backbone, and trainings that fail or lose their name."""

import json
import os
import shutil
from hashlib import sha256

import pytest
from PIL import Image

from medusa_core.cli import main
from medusa_core.engine import head_training
from medusa_core.errors import FAILED, USAGE
from medusa_core.plugin_host import default_host

from .conftest import ADD, FAST, ROOMS, TINY


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
    assert set(others.document["unusable"]) == {"depth"}
    asked = medusa("eval", "--min", "depth.rmse=9", *ROOMS, "--limit", 1)
    assert (asked.code, "depth" in asked.error) == (FAILED, True)
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


def test_a_training_that_diverges(medusa, unchanged):
    done = medusa(*ADD, "--lr", "1e30")
    assert done.code == FAILED
    assert "The training diverged at step" in done.error
    assert "lower --lr" in done.hint


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
