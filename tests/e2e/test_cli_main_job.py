"""The main job through the commands people type, on a small backbone and a few rooms."""

import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import medusa_core as medusa_package
from medusa_core.cli import _output

from .conftest import FAST, ROOMS, TINY


def contents(model, head):
    return {p.name: p.read_bytes() for p in (model / "heads" / head).rglob("*") if p.is_file()}


def size_of(path):
    with Image.open(path) as image:
        return image.size


def test_init(medusa, tmp_path):
    path = tmp_path / "new"
    done = medusa("init", path, "--backbone", "test_efficientnet", "--from-scratch", "--json")
    assert done.code == 0
    assert done.document["schema_version"] == 1
    assert done.document["backbone"]["strides"] == [4, 8, 16, 32]
    assert done.document["left_over_keys"] == []
    assert sorted(p.name for p in path.iterdir() if p.name != ".lock") == [
        "backbone.safetensors",
        "heads",
        "model.json",
    ]
    shown = medusa("list", "-m", path)
    assert shown.code == 0
    assert "No heads yet. Add one: medusa add-task TASK" in shown.out


def test_init_says_what_it_made_and_what_to_do_next(medusa, tmp_path):
    done = medusa("init", tmp_path / "new", "--backbone", "test_resnet", "--from-scratch")
    assert done.code == 0
    for text in (
        "test_resnet",
        "GMACs",
        "at stride 32",
        "fingerprint",
        "Next: medusa train-backbone",
    ):
        assert text in done.out


def test_add_a_task(medusa, model):
    before = {name: contents(model, name) for name in ("depth", "semseg")}
    done = medusa("add-task", "normals", *ROOMS, *FAST, *TINY, "--json")
    assert done.code == 0
    [(name, head)] = done.document["heads"].items()
    assert name == head["task"] == "normals"
    assert (head["steps"], head["size"], head["images"]) == (4, [64, 64], 6)
    assert head["head"]["config"]["width"] == 4
    assert head["metrics"][head["primary"]] > 0
    assert (head["primary"], head["unit"]) == ("mean_angle", "deg")
    assert size_of(head["report"])[0] > 100
    assert {name: contents(model, name) for name in before} == before
    assert medusa("verify").code == 0


def test_the_human_result_names_score_cost_report_and_next_step(medusa, model):
    fast = [*FAST, "--limit", "5"]  # not in the cache yet
    done = medusa("add-task", "normals", "--name", "up", *ROOMS, *fast, *TINY)
    header, row, report, following = done.out.splitlines()
    assert header.split()[:4] == ["head", "task", "architecture", "score"]
    assert row.split()[:4] == ["up", "normals", "medusa", "mean_angle"]
    assert " deg " in row
    assert report == "Report: medusa-model/reports/up.png"
    assert following == "Next: medusa eval --tasks up -m medusa-model --data rooms:64x64"
    assert "Caching rooms (train): 5/5" in done.err
    assert "Training up: 4/4" in done.err


def test_dry_run_adds_nothing(medusa, unchanged):
    done = medusa("add-task", "edges", *ROOMS, *FAST, "--dry-run")
    assert done.code == 0
    assert done.out.startswith("Would add edges: task edges, head medusa, up to 6 images of rooms")
    line = ("add-task", "depth", "--replace", *ROOMS, *FAST, "--dry-run")
    assert medusa(*line).out.startswith("Would replace depth: task depth")
    [planned] = medusa(*line, "--json").document["heads"].values()
    assert planned["before"].keys() == {"rmse", "absrel", "rmse_log", "delta1"}


def test_replacing_a_head_changes_no_other(medusa, model):
    before = contents(model, "semseg"), contents(model, "depth")
    done = medusa("add-task", "depth", "--head", "linear", "--replace", *ROOMS, *FAST)
    assert done.code == 0
    assert contents(model, "semseg") == before[0]
    assert contents(model, "depth") != before[1]
    assert medusa("verify").code == 0


def test_quiet_means_quiet(medusa, model):
    done = medusa("--quiet", "add-task", "edges", *ROOMS, *FAST, *TINY)
    assert done.code == 0
    assert done.err == ""


def test_rooms_are_the_default_and_that_is_said(medusa, model):
    done = medusa("add-task", "edges", *FAST, *TINY)
    assert done.code == 0
    assert "synthetic rooms" in done.err or "synthetic scenes" in done.err


def test_list(medusa, model):
    document = medusa("list", "--json").document
    assert [head["name"] for head in document["heads"]] == ["depth", "semseg"]
    assert all(head["state"] == "ready" for head in document["heads"])
    assert document["backbone"]["name"] == "test_efficientnet"
    shown = medusa("list").out.splitlines()
    assert shown[0].startswith("test_efficientnet: 82.3 k params")
    assert [line.split()[0] for line in shown[1:]] == ["head", "depth", "semseg"]
    assert "%" in shown[2]


def test_eval(medusa, unchanged):
    done = medusa("eval", "--limit", 3, *ROOMS, "--json")
    assert done.code == 0
    heads = done.document["heads"]
    assert list(heads) == ["depth", "semseg"]
    assert heads["depth"]["images"] == 3
    assert heads["depth"]["split"] == "val"
    assert heads["depth"]["units"] == {"rmse": "m"}
    assert set(heads["semseg"]["metrics"]) == {"miou", "pixel_accuracy", "classes"}
    assert done.document["ok"] is True
    shown = medusa("eval", "--limit", 3, "--tasks", "depth", *ROOMS).out.splitlines()
    assert len(shown) == 2
    assert shown[1].startswith(f"depth  rmse {heads['depth']['metrics']['rmse']:.4g} m")


@pytest.mark.parametrize(("check", "code"), [("depth.rmse=1000", 0), ("depth.rmse=0.001", 1)])
def test_eval_with_a_check(medusa, unchanged, check, code):
    done = medusa("eval", "--limit", 2, *ROOMS, "--min", check)
    assert done.code == code
    assert ("NOT met" in done.out) is bool(code)
    done = medusa("eval", "--limit", 2, *ROOMS, "--min", check, "--json")
    assert done.code == code
    assert done.document["ok"] is not bool(code)
    assert [c["ok"] for c in done.document["checks"]] == [not code]
    if code:
        assert done.error == "Not reached: depth.rmse."


def test_a_figure_is_not_rounded_onto_what_is_wanted(medusa, unchanged):
    line = ("eval", "--limit", 2, "--tasks", "depth", *ROOMS)
    value = medusa(*line, "--json").document["heads"]["depth"]["metrics"]["rmse"]
    wanted = math.floor(value * 1000) / 1000
    out = medusa(*line, "--min", f"depth.rmse={wanted}").out
    assert f"depth.rmse ≤ {wanted:g}: NOT met" in out
    [shown] = re.findall(r"NOT met \((.*)\)", out)
    assert float(shown) > wanted


def test_a_check_of_a_head_without_a_target_is_not_met_and_the_figures_are_there(medusa, unchanged):
    line = ("eval", "--limit", 2, "--data", "depth=rooms:64x64", "--min", "semseg.miou=0.1")
    done = medusa(*line, "--json")
    assert (done.code, done.error) == (1, "Not reached: semseg.miou.")
    assert list(done.document["heads"]) == ["depth"]
    [check] = done.document["checks"]
    assert (check["value"], check["ok"]) == (None, False)
    assert "semseg.miou ≥ 0.1: NOT met (no target here)" in medusa(*line).out


def test_predict(medusa, unchanged, photos):
    args = [photos / "one", photos / "two", "--tasks", "depth,semseg", "--out", "o", "--raw"]
    done = medusa("predict", *args, "--json")
    assert done.code == 0
    assert len(done.document["images"]) == 3
    written = [entry for image in done.document["images"] for entry in image["results"]]
    files = [entry[kind] for entry in written for kind in ("rendering", "values")]
    assert len(set(files)) == 12  # equal stems from different folders do not overwrite each other
    records = {"inputs.json", "made-with-depth.json", "made-with-semseg.json"}
    assert records | set(map(os.path.basename, files)) == set(os.listdir("o"))
    assert {"room.depth.png", "room.depth.npy"} <= set(os.listdir("o"))
    for entry in written:
        assert size_of(entry["rendering"]) == (70, 50)
        values = np.load(entry["values"])
        assert values.shape == (50, 70)
        assert values.dtype == (np.float32 if entry["head"] == "depth" else np.int64)
        assert entry["unit"] == ("m" if entry["head"] == "depth" else None)
        assert bool(entry.get("labels")) is (entry["head"] == "semseg")
    shown = medusa("predict", *args)
    assert shown.out.splitlines() == files


def test_predict_goes_on_after_an_unreadable_image(medusa, unchanged, photos):
    (photos / "two" / "broken.jpg").write_bytes(b"\xff\xd8\xff no")
    (photos / "two" / "readme.txt").write_text("not an image, and not meant to be one")
    done = medusa("predict", photos / "two", "--tasks", "depth", "--json")
    assert done.code == 1
    assert len(done.document["images"]) == 2
    [failed] = done.document["failed"]
    assert failed["image"].endswith("broken.jpg")
    assert done.error == "1 of 3 images could not be predicted."
    assert f"Failed: {photos / 'two' / 'broken.jpg'}: " in done.err
    assert sorted(os.listdir("out")) == [
        "inputs.json",
        "made-with-depth.json",
        "room.depth.png",
        "street.depth.png",
    ]


def test_rename_a_head(medusa, model):
    before = contents(model, "depth"), contents(model, "semseg")
    done = medusa("rename-head", "depth", "depth_indoor", "--json")
    assert done.code == 0
    assert (done.document["old"], done.document["new"]) == ("depth", "depth_indoor")
    assert (contents(model, "depth_indoor"), contents(model, "semseg")) == before
    assert not (model / "heads" / "depth").exists()
    assert sorted(os.listdir(model / "reports")) == [
        "depth_indoor.jsonl",
        "depth_indoor.png",
        "semseg.jsonl",
        "semseg.png",
    ]
    assert medusa("verify").code == 0
    assert medusa("eval", "--tasks", "depth_indoor", "--limit", 2, *ROOMS).code == 0


def test_remove_a_task(medusa, model):
    before = contents(model, "semseg")
    planned = medusa("remove-task", "depth", "--dry-run")
    assert planned.code == 0
    assert planned.out.startswith("Would remove depth (")
    assert planned.out.endswith("Heads left: depth, semseg.\n") or "Heads left: semseg" in (
        planned.out
    )
    assert (model / "heads" / "depth").exists()
    done = medusa("remove-task", "depth", "--yes", "--json")
    assert done.code == 0
    assert done.document["removed"] == ["depth"]
    assert done.document["remaining"] == ["semseg"]
    assert done.document["bytes"] > 0
    assert os.listdir(model / "heads") == ["semseg"]
    assert sorted(os.listdir(model / "reports")) == ["semseg.jsonl", "semseg.png"]
    assert contents(model, "semseg") == before
    assert medusa("verify").code == 0


def test_without_a_terminal_a_removal_needs_yes(medusa, unchanged, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    done = medusa("remove-task", "depth")
    assert done.code == 2
    assert done.out == ""
    assert "Remove depth (" in done.error
    assert "--yes" in done.hint


def test_a_declined_removal_removes_nothing(medusa, unchanged, monkeypatch):
    monkeypatch.setattr(_output.sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(_output.click, "confirm", _decline)
    done = medusa("remove-task", "depth")
    assert done.code == 130
    assert "Removed" not in done.out + done.err


def _decline(*_, **__):
    raise _output.click.Abort


def test_verify(medusa, unchanged):
    done = medusa("verify", "--json")
    assert done.code == 0
    assert done.document["ok"] is True
    assert done.document["probes"] == {"depth": "equal", "semseg": "equal"}
    assert medusa("verify").out.splitlines()[-1] == "medusa-model is what it was."


@pytest.mark.parametrize("file", ["head.safetensors", "head.json", "backbone.safetensors"])
def test_verify_finds_a_damaged_byte(medusa, model, file):
    [path, *_] = sorted(model.rglob(file))
    data = path.read_bytes()
    place = data.index(b'"cpu"') + 1 if file == "head.json" else len(data) - 9
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    done = medusa("verify", "--json")
    assert done.code == 1
    assert done.document["ok"] is False
    inner = str(path.relative_to(model))
    assert any(inner in problem["path"] for problem in done.document["problems"])
    assert "problem" in done.error
    assert inner in medusa("verify").out


def test_verify_finds_a_record_that_is_none(medusa, model):
    [path, *_] = sorted(model.rglob("head.json"))
    path.write_bytes(path.read_bytes().replace(b'"task"', b'"tusk"'))
    done = medusa("verify", "--json")
    assert done.code == 1
    assert done.error
    assert done.document["problems"][0]["kind"] == "schema"
    assert medusa("verify").out.count(str(path.relative_to(model))) == 1


@pytest.mark.parametrize("command", ["tasks", "datasets", "plugins list", "list"])
def test_every_report_is_one_document(medusa, unchanged, command):
    done = medusa(*command.split(), "--json")
    assert done.code == 0
    assert done.document["schema_version"] == 1
    assert done.err == ""
    assert medusa(*command.split()).out


def test_train_a_backbone_jointly(medusa, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    medusa("init", "joint", "--backbone", "test_efficientnet", "--from-scratch")
    args = [
        "--tasks",
        "depth,semseg",
        *ROOMS,
        "--limit",
        "6",
        "--steps",
        "3",
        "--batch",
        "2",
        *TINY,
    ]
    done = medusa("train-backbone", "joint", *args, "--json")
    assert done.code == 0
    assert set(done.document["heads"]) == {"depth", "semseg"}
    assert done.document["fingerprint"] != done.document["fingerprint_before"]
    assert medusa("verify", "-m", "joint").code == 0
    assert medusa("add-task", "edges", "-m", "joint", *ROOMS, *FAST, *TINY).code == 0
    assert medusa("eval", "-m", "joint", *ROOMS, "--limit", "2").code == 0
    again = medusa("train-backbone", "joint", *args)
    assert again.code == 1
    assert "joint has heads (depth, semseg, edges)" in again.error


def test_the_same_in_python(medusa, model, photos):
    opened = medusa_package.open(model)
    assert list(opened.heads) == ["depth", "semseg"]
    images = torch.rand(2, 3, 33, 47)
    outputs = opened(images, tasks=["depth"])
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "depth": (2, 1, 33, 47)
    }
    results = opened.predict(photos / "two" / "room.jpg", tasks=["semseg"])
    assert results["semseg"].value.shape == (50, 70)
    assert opened.verify()["ok"]

    scores = medusa_package.evaluate("medusa-model", data=["rooms:64x64"], limit=2)
    printed = medusa("eval", *ROOMS, "--limit", 2, "--json").document
    assert {**json.loads(json.dumps(scores)), "schema_version": 1} == printed

    options = {"limit": 6, "size": (64, 64), "steps": 4, "batch": 2, "views": 2}
    added = medusa_package.add_task(
        "edges",
        model="medusa-model",
        data=["rooms:64x64"],
        settings={"width": 4, "fused_width": 4},
        **options,
    )
    printed = medusa("add-task", "edges", "--replace", *ROOMS, *FAST, *TINY, "--json").document
    assert added["heads"]["edges"].pop("before") is None
    assert printed["heads"]["edges"].pop("before") == printed["heads"]["edges"]["metrics"]
    for document in (added, printed):
        document["heads"]["edges"].pop("cpu_seconds")
        document["heads"]["edges"].pop("seconds")
    assert {**json.loads(json.dumps(added)), "schema_version": 1} == printed

    verified = medusa("verify", "--json").document
    assert {**medusa_package.verify("medusa-model"), "schema_version": 1} == verified
    removed = medusa_package.remove_task("edges")
    assert removed["remaining"] == ["depth", "semseg"]
    assert list(medusa_package.open(model).heads) == ["depth", "semseg"]
    assert list(opened.heads) == ["depth", "semseg"]


def test_python_dash_m(model):
    command = [sys.executable, "-m", "medusa_core", "list", "--json"]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0
    assert process.stderr == ""
    assert [head["name"] for head in json.loads(process.stdout)["heads"]] == ["depth", "semseg"]
