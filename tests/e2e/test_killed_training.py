"""SIGKILL in the middle of a training; `--resume` ends with the weights it would have had."""

import os
import shutil
import signal
import sys

import pytest

from medusa_core.cli import main
from medusa_core.engine import head_training, training

from .conftest import FAST, ROOMS, TINY

LINE = ("--quiet", "add-task", "edges", *ROOMS, *FAST, *TINY, "--steps", "9")


def killed(model, at: int, *more: str) -> None:
    """Train in a process of its own, and kill that before step number `at` of it."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            training.SAVE_SECONDS = 0.0
            real, steps = head_training.HeadTraining.losses, []

            def losses(self):
                steps.append(1)
                if len(steps) == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(self)

            head_training.HeadTraining.losses = losses
            main([*LINE, "-m", str(model), *more])
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_training_ends_as_it_would_have(original, tmp_path):
    models = [shutil.copytree(original, tmp_path / name) for name in ("straight", "killed")]
    assert main([*LINE, "-m", str(models[0])]) == 0
    killed(models[1], 3)
    assert not (models[1] / "heads" / "edges").exists()
    killed(models[1], 4, "--resume")
    assert main([*LINE, "-m", str(models[1]), "--resume"]) == 0
    weights = [
        next((model / "heads" / "edges").glob("*/head.safetensors")).read_bytes()
        for model in models
    ]
    assert weights[0] == weights[1]
    assert not (models[1] / ".work" / "edges").exists()
