"""`medusa export`, and `docs/how-to/deploy.md` run as it is printed: files say what the model says.

Exporting is done in processes of its own: its threads would be in the way of tests that fork.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import medusa_core
from medusa_core.errors import USAGE

from .conftest import ROOMS, TINY

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "deploy.md"
COMPARED = """
import medusa_core

plain = medusa_core.open("medusa-model", execution=medusa_core.Execution("plain"))
for shape in ((1, 3, 64, 64), (2, 3, 96, 160), (3, 3, 160, 64)):
    images = torch.rand(*shape)
    with torch.inference_mode():
        wanted = {name: plain.tasks[name].decode(raw) for name, raw in plain(images).items()}
    found = network(images)
    assert found.keys() == wanted.keys() == heads.keys() == {"depth", "semseg"}
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    depth, semseg = session.run(["depth", "semseg"], {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(depth), wanted["depth"], rtol=1e-4, atol=1e-5)
    assert (torch.from_numpy(semseg) == wanted["semseg"]).float().mean() > 0.99
assert heads["depth"]["unit"] == "m"
assert len(heads["semseg"]["classes"]) == len(plain.heads["semseg"].labels.names)
print("alike")
"""


def run(*line, cwd):
    """`python -W ignore …`"""
    command = [sys.executable, "-W", "ignore", *map(str, line)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_exported_heads_say_the_same(model):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    for name in ("heads.pt2", "heads.onnx"):
        done = run("-m", "medusa_core", "export", "-o", name, "--json", cwd=model.parent)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["moved"] < 1e-3
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    assert len(blocks) == 2
    done = run("-c", "\n".join([*blocks, COMPARED]), cwd=model.parent)
    assert done.stdout.endswith("alike\n"), done.stderr


ONE_SIZE = """
import torch, medusa_core
plain = medusa_core.open("medusa-model", ["depth"], execution=medusa_core.Execution("plain"))
images = torch.rand(2, 3, 50, 70)
with torch.inference_mode():
    wanted = plain.tasks["depth"].decode(plain(images)["depth"])
    found = torch.export.load("one.pt2").module()(images)
assert found.keys() == {"depth"} and torch.equal(found["depth"], wanted)
print("alike")
"""


def test_a_file_for_one_size_takes_images_that_fit_no_stride(model):
    line = ("--tasks", "depth", "--size", "50x70", "--batch", "2", "-o", "one.pt2", "--json")
    before = sorted(path.name for path in model.parent.iterdir())
    done = run("-m", "medusa_core", "export", *line, cwd=model.parent)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["moved"] == 0
    assert [report["images"][key] for key in ("batch", "height", "width")] == [2, 50, 70]
    assert report["bytes"] == (model.parent / "one.pt2").stat().st_size
    assert sorted(path.name for path in model.parent.iterdir()) == sorted([*before, "one.pt2"])
    done = run("-c", ONE_SIZE, cwd=model.parent)
    assert done.stdout.endswith("alike\n"), done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (("-o", "heads.txt"), "ends in neither .pt2 nor .onnx"),
        (("--tasks", "edges"), "edges"),
        (("--batch", "3"), "without a size"),
        (("--size", "8x64"), "16 to 4096 pixels"),
        (("--size", "64x64", "--batch", "5000"), "1 to 1024"),
        (("-o", "medusa-model/x.pt2"), "lies in the model folder"),
        (("-o", "taken.onnx"), "is there already"),
        (("-o", "folder.pt2", "--replace"), "not a file"),
        (("-o", "nowhere/x.pt2"), "nowhere: no such folder"),
        (("-o", "heads.PT2"), "ends in neither"),
    ],
)
def test_what_cannot_be_exported_is_refused_at_once(medusa, unchanged, line, said, monkeypatch):
    monkeypatch.setattr("medusa_core.workflows.export.exported", lambda *_: (b"new", 0.0))
    Path("taken.onnx").write_bytes(b"somebody's")
    Path("folder.pt2").mkdir()
    done = medusa("export", *line)
    assert done.code != 0
    assert said in done.error
    assert Path("taken.onnx").read_bytes() == b"somebody's"
    assert not list(Path().glob("*.medusa-part"))


def test_a_file_that_is_there_is_replaced_where_that_is_asked_for(medusa, unchanged, monkeypatch):
    monkeypatch.setattr("medusa_core.workflows.export.exported", lambda *_: (b"new", 0.0))
    Path("medusa-model.pt2").write_bytes(b"old")
    assert medusa("export", "--replace").code == 0
    assert Path("medusa-model.pt2").read_bytes() == b"new"


def test_what_a_missing_extra_costs_is_told(medusa, unchanged, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = medusa("export", "-o", "x.onnx")
    assert done.code == USAGE
    assert "medusa-heads[onnx]" in done.hint


def test_a_network_that_says_something_else_is_not_written(medusa, unchanged, monkeypatch):
    from medusa_core.model import exporting

    def wrong(network, program, about):
        return b"", lambda images: {n: v + 1 for n, v in network(images).items()}

    monkeypatch.setitem(exporting.FORMATS, ".pt2", wrong)
    monkeypatch.setattr(exporting, "follow", lambda *_: None)
    done = medusa("export", "--tasks", "depth")
    assert done.code == 1
    assert "Values of head 'depth' would move" in done.error
    assert not Path("medusa-model.pt2").exists()


def test_windows_are_exported_for_one_size(medusa, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medusa_core.workflows.export.exported", lambda *_: (b"new", 0.0))
    swin = "swin_tiny_patch4_window7_224"
    assert medusa("init", "swin", "--backbone", swin, "--from-scratch").code == 0
    line = ("-m", "swin", *ROOMS, "--limit", "4", "--steps", "1", "--size", "64x64", *TINY)
    assert medusa("add-task", "depth", *line).code == 0
    assert "windows" in medusa("export", "-m", "swin").error
    assert "--size" in medusa("export", "-m", "swin").hint
    assert medusa("export", "-m", "swin", "--size", "64x64").code == 0


def test_values_of_whole_images_are_exported_for_one_size(medusa, model, monkeypatch):
    from medusa_core.workflows import export as workflow

    monkeypatch.chdir(model.parent)
    monkeypatch.setattr(workflow, "exported", lambda *_: (b"new", 0.0))
    opened = medusa_core.open(model, execution=medusa_core.Execution("plain"))
    task = opened.tasks["depth"]
    output = task.spec.output.model_copy(update={"kind": "global"})
    monkeypatch.setattr(task, "spec", task.spec.model_copy(update={"output": output}))
    monkeypatch.setattr(workflow.preparation, "opened", lambda *_: opened)
    done = medusa("export")
    assert done.code == USAGE
    assert done.error.startswith("depth: one value an image")
    assert medusa("export", "--size", "64x64").code == 0
    assert medusa("export", "--tasks", "semseg", "--replace", "-o", "two.pt2").code == 0


def test_the_name_of_what_is_read_cannot_be_that_of_a_head(medusa, model, monkeypatch):
    monkeypatch.chdir(model.parent)
    medusa_core.rename_head("depth", "images", model=model)
    done = medusa("export")
    assert done.code == USAGE
    assert "rename-head images" in done.hint
