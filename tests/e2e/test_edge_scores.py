"""Figures too slow for training: left out there, reported by `eval`, whose tolerance can be set."""

import json

import pytest

import medusa_core as medusa_package

from .conftest import FAST, ROOMS, TINY

EVAL = ("eval", "--tasks", "edges", *ROOMS, "--limit", "3")
COSTLY = {"odsf", "oisf", "ap"}


@pytest.fixture
def edges(medusa, model):
    """The model with a head for edges, and what `add-task` reported."""
    done = medusa("add-task", "edges", *ROOMS, *FAST, *TINY, "--json")
    assert done.code == 0
    return done.document["heads"]["edges"]


def test_training_leaves_costly_figures_out(medusa, model, edges):
    assert edges["metrics"].keys() == {"pixel_f"}
    [record] = model.glob("heads/edges/*/head.json")
    assert json.loads(record.read_text())["metrics"].keys() == {"pixel_f"}
    assert medusa("list").code == medusa("verify").code == 0


def test_joint_training_leaves_them_out_too(medusa, tmp_path):
    path = tmp_path / "joint"
    medusa("init", path, "--backbone", "test_efficientnet", "--from-scratch")
    fast = ("--limit", "6", "--size", "64x64", "--steps", "2", "--batch", "2")
    done = medusa("train-backbone", path, "--tasks", "edges,depth", *ROOMS, *fast, *TINY, "--json")
    assert done.code == 0, done.err
    assert done.document["heads"]["edges"].keys() == {"pixel_f"}


def test_eval_reports_and_checks_them(medusa, edges):
    done = medusa(*EVAL, "--json", "--min", "edges.odsf=0")
    assert done.code == 0
    head = done.document["heads"]["edges"]
    assert head["metrics"].keys() == {"pixel_f", *COSTLY}
    assert all(0 <= head["metrics"][name] <= 1 for name in COSTLY)
    assert head["primary"] == "pixel_f"
    assert head["settings"] == {"max_distance": 0.0075}
    assert medusa(*EVAL, "--min", "edges.odsf=1.1").code == 1
    shown = medusa(*EVAL)
    assert all(name in shown.out for name in COSTLY)


def test_the_tolerance_of_one_evaluation(medusa, edges):
    def odsf(*args):
        head = medusa(*EVAL, "--json", *args).document["heads"]["edges"]
        return head["settings"]["max_distance"], head["metrics"]["odsf"]

    usual, exact, wide = (odsf(*args) for args in ((), *_distances(0, 0.2)))
    assert [usual[0], exact[0], wide[0]] == [0.0075, 0, 0.2]
    assert exact[1] < wide[1]
    assert exact[1] <= usual[1] <= wide[1]
    python = medusa_package.evaluate(
        "medusa-model",
        tasks=["edges"],
        data=[ROOMS[1]],
        limit=3,
        settings={"edges": {"max_distance": 0.2}},
    )
    assert python["heads"]["edges"]["metrics"]["odsf"] == wide[1]


@pytest.mark.parametrize(
    ("given", "error", "hint"),
    [
        ("edges.max_distance=2", "max_distance: Input should be less than or equal to 1", ""),
        ("edges.distance=0.1", "distance: Extra inputs are not permitted", "max_distance"),
        ("edge.max_distance=0.1", "Unknown head 'edge'", ""),
        ("max_distance=0.1", "is not HEAD.KEY=VALUE, such as edges.max_distance=0.011", ""),
    ],
)
def test_settings_that_do_not_fit(medusa, edges, given, error, hint):
    done = medusa(*EVAL, "--set", given)
    assert done.code == 2
    assert error in done.error
    assert hint in done.hint


def test_a_task_without_settings_says_so(medusa, model):
    done = medusa("eval", "--tasks", "depth", *ROOMS, "--limit", "1", "--set", "depth.far=1")
    assert done.code == 2
    assert done.error == "Task 'depth' has no settings."


def _distances(*values):
    return [("--set", f"edges.max_distance={value}") for value in values]
