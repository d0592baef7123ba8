"""Samples and targets that cannot be used: the error names the file, and the model is unchanged."""

import json
import shlex

import numpy as np
import pytest
from PIL import Image

from medusa_core.errors import FAILED, USAGE

from .conftest import FAST, TINY, add


def _missing(path):
    path.unlink()


def _truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def _text(path):
    path.write_text("not an image")


def _other_size(path):
    Image.fromarray(np.zeros((32, 64, 3), np.uint8)).save(path)


@pytest.mark.parametrize(
    ("damage", "file", "said"),
    [
        (_missing, "image/im3.png", "image/im3.png: no such file"),
        (_truncated, "image/im3.png", "image/im3.png: truncated or damaged"),
        (_text, "image/im3.png", "image/im3.png: not an image"),
        (_other_size, "image/im3.png", "depth/im3.npy: 64×64 but its image is 64×32"),
        (_truncated, "depth/im3.npy", "depth/im3.npy: not a .npy file"),
    ],
)
@pytest.mark.parametrize("command", ["add-task", "eval"])
def test_a_damaged_sample(medusa, unchanged, folder, damage, file, said, command):
    damage(folder / file)
    evaluate = ("eval", "--tasks", "depth", "--data", f"folder:{folder}", "--split", "train")
    done = medusa(*(evaluate if command == "eval" else add("depth", folder)))
    assert done.code == FAILED
    assert said in done.error
    assert "--on-bad-sample skip" in done.hint or "same size" in done.hint


def test_estimates_can_do_without_a_damaged_sample(medusa, unchanged, folder):
    _missing(folder / "image" / "im3.png")
    line = ("estimate", "depth", "--data", f"folder:{folder}", *FAST[2:4], *TINY)
    assert "--on-bad-sample skip" in medusa(*line).hint
    done = medusa(*line, "--on-bad-sample", "skip")
    assert done.code == 0
    again = shlex.join(["medusa", "add-task", *map(str, line[1:]), "--on-bad-sample", "skip"])
    assert done.out.splitlines()[-1] == f"Next: {again}"


def test_a_truncated_label_map(medusa, unchanged, folder):
    _truncated(folder / "semseg" / "im3.png")
    done = medusa(*add("semseg", folder))
    assert done.code == FAILED
    assert "semseg/im3.png: truncated or damaged" in done.error


def test_a_label_outside_the_schema(medusa, unchanged, folder):
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(folder / "semseg" / "im2.png")
    done = medusa(*add("semseg", folder))
    assert done.code == FAILED
    assert "semseg/im2.png: label 7 is outside the schema: 2 classes" in done.error
    assert "ignore_index" in done.hint


def test_depth_that_is_not_a_number(medusa, unchanged, folder):
    values = np.ones((64, 64), np.float32)
    values[5, :7] = np.nan
    np.save(folder / "depth" / "im1.npy", values)
    done = medusa(*add("depth", folder))
    assert done.code == FAILED
    assert "depth/im1.npy: 7 values are NaN" in done.error
    assert '"invalid": "nan"' in done.hint


def test_a_set_without_a_valid_pixel(medusa, unchanged, folder):
    for path in (folder / "depth").iterdir():
        np.save(path, np.zeros((64, 64), np.float32))
    done = medusa(*add("depth", folder))
    assert done.code == FAILED
    assert "own: no valid pixel of 'depth' in 6 images" in done.error
    assert done.hint


def without_depth(folder, *numbers):
    """Some images lose their depth: one its file, the others every valid pixel."""
    (folder / "depth" / f"im{numbers[0]}.npy").unlink()
    for number in numbers[1:]:
        np.save(folder / "depth" / f"im{number}.npy", np.zeros((64, 64), np.float32))


def test_images_without_the_target_are_no_part_of_a_training(medusa, model, folder, tmp_path):
    """They would be steps that teach nothing, and a selection part that measures nothing."""
    without_depth(folder, 0, 3, 4)
    line = ("add-task", "depth", "--name", "own", "--data", f"folder:{folder}", *FAST[2:4], *TINY)
    done = medusa(*line, "--batch", "1", "--epochs", "4", "--json")
    assert done.code == 0, done.err
    assert "3 of 6 images of own have 'depth': own is trained on those." in done.err
    [stored] = (model / "heads" / "own").glob("*/head.json")
    provenance = json.loads(stored.read_text())["provenance"]
    assert (provenance["images"], provenance["selection_images"], provenance["steps"]) == (2, 1, 8)
    head = done.document["heads"]["own"]
    assert (head["images"], head["steps"]) == (3, 8)
    log = [json.loads(line) for line in (tmp_path / head["log"]).read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in log if "loss" in line}
    assert set(losses) == set(range(1, 9))
    assert None not in losses.values()
    assert all(value is not None for value in head["metrics"].values())


def test_estimates_are_of_images_that_have_the_target(medusa, model, folder):
    without_depth(folder, 0, 3, 4)
    done = medusa("estimate", "depth", "--data", f"folder:{folder}", *FAST[2:4], *TINY, "--json")
    assert done.code == 0, done.err
    assert done.document["images"] == 2
    assert done.document["based_on"]["selection_images"] == 1
    without_depth(folder, 1, 2)  # one is left
    done = medusa("estimate", "depth", "--data", f"folder:{folder}", *FAST[2:4], *TINY)
    assert (done.code, "cannot be measured" in done.error) == (FAILED, True)


def test_one_image_with_the_target_is_too_few(medusa, unchanged, folder):
    without_depth(folder, 0, 1, 2, 3, 5)
    done = medusa(*add("depth", folder))
    assert done.code == FAILED
    assert done.error.startswith("own: 1 of 6 images has 'depth': at least 2 are needed")


def test_training_images_without_a_valid_pixel(medusa, unchanged, folder, monkeypatch):
    """Depth in the selection part alone."""
    monkeypatch.setattr(
        "medusa_core.workflows.training.head_run.labelled_split", lambda *_: ([0, 1, 2, 3, 4], [5])
    )
    for number in range(5):
        np.save(folder / "depth" / f"im{number}.npy", np.zeros((64, 64), np.float32))
    done = medusa(*add("depth", folder))
    assert done.code == FAILED
    assert done.error == "Training own: none of 4 batches had a valid pixel."
    assert done.hint


@pytest.mark.parametrize(
    ("split", "said"),
    [("empty", "split 'empty' has no images"), ("one", "1 image is too few: at least 2")],
)
def test_too_few_images(medusa, unchanged, folder, split, said):
    description = json.loads((folder / "dataset.json").read_text())
    description["splits"]["one"] = "one.txt"
    (folder / "dataset.json").write_text(json.dumps(description))
    (folder / "one.txt").write_text("im0")
    done = medusa(*add("depth", folder, "--split", split))
    assert done.code == FAILED
    assert said in done.error


def test_no_data_set_there(medusa, unchanged, tmp_path):
    done = medusa(*add("depth", tmp_path / "nowhere"))
    assert done.code == FAILED
    assert "nowhere/dataset.json: no such file" in done.error
    assert "dataset.json" in done.hint


def test_a_data_set_without_the_target(medusa, unchanged, folder):
    done = medusa(*add("normals", folder))
    assert done.code == FAILED
    assert "own: no target 'normals' for task 'normals'. Its targets: depth, semseg." in done.error
    done = medusa("eval", "--tasks", "depth", "--data", f"semseg=folder:{folder}")
    assert done.code == USAGE


def test_other_labels_at_evaluation_are_shown(medusa, unchanged, folder):
    done = medusa("eval", "--tasks", "semseg", "--data", f"folder:{folder}")
    assert done.code == FAILED
    assert "'semseg'" in done.error
    assert "15 classes against 2" in done.error
    assert "only in the second: sky, road" in done.error
    assert "medusa add-task" in done.hint
