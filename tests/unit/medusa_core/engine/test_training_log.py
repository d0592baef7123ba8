import builtins
import json
import sys
from types import ModuleType

import pytest

from medusa_core.engine.training_log import (
    JsonLines,
    TensorBoard,
    TrainingLog,
    json_lines,
    scalars,
)
from medusa_core.errors import UsageError
from medusa_core.progress import SilentProgress

STEP = {
    "event": "step",
    "step": 3,
    "seconds": 0.5,
    "loss": 0.25,
    "losses": {"depth": float("nan"), "edges": 0.125},
    "lr": 1e-3,
    "weights": {"depth": 1.0, "edges": 50.0},
}
EVALUATION = {**STEP, "event": "evaluation", "figures": {"depth.rmse": 0.5}, "best": True}


class Messages(SilentProgress):
    def __init__(self):
        self.said = []

    def message(self, text):
        self.said.append(text)


def test_a_record_is_one_line_of_json():
    first, second = json_lines([STEP, EVALUATION]).decode().splitlines()
    assert json.loads(first) == {**STEP, "losses": {"depth": None, "edges": 0.125}}
    assert json.loads(second)["figures"] == {"depth.rmse": 0.5}


def test_a_log_that_is_resumed_repeats_nothing(tmp_path):
    """Whatever lies there: lines past the state that was resumed, half a line, another log."""
    path = tmp_path / "run" / "log.jsonl"
    log = JsonLines(path)
    log.start([])
    log.write(STEP)
    log.write({**STEP, "step": 9})
    path.write_bytes(path.read_bytes() + b'{"half": ')
    log.start([STEP])
    log.write({**STEP, "step": 4})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [3, 4]


def test_a_log_is_not_written_through_a_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "log.jsonl").symlink_to(victim)
    JsonLines(tmp_path / "log.jsonl").start([STEP])
    assert victim.read_text() == "mine"


def test_a_sink_that_fails_is_dropped_with_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    good, progress = JsonLines(tmp_path / "log.jsonl"), Messages()
    log = TrainingLog([JsonLines(tmp_path / "file" / "log.jsonl"), good], progress)
    log.start([])
    log.write(STEP)
    log.write(STEP)
    log.close()
    [said] = progress.said
    assert str(tmp_path / "file" / "log.jsonl") in said
    assert len(good.path.read_text().splitlines()) == 2


def test_scalars_are_the_finite_figures():
    assert scalars(STEP) == {
        "train/loss": 0.25,
        "train/lr": 1e-3,
        "train/loss.edges": 0.125,
        "train/weight.depth": 1.0,
        "train/weight.edges": 50.0,
    }
    assert scalars(EVALUATION) == {"selection/depth.rmse": 0.5}


def test_tensorboard_gets_every_record(tmp_path, monkeypatch):
    calls = []

    class Writer:
        def __init__(self, folder, purge_step):
            calls.append((folder, purge_step))

        def add_scalar(self, tag, value, step):
            calls.append((tag, value, step))

        def close(self):
            calls.append("closed")

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    board = TensorBoard(tmp_path)
    board.start([STEP])
    board.write(EVALUATION)
    board.close()
    assert calls == [(str(tmp_path), 4), ("selection/depth.rmse", 0.5, 3), "closed"]


def test_without_tensorboard_the_hint_is_the_pip_line(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError("No module named 'tensorboard'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UsageError, match="No module named 'tensorboard'") as caught:
        TensorBoard(tmp_path)
    assert caught.value.hint == "pip install 'medusa-heads[log]'"
