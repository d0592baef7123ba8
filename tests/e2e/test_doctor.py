"""`doctor` finds what is wrong and changes nothing; `verify --repair` deletes garbage only."""

import importlib.metadata
import sys

import pytest

from medusa_core.engine.checkpoint import save_state
from medusa_core.plugin_host import default_host
from medusa_core.workflows import doctor

from .conftest import tree


def states(document):
    return {check["name"]: check["state"] for check in document["checks"]}


def test_a_healthy_machine(medusa, unchanged):
    done = medusa("doctor", "--json")
    assert done.code == 0, done.out
    found = states(done.document)
    assert {"python", "torch", "torchvision", "timm", "plugins", "cache", "model"} <= set(found)
    assert "problem" not in found.values()
    assert "depth, semseg" in medusa("doctor").out


def test_without_a_model(medusa, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = medusa("doctor", "--json")
    assert done.code == 0
    assert states(done.document)["model"] == "note"
    assert not (tmp_path / "medusa-model").exists()


def test_a_damaged_head_and_an_unfinished_training(medusa, model):
    [path] = (model / "heads" / "depth").glob("*/head.json")
    path.write_text("{")
    save_state(model / ".work" / "edges", {}, {})
    (model / ".work" / "failed").mkdir()  # with its log, say: there is nothing to go on with
    before = tree(model)
    done = medusa("doctor", "--json")
    assert done.code == 1
    assert states(done.document)["head depth"] == "problem"
    unfinished = next(c for c in done.document["checks"] if c["name"] == "unfinished trainings")
    assert (unfinished["state"], unfinished["message"]) == ("note", "edges")
    assert "head depth" in done.error
    assert tree(model) == before


@pytest.mark.parametrize("kind", ["file", "loop"])
def test_a_cache_that_cannot_be_made(medusa, tmp_path, monkeypatch, kind):
    place = tmp_path / "place"
    place.symlink_to(place) if kind == "loop" else place.write_text("")
    monkeypatch.setenv("MEDUSA_CACHE", str(place))
    done = medusa("doctor", "--json")
    assert done.code == 1
    assert states(done.document)["cache disk"] == "problem"


def test_a_torchvision_of_another_torch(medusa, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # as if its import failed
    done = medusa("doctor", "--json")
    assert done.code == 1
    assert states(done.document)["torch and torchvision"] == "problem"


def test_a_package_that_is_too_old(medusa, monkeypatch):
    real = importlib.metadata.version
    monkeypatch.setattr(
        doctor.importlib.metadata, "version", lambda n: "0.1" if n == "timm" else real(n)
    )
    done = medusa("doctor", "--json")
    assert done.code == 1
    [timm] = [check for check in done.document["checks"] if check["name"] == "timm"]
    assert timm["hint"].startswith("pip install 'timm>=")


@pytest.fixture
def littered(model):
    """A model with the remains of a crash, and with files of other origin."""
    (model / "model.json.tmp").write_text("half a manif")
    (model / "backbone.next.safetensors").write_bytes(b"never committed")
    superseded = model / "heads" / "depth" / ("0" * 16)
    superseded.mkdir()
    (superseded / "head.json").write_text("{}")
    (model / "notes.txt").write_text("mine")
    (model / "heads" / "Notes").mkdir()
    return model


def test_repair_deletes_what_no_commit_points_to_and_nothing_else(medusa, littered, original):
    done = medusa("verify", "--json")
    assert done.code == 0
    assert len(done.document["problems"]) == 5
    assert done.document["removed"] == []
    done = medusa("verify", "--repair", "--json")
    assert done.code == 0
    assert len(done.document["removed"]) == 3
    assert [problem["kind"] for problem in done.document["problems"]] == ["stray", "stray"]
    (littered / "notes.txt").unlink()
    (littered / "heads" / "Notes").rmdir()
    assert tree(littered) == tree(original)


def test_repair_leaves_damage_alone(medusa, model):
    [path] = (model / "heads" / "depth").glob("*/head.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    before = tree(model)
    assert medusa("verify", "--repair").code == 1
    assert tree(model) == before


def test_repair_of_an_unreadable_manifest_deletes_nothing(medusa, littered):
    (littered / "model.json").write_text("{")
    before = tree(littered)
    assert medusa("verify", "--repair").code == 1
    assert tree(littered) == before


TASK_WITHOUT_ITS_HEAD = """
from medusa_core.api import HeadRef, MetricRef, OutputSpec, TargetSpec, TaskSpec, hookimpl


@hookimpl
def medusa_register_tasks():
    return [
        TaskSpec(
            name="flow",
            title="Flow",
            implementation="nowhere:Task",
            output=OutputSpec(channels=2),
            target=TargetSpec(),
            metrics=(MetricRef(name="mae", higher_is_better=False, primary=True),),
            default_head=HeadRef(name="medussa"),
        )
    ]
"""


def test_names_that_two_plugins_claim_and_heads_that_nobody_has(medusa, model, install_plugin):
    install_plugin("same_task")
    done = medusa("doctor", "--json")
    assert done.code == 0
    [note] = [check for check in done.document["checks"] if check["name"] == "plugin"]
    assert note["state"] == "note"
    assert note["message"].startswith("The task 'depth' is provided by 2 plugins: ")
    assert note["hint"] == "Name one of them: medusa-heads:depth or medusa-same-task:depth"
    install_plugin(TASK_WITHOUT_ITS_HEAD, "medusa-flow")
    done = medusa("doctor", "--json")
    assert done.code == 1
    [problem] = [check for check in done.document["checks"] if check["state"] == "problem"]
    assert problem["message"].startswith(
        "Plugin medusa-flow 1.0: the default head of 'flow': Unknown head architecture 'medussa'."
    )
    assert "Did you mean 'medusa'" in problem["message"]


def test_all_plugins_of_a_distribution_that_are_disabled_are_named(medusa, model, monkeypatch):
    """Of which one a head is cannot be known: it was not loaded."""
    monkeypatch.setenv("MEDUSA_DISABLE_PLUGINS", "medusa-data,medusa-heads")
    default_host.cache_clear()
    why = "Plugins of medusa-heads are not loaded: medusa-data, medusa-heads (named in MEDUSA_DISA"
    assert why in medusa("list").out
    [found] = [
        c for c in medusa("doctor", "--json").document["checks"] if c["name"] == "head depth"
    ]
    assert why in found["message"]
    assert "medusa plugins list" in found["hint"]
    default_host.cache_clear()
