"""`medusa eval` with several heads of one task: how far they differ."""

import pytest

from .conftest import FAST, ROOMS

ADD = ("add-task", *FAST, *ROOMS)
EVAL = ("eval", *ROOMS, "--limit", "3")


@pytest.fixture
def several(medusa, model):
    """The model with a second head of depth, and a third."""
    for head in ("linear", "constant"):
        assert medusa(*ADD, "depth", "--head", head, "--name", f"depth_{head}").code == 0
    return model


def test_later_heads_are_compared_with_the_first(medusa, several):
    document = medusa(*EVAL, "--json").document
    rows = {row["head"]: row for row in document["comparisons"]}
    assert set(rows) == {"depth_linear", "depth_constant"}
    first = document["heads"]["depth"]["metrics"]["rmse"]
    for name, row in rows.items():
        own = document["heads"][name]["metrics"]["rmse"]
        assert (row["to"], row["metric"], row["higher_is_better"]) == ("depth", "rmse", False)
        assert row["difference"] == pytest.approx(own - first)
        low, high = row["interval"]
        assert low <= row["difference"] <= high
    assert medusa(*EVAL, "--json").document == document  # the same images are drawn again


def test_one_is_the_mirror_of_the_other(medusa, several):
    def compared(*names):
        return medusa(*EVAL, "--tasks", ",".join(names), "--json").document["comparisons"][0]

    there, back = compared("depth", "depth_linear"), compared("depth_linear", "depth")
    assert there["difference"] == pytest.approx(-back["difference"])
    assert there["interval"] == pytest.approx([-end for end in reversed(back["interval"])])


def test_people_are_told_which_is_better(medusa, several):
    [line] = [line for line in medusa(*EVAL).out.splitlines() if "depth_constant −" in line]
    assert line.split()[-1] in {"better", "worse", "unclear"}
    assert "rmse" in line


@pytest.mark.parametrize(
    "options",
    [
        ("--limit", "1"),  # nothing to resample
        ("--tasks", "depth,semseg"),
        ("--data", "depth_linear=rooms:48x64", "--tasks", "depth,depth_linear"),
    ],
)
def test_nothing_is_compared_that_differs_in_more_than_the_head(medusa, several, options):
    assert medusa(*EVAL, *options, "--json").document["comparisons"] == []
