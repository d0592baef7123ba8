"""Samples that break halfway: named, or left out and counted with `--on-bad-sample skip`."""

import json

import numpy as np
import pytest
from PIL import Image

from medusa_core.errors import FAILED

from .conftest import add


@pytest.mark.parametrize("damage", ["content", "links"])
def test_a_sample_that_breaks_halfway_is_named_or_skipped(medusa, model, folder, damage):
    """Four of six samples are left: an image cut short and a target with impossible values."""
    image, depth = folder / "image" / "im3.png", folder / "depth" / "im5.npy"
    if damage == "content":
        image.write_bytes(image.read_bytes()[:200])
        np.save(depth, np.full((64, 64), -3.0, np.float32))
    for path in (image, depth) if damage == "links" else ():
        path.unlink()
        path.symlink_to(path.name)
    line = add("depth", folder)
    done = medusa(*line)
    assert done.code == FAILED
    assert "im3" in done.error
    assert not (model / "heads" / "own").exists()
    done = medusa(*line, "--on-bad-sample", "skip", "--json")
    assert done.code == 0, done.err
    skipped = done.document["heads"]["own"]["skipped"]
    assert (skipped["count"], set(skipped["samples"])) == (2, {"im3", "im5"})
    assert done.document["heads"]["own"]["images"] == 4
    assert "im3" in done.err
    [record] = (model / "heads" / "own").glob("*/head.json")
    provenance = json.loads(record.read_text())["provenance"]
    assert provenance["skipped"]["count"] == 2
    assert provenance["images"] + provenance["selection_images"] == 4
    assert medusa(*line, "--replace").code == FAILED, "what is cached with skipping is not reused"


def test_a_sample_that_breaks_halfway_can_be_left_out_of_an_evaluation(medusa, model, folder):
    """Scores are those over the other samples, and what was left out is counted."""
    line = ["eval", "-m", model, "--tasks", "depth", "--data", f"folder:{folder}"]
    line += ["--split", "train", "--engine", "plain", "--json"]
    image, depth = folder / "image" / "im3.png", folder / "depth" / "im5.npy"
    ids = (folder / "train.txt").read_text().split()
    (folder / "train.txt").write_text("\n".join(n for n in ids if n not in ("im3", "im5")))
    expected = medusa(*line).document
    (folder / "train.txt").write_text("\n".join(ids))
    image.write_bytes(image.read_bytes()[:200])
    np.save(depth, np.full((64, 64), -3.0, np.float32))
    done = medusa(*line)
    assert done.code == FAILED
    assert "im3" in done.error
    done = medusa(*line, "--on-bad-sample", "skip")
    assert done.code == 0, done.err
    assert done.document["heads"] == expected["heads"]
    assert expected["skipped_samples"] == {"count": 0, "samples": {}}
    skipped = done.document["skipped_samples"]
    assert skipped["count"] == 2
    assert {name.rpartition(": ")[2] for name in skipped["samples"]} == {"im3", "im5"}
    line.remove("--json")
    assert "Skipped: 2 samples" in medusa(*line, "--on-bad-sample", "skip").out
    for path in (folder / "image").iterdir():
        path.write_bytes(b"")
    done = medusa(*line, "--on-bad-sample", "skip")
    assert done.code == FAILED
    assert "no sample of split 'train' can be used" in done.error


def test_a_sample_that_breaks_halfway_can_be_left_out_of_a_joint_training(medusa, tmp_path, folder):
    new = tmp_path / "new"
    assert medusa("init", new, "--backbone", "test_resnet", "--from-scratch").code == 0
    image = folder / "image" / "im3.png"
    image.write_bytes(image.read_bytes()[:200])
    line = ["train-backbone", new, "--tasks", "depth", "--data", f"folder:{folder}"]
    line += ["--head", "linear", "--steps", 1, "--batch", 2, "--size", "64x64"]
    done = medusa(*line)
    assert done.code == FAILED
    assert "im3" in done.error
    planned = medusa(*line, "--on-bad-sample", "skip", "--dry-run", "--json").document
    done = medusa(*line, "--on-bad-sample", "skip", "--json")
    assert done.code == 0, done.err
    for document in (planned, done.document):
        assert document["skipped"]["count"] == 1
        assert set(document["skipped"]["samples"]) == {"im3"}
    provenance = json.loads((new / "model.json").read_text())["backbone"]["provenance"]
    assert provenance["skipped"]["count"] == 1
    assert provenance["images"] + provenance["selection_images"] == 5


def test_a_data_set_without_a_usable_sample_is_not_skipped_over(medusa, unchanged, folder):
    for path in (folder / "image").iterdir():
        path.write_bytes(b"")
    done = medusa(*add("depth", folder), "--on-bad-sample", "skip")
    assert done.code == FAILED
    assert "6 of 6 samples" in done.error


def test_a_target_that_cannot_be_used_costs_the_scores_of_no_other_head(medusa, model, folder):
    line = ["eval", "-m", model, "--data", f"folder:{folder}", "--split", "train", "--json"]
    line += ["--engine", "plain", "--on-bad-sample", "skip"]
    assert medusa(*add("semseg", folder)).code == 0
    Image.fromarray(np.full((64, 64), 77, np.uint8)).save(folder / "semseg" / "im3.png")
    alone = {name: medusa(*line, "--tasks", name).document for name in ("depth", "own")}
    together = medusa(*line).document
    for name, document in alone.items():
        assert together["heads"][name] == document["heads"][name]
    assert together["heads"]["depth"]["images"] == together["heads"]["own"]["images"] + 1
    assert set(together["skipped_samples"]["samples"]) == {f"folder:{folder}: im3"}
