"""Ctrl-C while a head is trained or cached: nothing is left half done, and `--resume` goes on."""

import os
import shutil
import signal

import pytest

from medusa_core.engine import head_training
from medusa_core.errors import INTERRUPTED, USAGE
from medusa_core.workflows.training.head_plan import DEFAULT_LR

from .conftest import ADD, FAST, ROOMS, TINY


@pytest.mark.parametrize("task", ["edges", "edges,normals"])
def test_an_interrupted_training_can_be_taken_up(medusa, unchanged, monkeypatch, tmp_path, task):
    line = ["add-task", task, *ROOMS, *FAST, *TINY]
    real, calls = head_training.HeadTraining.losses, []

    def pressed(self):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self)

    copy = tmp_path / "straight"
    shutil.copytree(unchanged, copy)
    with monkeypatch.context() as patch:
        patch.setattr(head_training.HeadTraining, "losses", pressed)
        done = medusa(*line)
    assert done.code == INTERRUPTED
    assert done.err.splitlines()[-1] == "Interrupted."
    assert "--resume" in done.err
    assert done.out == ""
    assert os.listdir(unchanged / ".work") == ["edges"]
    assert medusa("verify").code == 0
    assert [head["name"] for head in medusa("list", "--json").document["heads"]] == [
        "depth",
        "semseg",
    ]

    other = medusa(*line, "--resume", "--lr", "0.5")
    assert other.code == USAGE
    assert f"lr: {DEFAULT_LR} → 0.5" in other.error

    continued = tmp_path / "continued"
    shutil.copytree(unchanged, continued)
    resumed = medusa(*line, "--resume", "-m", continued)
    assert resumed.code == 0
    assert "Going on with edges at step 3" in resumed.err
    assert not (continued / ".work" / "edges").exists()
    assert medusa(*line, "-m", copy).code == 0
    weights = [next(m.glob("heads/edges/*/head.safetensors")) for m in (continued, copy)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_several_tasks_are_taken_up_where_they_stopped(medusa, unchanged, monkeypatch):
    line = ["add-task", "edges,normals", *ROOMS, *FAST, *TINY]
    real = head_training.HeadTraining.losses

    def pressed(self):
        if self.task.spec.name == "normals" and self.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(head_training.HeadTraining, "losses", pressed)
        assert medusa(*line).code == INTERRUPTED
    before = next(unchanged.glob("heads/edges/*/head.safetensors")).read_bytes()
    resumed = medusa(*line, "--resume")
    assert resumed.code == 0
    assert "Going on with normals at step 2" in resumed.err
    assert next(unchanged.glob("heads/edges/*/head.safetensors")).read_bytes() == before
    assert next(unchanged.glob("heads/normals/*/head.safetensors")).exists()
    assert medusa("remove-task", "edges,normals", "--yes").code == 0


@pytest.mark.parametrize("answer", ["image", "target"])
def test_an_interrupted_caching_leaves_nothing(medusa, unchanged, monkeypatch, tmp_path, answer):
    monkeypatch.setenv("MEDUSA_CACHE", str(tmp_path / "cache"))
    owner, name = {
        "image": ("medusa_core.engine.cache_pass", "view_image"),
        "target": ("medusa_core.engine.binding.Binding", "viewed"),
    }[answer]

    def pressed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{owner}.{name}", pressed)
    done = medusa(*ADD)
    assert done.code == INTERRUPTED
    assert os.listdir(tmp_path / "cache" / "features") == []
