"""Heads and their plugins over time: names that clash, upgrades, uninstalling, coming back."""

import json
import shutil

import pytest

from medusa_core.cli import main
from medusa_core.plugin_host import default_host

from .conftest import ROOMS

SHORT = ("--limit", "4", "--steps", "2", "--batch", "2", "--size", "32x32")
OTHER_LINEAR = """
from medusa_core.api import HeadSpec, hookimpl

@hookimpl
def medusa_register_heads():
    return [
        HeadSpec(
            name="linear",
            title="Not linear at all",
            implementation="medusa_core.heads.baselines:ConstantHead",
            config_model="medusa_core.heads.configs:BaselineConfig",
        )
    ]
"""
OTHER_ROOMS = """
from medusa_core.api import DatasetSpec, hookimpl

@hookimpl
def medusa_register_datasets():
    return [DatasetSpec(name="rooms", title="Other rooms", implementation="nowhere:Rooms")]
"""
DISTANCE = """
from medusa_core.api import HeadRef, hookimpl
from medusa_tasks.depth.spec import DEPTH

@hookimpl
def medusa_register_tasks():
    target = DEPTH.target.model_copy(update={"name": "depth"})
    head = HeadRef(name="linear")
    changes = {"name": "distance", "target": target, "default_head": head}
    return [DEPTH.model_copy(update=changes)]
"""
OBSERVER = """
import json
from medusa_core.api import hookimpl

def write(event):
    with open("events.jsonl", "a") as file:
        fields = {k: dict(v) if k == "metrics" else v for k, v in vars(event).items()}
        print(json.dumps([type(event).__name__, fields], default=str), file=file)

@hookimpl
def medusa_head_added(event):
    write(event)

@hookimpl
def medusa_head_removed(event):
    write(event)

@hookimpl
def medusa_head_evaluated(event):
    write(event)
"""


@pytest.fixture
def medusa(capsys, tmp_path, monkeypatch):
    """Runs a command line with plugins found anew: `(exit code, stdout, stderr)`."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        default_host.cache_clear()
        capsys.readouterr()
        code = main(["--quiet", *map(str, args)])
        return code, *capsys.readouterr()

    return run


def record(model, head):
    return json.loads(next((model / "heads" / head).rglob("head.json")).read_text())


def contents(model, *heads):
    files = (path for head in heads for path in (model / "heads" / head).rglob("*"))
    return {path: path.read_bytes() for path in files if path.is_file()}


def test_an_architecture_whose_name_is_taken_is_ambiguous(medusa, install_plugin, make_model):
    install_plugin(OTHER_LINEAR, "medusa-other")
    add = ("add-task", "depth", "-m", make_model(), "--head")
    code, _, err = medusa(*add, "linear")
    assert code == 2
    assert "Name one of them: medusa-heads:linear or medusa-other:linear" in err
    code, _, err = medusa(*add, "nobody:linear")
    assert code == 2
    assert "Unknown head architecture 'nobody:linear'" in err


@pytest.mark.parametrize("command", ["add-task", "train-backbone"])
def test_it_is_chosen_by_its_distribution_and_heads_of_both_live_together(
    medusa, install_plugin, make_model, command
):
    model = make_model()
    install_plugin(OTHER_LINEAR, "medusa-other")
    params = []
    for dist, head in (("medusa-other", "depth_other"), ("medusa-heads", "depth")):
        options = (*ROOMS, "--head", f"{dist}:linear", *SHORT)
        if command == "add-task":
            done = medusa("add-task", "depth", "--name", head, "-m", model, *options)
        else:
            head, model = "depth", make_model(folder=dist)
            done = medusa("train-backbone", model, "--tasks", "depth", *options)
        assert done[0] == 0, done[2]
        assert record(model, head)["head_owner"]["distribution"] == dist
        assert record(model, head)["head"]["name"] == "linear"
        params.append(record(model, head)["params"])
        assert medusa("verify", "-m", model)[0] == 0
    constant, linear = params
    assert constant == 1 < linear


def test_a_data_set_whose_name_is_taken_can_be_done_without(medusa, install_plugin, make_model):
    install_plugin(OTHER_ROOMS, "medusa-other")
    code, _, err = medusa("eval", "-m", make_model("depth"), *ROOMS)
    assert code == 2
    assert (
        "Hint: Do without one of them: medusa plugins disable medusa-tasks or medusa plugins "
        "disable medusa-other"
    ) in err


def test_the_default_head_of_a_task_is_that_of_its_own_plugin(medusa, install_plugin, make_model):
    model = make_model()
    install_plugin(DISTANCE + OTHER_LINEAR, "medusa-other")
    assert medusa("add-task", "distance", "-m", model, *ROOMS, *SHORT)[0] == 0
    assert record(model, "distance")["head_owner"]["distribution"] == "medusa-other"


def test_an_upgraded_plugin_is_warned_of_and_verify_replays_its_heads(
    medusa, install_plugin, make_model, tmp_path, monkeypatch
):
    model, name = make_model("depth"), install_plugin("fails_in_use")
    data = ("-m", model, "--data", "noise")
    assert medusa("add-task", "brightness", *data, "--head", "fragile", *SHORT)[0] == 0
    shutil.rmtree(tmp_path / "site" / f"{name.replace('-', '_')}-1.0.dist-info")
    install_plugin("fails_in_use", version="2.0")
    changed = "Head 'brightness' was trained with medusa-fails-in-use 1.0, 2.0 is installed."
    code, _, err = medusa("eval", *data)
    assert (code, err) == (0, f"Warning: {changed} Check it: medusa verify\n")
    code, out, err = medusa("verify", "-m", model)
    assert (code, err) == (0, "")
    assert "brightness: equal" in out
    assert changed in out
    document = json.loads(medusa("verify", "-m", model, "--json")[1])
    assert (document["ok"], document["notes"]) == (True, [changed])
    assert "brightness (changed)" in medusa("list", "-m", model)[1]

    monkeypatch.setenv("FAIL", "doubled")  # the upgrade computes something else
    code, out, err = medusa("verify", "-m", model)
    assert code == 1
    assert "brightness: different" in out
    assert changed in out
    assert "depth: equal" in out


def test_a_head_outlives_its_plugin_and_the_others_do_not_notice(
    medusa, install_plugin, make_model, tmp_path
):
    model, name = make_model("depth"), install_plugin("fails_in_use")
    data = ("-m", model, "--data", "noise")
    assert medusa("add-task", "brightness", *data, "--head", "fragile", *SHORT)[0] == 0
    before = contents(model, "depth", "brightness")
    info = tmp_path / "site" / f"{name.replace('-', '_')}-1.0.dist-info"
    info.rename(tmp_path / "uninstalled")

    [orphan] = [
        head
        for head in json.loads(medusa("list", "-m", model, "--json")[1])["heads"]
        if head["name"] == "brightness"
    ]
    assert orphan["state"] == "orphan"
    assert (
        "plugin medusa-fails-in-use is missing; run: pip install medusa-fails-in-use==1.0"
        in (orphan["notes"])
    )
    code, _, err = medusa("eval", "--tasks", "brightness", "-m", model, *ROOMS)
    assert code == 3
    assert "Hint: pip install 'medusa-fails-in-use==1.0'" in err
    assert medusa("eval", "--tasks", "depth", "-m", model, *ROOMS, "--limit", "1")[0] == 0
    checks = json.loads(medusa("doctor", "-m", model, "--json")[1])["checks"]
    [found] = [check for check in checks if check["name"] == "head brightness"]
    assert (found["state"], found["hint"]) == ("note", "pip install 'medusa-fails-in-use==1.0'")
    code, out, _ = medusa("verify", "-m", model)
    assert code == 0
    assert "brightness: not replayed" in out
    assert "is what it was, as far as its files tell for 1 of its heads." in out
    assert "which is not available. pip install 'medusa-fails-in-use==1.0'" in out
    assert contents(model, "depth", "brightness") == before

    (tmp_path / "uninstalled").rename(info)
    code, out, _ = medusa("verify", "-m", model)
    assert (code, "brightness: equal" in out) == (0, True)
    assert contents(model, "depth", "brightness") == before


def test_observers_are_told_what_happened_to_heads(medusa, install_plugin, make_model, tmp_path):
    from medusa_core.model import open_model

    model = make_model("depth")
    install_plugin(OBSERVER, "medusa-observer")
    add = ("add-task", "edges", "--head", "linear", "-m", model, *ROOMS, *SHORT)
    assert medusa(*add, "--dry-run")[0] == 0
    assert medusa("remove-task", "depth", "-m", model, "--dry-run")[0] == 0
    assert not (tmp_path / "events.jsonl").exists()
    assert medusa(*add)[0] == 0
    assert medusa(*add, "--replace")[0] == 0
    assert medusa("eval", "--tasks", "edges", "-m", model, *ROOMS, "--limit", "2")[0] == 0
    assert medusa("remove-task", "edges", "-m", model, "--yes")[0] == 0
    open_model(model).remove_head("depth")
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [(kind, event["name"]) for kind, event in events] == [
        ("HeadAdded", "edges"),
        ("HeadAdded", "edges"),
        ("HeadEvaluated", "edges"),
        ("HeadRemoved", "edges"),
        ("HeadRemoved", "depth"),
    ]
    first, second, scored = (event for _, event in events[:3])
    assert (first["replaced"], second["replaced"]) == (False, True)
    assert {**first, "replaced": True} == second
    assert (first["distribution"], first["model"]) == ("medusa-heads", str(model))
    assert (scored["data"], scored["split"], scored["images"]) == (["rooms:64x64"], "val", 2)
    assert set(scored["metrics"]) > set(first["metrics"])
