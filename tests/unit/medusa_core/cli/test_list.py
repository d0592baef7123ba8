"""`list`: what a model has."""

import importlib.metadata
from types import SimpleNamespace

import pytest

from medusa_core.api import HeadRef, HeadSpec, MetricRef, OutputSpec, TargetSpec, TaskSpec, hookimpl
from medusa_core.store.manifest import Owner


class Plugin:
    """One task and one head architecture."""

    @hookimpl
    def medusa_register_tasks(self):
        return [
            TaskSpec(
                name="sharpness",
                title="Sharpness",
                implementation="nowhere:Task",
                output=OutputSpec(channels=1),
                target=TargetSpec(),
                metrics=(
                    MetricRef(name="other", higher_is_better=False),
                    MetricRef(name="mae", unit="dB", higher_is_better=False, primary=True),
                ),
            )
        ]

    @hookimpl
    def medusa_register_heads(self):
        return [
            HeadSpec(name="slim", title="Slim", implementation="x:Head", config_model="x:Config")
        ]


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    dist = SimpleNamespace(name="medusa-good", version="0.2", requires=[])
    point = SimpleNamespace(name="medusa-good", value="x", dist=dist, load=Plugin)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])


def test_heads_are_listed_with_cost_quality_and_data(medusa, make_folder, make_head):
    folder = make_folder(zeta=make_head(), alpha=make_head(metrics={"mae": None}))
    code, out, err = medusa("list", "-m", folder)
    assert (code, err) == (0, "")
    backbone, _, alpha, zeta = out.splitlines()
    assert backbone == "tiny: 3.86 M params, 10.00 GMACs"
    assert alpha.split()[0] == "alpha"
    assert "mae –" in alpha
    cells = [
        "zeta",
        "sharpness",
        "slim",
        "12.3",
        "k",
        "0.250",
        "2.5%",
        "mae",
        "0.125",
        "dB",
        "photos",
    ]
    assert zeta.split() == cells


def test_the_document_has_all_of_it(medusa, make_folder, make_head):
    folder = make_folder(zeta=make_head())
    document = medusa.json("list", "-m", folder)
    assert document["backbone"]["name"] == "tiny"
    (head,) = document["heads"]
    assert head["state"] == "ready"
    assert head["notes"] == []
    assert head["share"] == 0.025
    assert head["metric"] == {"name": "mae", "unit": "dB", "value": 0.125}
    assert head["owner"] == {"distribution": "medusa-good", "version": "0.2"}


def test_an_orphan_is_listed_with_the_way_to_get_it_back(medusa, make_folder, make_head):
    gone = Owner(distribution="medusa-gone", version="0.7")
    folder = make_folder(
        lost=make_head(task="mystery", owner=gone),
        renamed=make_head(head=HeadRef(name="wide")),
        fine=make_head(),
    )
    code, out, _ = medusa("list", "-m", folder)
    assert code == 0
    assert "lost (orphan): plugin medusa-gone is missing; run: pip install medusa-gone==0.7" in out
    why = "renamed (orphan): head architecture 'wide' is not in medusa-good 0.2; run: pip install"
    assert why in out
    heads = {head["name"]: head for head in medusa.json("list", "-m", folder)["heads"]}
    assert [heads[n]["state"] for n in ("fine", "lost", "renamed")] == ["ready", "orphan", "orphan"]
    assert heads["lost"]["metric"] is None
    assert heads["lost"]["metrics"] == {"other": 9.0, "mae": 0.125}


def test_a_task_of_the_same_name_elsewhere_does_not_adopt_an_orphan(medusa, make_folder, make_head):
    folder = make_folder(lost=make_head(owner=Owner(distribution="medusa-gone", version="0.7")))
    (head,) = medusa.json("list", "-m", folder)["heads"]
    assert head["state"] == "orphan"


def test_a_disabled_plugin_is_the_reason_given(medusa, make_folder, make_head, monkeypatch):
    folder = make_folder(zeta=make_head())
    monkeypatch.setenv("MEDUSA_DISABLE_PLUGINS", "medusa-good")
    (head,) = medusa.json("list", "-m", folder)["heads"]
    assert head["state"] == "orphan"
    assert head["notes"] == ["Plugin medusa-good 0.2 is disabled: named in MEDUSA_DISABLE_PLUGINS"]


def test_a_note_of_a_stranger_does_not_flood_the_table(medusa, make_folder, make_head):
    folder = make_folder(zeta=make_head(provenance={"data": "x" * 100_000}))
    _, out, _ = medusa("list", "-m", folder)
    assert len(out) < 5_000
    assert "(100000 characters)" in out.replace("\n", "")


def test_a_head_of_another_plugin_version_is_marked(medusa, make_folder, make_head):
    folder = make_folder(zeta=make_head(owner=Owner(distribution="medusa-good", version="0.1")))
    _, out, _ = medusa("list", "-m", folder)
    assert "zeta (changed)" in out
    assert "task 'sharpness' is of medusa-good 0.2 now, the head was trained with 0.1" in out


def test_a_model_without_heads_says_what_to_do(medusa, make_folder):
    folder = make_folder()
    _, out, _ = medusa("list", "-m", folder)
    assert f"No heads yet. Add one: medusa add-task TASK -m {folder}" in out.replace("\n", "")


def test_no_folder_is_an_error(medusa, tmp_path):
    code, out, err = medusa("list", "-m", tmp_path / "none", "--json")
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert "Hint: " in err
