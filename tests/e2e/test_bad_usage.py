"""What does not exist or makes no sense in a command line: one clear error, and nothing is done."""

import os

import pytest

from medusa_core.errors import FAILED, USAGE


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("add-task dept", "Unknown task 'dept'. Did you mean 'depth'? Known: depth,", "plugins"),
        ("add-task normals,dept", "Unknown task 'dept'", "plugins"),
        ("add-task edges --data roms", "Unknown data set 'roms'. Did you mean 'rooms'?", "plugins"),
        ("add-task edges --data Rooms/", "'Rooms/' is not of the form", "--data folder:"),
        ("add-task edges --data egdes=rooms", "'egdes'. Did you mean 'edges'?", "egdes=rooms"),
        ("add-task edges --split tran", "Unknown split 'tran'. Did you mean 'train'?", ""),
        ("add-task edges --head medsua", "'medsua'. Did you mean 'medusa'?", "plugins"),
        ("add-task edges --set head.widht=4", "head.widht", "width, fused_width"),
        ("add-task edges --set head.width=0", "head.width", "width, fused_width"),
        ("add-task edges --set head.width=true", "head.width: True is no number", ""),
        ("add-task edges --data folder:\udcff", "not a path in UTF-8", "Rename"),
        ("bench --threads 100000", "--threads", ""),
        ("add-task edges --set depth.width=4", "only settings of the head", "head.width"),
        ("add-task edges --set width=4", "is not SECTION.KEY=VALUE", ""),
        ("add-task edges --steps 0", "--steps", ""),
        ("add-task edges --epochs 0", "--epochs", ""),
        ("add-task edges --steps 3 --epochs 2", "exclude each other", ""),
        ("add-task edges --batch 0", "--batch", ""),
        ("add-task edges --lr 0", "--lr", ""),
        ("add-task edges --lr nan", "--lr nan", ""),
        ("add-task edges --lr 1e300", "--lr 1e+300", ""),
        ("add-task edges --epochs inf", "--epochs inf", ""),
        ("add-task edges --epochs nan", "--epochs nan", ""),
        (f"add-task edges --seed {10**30}", "4294967295", ""),
        ("add-task edges --device meta", "Device 'meta' cannot be used", ""),
        ("add-task edges --device mps", "computed on cpu and cuda devices alone", ""),
        ("add-task edges --device hpu", "Device 'hpu' cannot be used", ""),
        ("add-task edges --size 8x8", "sides must be 32 to 4096", "--size HxW"),
        ("add-task edges --size 64", "'64' is not HEIGHTxWIDTH", ""),
        ("add-task edges --size 32x32 --batch 1", "BatchNorm needs", "--batch"),
        ("add-task edges --device gpu", "Device 'gpu' cannot be used", ""),
        ("add-task edges,edges", "named twice", "--name"),
        ("add-task edges,normals --name both", "--name goes with a single task", ""),
        ("add-task edges --name Not-A-Name", "'Not-A-Name'", ""),
        ("add-task edges --name depth", "A head 'depth' exists already", "--replace"),
        ("add-task depth", "A head 'depth' exists already", "--replace"),
        ("add-task ./depth.medusa --steps 3", "--steps is for training", "--dry-run"),
        ("init other --backbone resnet19 --from-scratch", "Did you mean 'resnet18'?", "timm"),
        ("init other --backbone resnet18", "where the weights", "--pretrained"),
        ("init other --from-scratch", "Which backbone", "--backbone NAME"),
        ("eval --tasks detph", "Unknown head 'detph'. Did you mean 'depth'?", "medusa list"),
        ("eval --split test", "Unknown split 'test'. Known: train, val", ""),
        ("eval --data folder", "needs a path", "folder:PATH"),
        ("eval --data depht=rooms", "Did you mean 'depth'?", "depht=rooms"),
        ("eval --min depth.rmes=1", "Unknown metric 'rmes'. Did you mean 'rmse'?", "'depth'"),
        ("eval --min dept.rmse=1", "Unknown head 'dept'. Did you mean 'depth'?", "--min"),
        ("eval --tasks semseg --min depth.rmse=1", "Unknown head 'depth'", "--min"),
        ("eval --min depth.rmse", "not of the form HEAD.METRIC=VALUE", "semseg.miou=0.4"),
        ("predict photos/one --tasks deph", "Unknown head 'deph'. Did you mean 'depth'?", "list"),
        ("predict nothing.png", "nothing.png: no such file", ""),
        ("predict empty", "no images to predict", "files or folders"),
        ("rename-head dept x", "Unknown head 'dept'. Did you mean 'depth'?", ""),
        ("rename-head depth semseg", "A head 'semseg' exists already", ""),
        ("rename-head depth Semseg", "A head cannot be called 'Semseg'", "lower-case"),
        ("remove-task depht --yes", "Unknown head 'depht'. Did you mean 'depth'?", "medusa list"),
        ("remove-task depth,nothing --yes", "Unknown head 'nothing'", "medusa list"),
        ("list -q", "No such option", "medusa -q …"),
        ("evaluate", "Unknown command 'evaluate'. Did you mean 'eval'?", "--help"),
    ],
)
def test_what_does_not_exist_or_makes_no_sense(medusa, unchanged, photos, line, error, hint):
    (unchanged.parent / "empty").mkdir()
    done = medusa(*line.split())
    assert done.code == USAGE
    assert error in done.error
    assert hint in done.hint
    assert done.out == ""
    assert not (unchanged.parent / "other").exists()
    assert not (unchanged.parent / "out").exists()


@pytest.mark.parametrize(
    "command", ["list", "eval", "verify", "add-task depth", "predict photos/one"]
)
def test_a_folder_without_a_model(medusa, photos, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    done = medusa(*command.split(), "-m", "photos")
    assert done.code == FAILED
    assert done.error == "There is no model folder at photos: it has no model.json."
    assert done.hint == "Name a model folder, or make one in another place: medusa init NEW"


def test_a_new_folder_is_made_before_training_and_nothing_else(medusa, tmp_path, monkeypatch):
    """A mistake in the task is found before a folder is made for it."""
    monkeypatch.chdir(tmp_path)
    done = medusa("add-task", "dept")
    assert done.code == USAGE
    assert os.listdir(tmp_path) == []
