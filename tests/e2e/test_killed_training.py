"""SIGKILL in the middle of a training; `--resume` ends with the weights it would have had."""

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from medusa_core.cli import main
from medusa_core.engine import training
from medusa_core.engine.head_training import HeadTraining
from medusa_core.engine.joint_training import JointTraining
from medusa_core.workflows.init import init

from .conftest import FAST, ROOMS, TINY

HEAD = ("--quiet", "add-task", "edges", *ROOMS, *FAST, *TINY, "--steps", "9")
JOINT = ("--quiet", "train-backbone", "--tasks", "depth,edges", *ROOMS, *TINY, "--steps", "9")
JOINT += ("--balance", "uncertainty", "--limit", "6", "--batch", "2", "--size", "32x32")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def killed(kind: type[training.Training], at: int, *line: object) -> None:
    """Train in a process of its own, and kill that before step number `at` of it."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            training.SAVE_SECONDS = 0.0
            real, steps = kind.losses, []

            def losses(self):
                steps.append(1)
                if len(steps) == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(self)

            kind.losses = losses
            main([str(part) for part in line])
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def weights(model: Path) -> dict[str, bytes]:
    """Content of all weights of a model folder, of whichever revision."""
    files = model.rglob("*.safetensors")
    return {f.parent.parent.name if f.parent != model else "": f.read_bytes() for f in files}


def test_a_killed_training_ends_as_it_would_have(original, tmp_path):
    models = [shutil.copytree(original, tmp_path / name) for name in ("straight", "killed")]
    assert main([*HEAD, "-m", str(models[0])]) == 0
    killed(HeadTraining, 3, *HEAD, "-m", models[1])
    assert not (models[1] / "heads" / "edges").exists()
    killed(HeadTraining, 4, *HEAD, "-m", models[1], "--resume")
    assert main([*HEAD, "-m", str(models[1]), "--resume"]) == 0
    assert "edges" in weights(models[0])
    assert weights(models[0]) == weights(models[1])
    assert not (models[1] / ".work" / "edges").exists()


@pytest.mark.slow
def test_a_killed_joint_training_ends_as_it_would_have(tmp_path):
    models = [tmp_path / name for name in ("straight", "killed")]
    for model in models:
        init(model, backbone="test_resnet", from_scratch=True)
    before = weights(models[0])
    assert main([*JOINT, str(models[0])]) == 0
    killed(JointTraining, 3, *JOINT, models[1])
    assert weights(models[1])[""] == before[""], "the folder changes with the commit alone"
    killed(JointTraining, 4, *JOINT, models[1], "--resume")
    assert main([*JOINT, str(models[1]), "--resume"]) == 0
    assert set(weights(models[0])) == {"", "depth", "edges"}
    assert weights(models[0]) == weights(models[1])
    assert weights(models[0])[""] != before[""]
    assert not (models[1] / ".work").exists()
