"""A plugin that fails while it is used: its name is told, and only its own head is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ROOMS, SHORT, Medusa

IN_TRAINING = {
    "task": "task 'brightness': ZeroDivisionError: division by zero",
    "task:bare": "task 'brightness': AttributeError: 'Brightness' object has no attribute 'spec'",
    "task:none": "task 'brightness': TypeError: MODULE:make_task is not a Task",
    "head": "head architecture 'fragile': ZeroDivisionError: division by zero",
    "head:none": "head architecture 'fragile': TypeError: MODULE:make_head gave NoneType, not a "
    "Head",
    "forward": "forward of Fragile: ZeroDivisionError: division by zero",
    "forward:none": "training_outputs of Fragile: TypeError: it returned NoneType, not "
    "(2, 1, h, w)",
    "forward:flat": "training_outputs of Fragile: TypeError: it returned a Tensor of shape (2, 1) "
    "and type torch.float32, not (2, 1, h, w)",
    "forward:empty": "training_outputs of Fragile: TypeError: it returned a Tensor of shape "
    "(2, 1, 2, 0) and type torch.float32, not (2, 1, h, w)",
    "forward:wide": "training_outputs of Fragile: TypeError: it returned a Tensor of shape "
    "(2, 2, 2, 2) and type torch.float32, not (2, 1, h, w)",
    "data": "data set 'noise': ZeroDivisionError: division by zero",
    "data:none": "data set 'noise': AttributeError: 'NoneType' object has no attribute 'name'",
    "load": "data set 'noise': ZeroDivisionError: division by zero",
    "load:none": "data set 'noise': TypeError: load returned NoneType, not a Sample",
    "load:exit": "data set 'noise': SystemExit: enough",
    "encode_target": "encode_target of task 'brightness': ZeroDivisionError: division by zero",
    "encode_target:none": "encode_target of task 'brightness': TypeError: it returned NoneType, "
    "not an array",
    "loss": "loss of task 'brightness': ZeroDivisionError: division by zero",
    "loss:none": "loss of task 'brightness': TypeError: it returned NoneType, not a dict of named "
    "terms",
    "loss:detached": "loss of task 'brightness': TypeError: its terms have no gradient by the "
    "prediction",
    "loss:exit": "loss of task 'brightness': SystemExit: enough",
    "new_metrics:none": "new_metrics of task 'brightness': TypeError: 'NoneType' object is not "
    "iterable",
    "statistics": "metric MeanError of task 'brightness': ZeroDivisionError: division by zero",
    "statistics:array": "metric MeanError of task 'brightness': TypeError: statistics returned a "
    "ndarray of shape (1, 2) and type float64 for 1 images",
    "statistics:none": "metric MeanError of task 'brightness': TypeError: statistics returned "
    "NoneType for 1 images",
    "compute": "metric MeanError of task 'brightness': ZeroDivisionError: division by zero",
    "decode:array": "decode of task 'brightness': TypeError: it returned a ndarray of shape "
    "(1, 32, 32) and type float32 for a Tensor of shape (1, 1, 32, 32) and type torch.float32",
    "decode": "decode of task 'brightness': ZeroDivisionError: division by zero",
}
"""Where and how → what the error says after "failed in"."""


@pytest.fixture
def fragile(install_plugin: Callable[..., str], model: Path) -> Path:
    install_plugin("fails_in_use")
    return model


def add(model: Path) -> tuple[object, ...]:
    options = ("-m", model, "--head", "fragile", "--data", "noise", *SHORT)
    return ("add-task", "brightness", *options)


def module_of(text: str) -> str:
    return text.replace("MODULE", "medusa_fails_in_use_medusa_fails_in_use_plugin")


@pytest.mark.parametrize("fail", sorted(IN_TRAINING))
def test_what_fails_in_training_names_its_plugin_and_leaves_the_model(
    fail: str, medusa: Medusa, fragile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", fail)
    before = (fragile / "model.json").read_bytes()
    code, error = medusa.error(*add(fragile))
    wanted = module_of(IN_TRAINING[fail])
    assert (code, error) == (3, f"Plugin medusa-fails-in-use 1.0 failed in {wanted}.")
    assert (fragile / "model.json").read_bytes() == before
    assert medusa("eval", "--tasks", "depth", "-m", fragile, *ROOMS)[0] == 0


def test_what_a_task_prints_stays_off_stdout(
    medusa: Medusa, fragile: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "chat")
    for command, places in (
        (add(fragile), ("data", "load", "head", "encode_target", "forward", "loss", "statistics")),
        (("eval", "-m", fragile, "--data", "noise"), ("decode", "statistics", "compute")),
        (("predict", photo, "-m", fragile), ("decode", "render")),
        (("verify", "-m", fragile), ("task", "head")),
    ):
        _, told = medusa.json(*command)
        assert {f"this is {place}" for place in places} <= set(told)


@pytest.mark.parametrize(
    ("fail", "said"),
    [
        (
            "costly",
            "Task 'brightness' of medusa-fails-in-use 1.0 has the primary metric 'mae', which is "
            "marked as costly: trainings leave it out, and could not choose weights by it.",
        ),
        (
            "figure",
            "Task 'brightness' of medusa-fails-in-use 1.0 declares mae; no metric of it gives "
            "that.",
        ),
    ],
)
def test_metrics_that_do_not_fit_the_task_are_refused_before_any_work(
    fail: str, said: str, medusa: Medusa, fragile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", fail)
    assert medusa.error(*add(fragile), "--dry-run") == (3, said)


def test_one_task_that_is_refused_is_in_no_others_way(
    medusa: Medusa, fragile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "statistics")
    line = ("add-task", "brightness,edges", "-m", fragile, *ROOMS, *SHORT)
    assert medusa("remove-task", "normals", "-m", fragile, "--yes")[0] == 0
    code, _, told = medusa(*line)
    assert code != 0
    assert "brightness: Plugin medusa-fails-in-use 1.0 failed in metric MeanError" in told
    names = {head["name"] for head in medusa.json("list", "-m", fragile)[0]["heads"]}
    assert names == {"depth", "edges"}


def test_a_head_that_says_nothing_but_nan_is_not_added(
    medusa: Medusa, fragile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does whose evaluation mode divides by zero."""
    monkeypatch.setenv("FAIL", "probe")
    code, error = medusa.error(*add(fragile))
    assert code == 1
    assert "fragile head of task 'brightness' says NaN or infinity" in error
    assert "brightness" not in {h["name"] for h in medusa.json("list", "-m", fragile)[0]["heads"]}


def test_defaults_of_a_task_that_do_not_fit_are_its_plugins_fault(
    install_plugin: Callable[..., str],
    medusa: Medusa,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAIL", "default")
    install_plugin("fails_in_use")
    line = ("add-task", "brightness", "-m", model, *ROOMS, *SHORT, "--dry-run")
    code, error = medusa.error(*line)
    assert code == 3
    assert error.startswith("Plugin medusa-fails-in-use 1.0: default_head of task 'brightness': ")
    asked = medusa.error(*line, "--set", "head.depth=3")
    assert asked[0] == 2, "what the user asks for is the user's"


def test_what_fails_in_use_names_its_plugin_and_costs_its_own_head_only(
    medusa: Medusa, fragile: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert medusa(*add(fragile))[0] == 0
    predict, evaluate = ("predict", photo, "-m", fragile), ("eval", "-m", fragile)
    assert medusa(*predict)[0] == 0
    picture = (tmp_path / "out" / "photo.depth.png").read_bytes()
    for fail, where, command in (
        ("forward", "forward of Fragile", (*predict, "--tasks", "brightness")),
        ("decode", "decode of task 'brightness'", (*predict, "--tasks", "brightness")),
        ("render", "render of task 'brightness'", (*predict, "--tasks", "brightness")),
        ("decode", "decode of task 'brightness'", (*evaluate, "--data", "noise")),
        ("statistics", "metric MeanError of task 'brightness'", (*evaluate, "--data", "noise")),
        ("encode_target", "encode_target of task 'brightness'", (*evaluate, "--data", "noise")),
    ):
        monkeypatch.setenv("FAIL", fail)
        assert medusa.error(*command) == (
            3,
            f"Plugin medusa-fails-in-use 1.0 failed in {where}: ZeroDivisionError: division by "
            "zero.",
        )
        document, told = medusa.json(*predict, "--tasks", "depth,normals")
        assert (document["ok"], told) == (True, [])
        assert (tmp_path / "out" / "photo.depth.png").read_bytes() == picture
    for fail in ("task", "head"):
        monkeypatch.setenv("FAIL", fail)
        document, told = medusa.json(*predict)
        assert len(told) == 1
        assert "Head 'brightness' cannot be built from what is installed" in told[0]
        assert [entry["head"] for entry in document["images"][0]["results"]] == ["depth", "normals"]
