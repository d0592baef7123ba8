"""`--resume` after interruptions at odd moments, and of trainings that changed their settings."""

import copy
import os
import shutil
import signal

import pytest

from medusa_core.engine import head_training, training
from medusa_core.errors import INTERRUPTED, USAGE
from medusa_core.workflows.training import finishing

from .conftest import ADD, FAST, ROOMS, TINY


@pytest.fixture
def press_ctrl_c(monkeypatch):
    """Replaces an attribute by one that presses Ctrl-C in its `call`-th call."""

    def press(owner, name, call):
        real, calls = getattr(owner, name), []

        def pressed(*args, **kwargs):
            calls.append(1)
            if len(calls) == call:
                os.kill(os.getpid(), signal.SIGINT)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, pressed)

    return press


@pytest.mark.parametrize("steps", [1, 4])
def test_ctrl_c_between_an_evaluation_and_its_weights(medusa, model, tmp_path, monkeypatch, steps):
    """The best weights are put down together with the figures that make them the best."""
    line = [*ADD, "--steps", str(steps)]
    straight = tmp_path / "straight"
    shutil.copytree(model, straight)
    assert medusa(*line, "-m", straight).code == 0

    class Copying:
        @staticmethod
        def deepcopy(value):
            os.kill(os.getpid(), signal.SIGINT)
            return copy.deepcopy(value)

    with monkeypatch.context() as patch:
        patch.setattr(training, "copy", Copying)
        assert medusa(*line).code == INTERRUPTED
    assert medusa(*line, "--resume").code == 0
    weights = [next(m.glob("heads/edges/*/head.safetensors")) for m in (model, straight)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ((signal.SIGINT,), 130),
        ((signal.SIGTERM,), 143),
        ((signal.SIGTERM, signal.SIGTERM), 143),
        ((signal.SIGTERM, signal.SIGINT), 143),
    ],
)
def test_what_ends_a_training_gently_keeps_its_steps(medusa, model, monkeypatch, sent, code):
    """Schedulers send SIGTERM, some of them to all processes, which pass it on."""
    real, steps = head_training.HeadTraining.losses, []

    def losses(self):
        steps.append(self.step)
        if len(steps) == 3:
            for number in sent:
                os.kill(os.getpid(), number)
        return real(self)

    monkeypatch.setattr(head_training.HeadTraining, "losses", losses)
    line = [*ADD, "--steps", "6"]
    before = signal.getsignal(signal.SIGTERM)
    done = medusa(*line)
    assert done.code == code
    assert "--resume" in done.err
    assert medusa(*line, "--resume").code == 0
    assert steps == [0, 1, 2, *range(steps[3], 6)]
    assert steps[3] >= 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_after_a_training_that_was_to_replace_a_head(medusa, unchanged, press_ctrl_c):
    """Nothing is said of a replacement that was not made, and how to have it is."""
    line = ["add-task", "depth", "--replace", *ROOMS, *FAST, *TINY]
    press_ctrl_c(finishing, "new_head", 1)
    done = medusa(*line)
    assert done.code == INTERRUPTED
    assert "The finished training of depth is kept: add --resume" in done.err
    assert "before, each on what" not in done.err
    both = ["add-task", "depth,semseg", *ROOMS, *FAST, *TINY, "--resume"]
    told = medusa(*both).err
    assert "depth is in the model already and stays as it is; an unfinished training" in told
    assert "semseg is in the model already and stays as it is.\n" in told


def test_a_batch_that_was_made_smaller_stays_so(medusa, model, monkeypatch, press_ctrl_c):
    line = ["add-task", "edges", *ROOMS, *FAST[:6], "--batch", "auto", *TINY]
    short = short_of_memory(head_training.HeadTraining.losses)
    monkeypatch.setattr(head_training.HeadTraining, "losses", short)
    with monkeypatch.context():
        press_ctrl_c(head_training.HeadTraining, "losses", 5)  # 8, 4, then the third of 2
        assert medusa(*line).code == INTERRUPTED
    done = medusa(*line, "--resume", "--json")
    assert done.code == 0, done.err
    assert done.document["heads"]["edges"]["batch"] == 2
    assert "Going on with edges at step" in done.err


def test_a_batch_that_does_not_fit_any_more_becomes_smaller(
    medusa, model, monkeypatch, press_ctrl_c
):
    """On a machine with less memory, say; the training of the larger one is given up."""
    line = ["add-task", "edges", *ROOMS, *FAST[:6], "--batch", "auto", *TINY]
    short = short_of_memory(head_training.HeadTraining.losses)
    press_ctrl_c(head_training.HeadTraining, "losses", 3)
    assert medusa(*line).code == INTERRUPTED
    monkeypatch.setattr(head_training.HeadTraining, "losses", short)
    done = medusa(*line, "--resume", "--json")
    assert done.code == 0, done.err
    assert done.document["heads"]["edges"]["batch"] == 2
    assert "is given up" in done.err


def short_of_memory(losses):
    """Batches of 2 fit."""

    def short(self):
        if self.settings.batch > 2:
            raise MemoryError
        return losses(self)

    return short


def test_another_version_of_a_plugin_goes_on_with_no_training(
    medusa, model, monkeypatch, press_ctrl_c
):
    """Its loss may be another one, and the record of the head would name it alone."""
    press_ctrl_c(head_training.HeadTraining, "losses", 3)
    assert medusa(*ADD).code == INTERRUPTED
    with monkeypatch.context() as patch:
        patch.setattr(finishing, "plugins", lambda *_: ["medusa-heads 99"] * 2)
        done = medusa(*ADD, "--resume")
        assert done.code == USAGE
        assert "Cannot resume with other settings" in done.error
        assert "medusa-heads 99" in done.error
    assert medusa(*ADD, "--resume").code == 0


def test_estimates_do_not_promise_to_be_resumed(medusa, model, press_ctrl_c):
    press_ctrl_c(head_training.HeadTraining, "losses", 2)
    done = medusa("estimate", "edges", *ROOMS, "--limit", "8", "--size", "64x64", *TINY)
    assert done.code == INTERRUPTED
    assert "--resume" not in done.err
