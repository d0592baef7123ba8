"""What two commands at a time do to one folder: one of them is told, nothing is lost."""

import os

import pytest

from medusa_core.errors import FAILED
from medusa_core.progress import SilentProgress
from medusa_core.store import transaction
from medusa_core.store.layout import JOINT
from medusa_core.workflows import init as making

from .conftest import ADD, FAST, ROOMS, TINY


@pytest.fixture
def empty(medusa, tmp_path, monkeypatch):
    """A model folder without heads, in the working directory."""
    monkeypatch.chdir(tmp_path)
    made = medusa("init", "medusa-model", "--backbone", "test_efficientnet", "--from-scratch")
    assert made.code == 0
    return tmp_path / "medusa-model"


def test_two_trainings_of_one_name_are_not_begun(medusa, model):
    with transaction.training(model, "edges"):
        done = medusa(*ADD)
        assert done.code == FAILED
        assert "is training a head 'edges'" in done.error
        assert medusa("rename-head", "depth", "d").code == 0, "writers are not kept waiting"
    assert medusa(*ADD).code == 0


def test_a_head_is_not_trained_while_its_backbone_is(medusa, empty):
    """Whichever ended last could not be committed."""
    joint = ("train-backbone", "--tasks", "depth,semseg", *ROOMS, *FAST[:-2], *TINY)
    with transaction.training(empty, JOINT):
        head = medusa(*ADD)
        assert head.code == FAILED
        assert "is training the backbone of" in head.error
    with transaction.training(empty, "edges"):
        backbone = medusa(*joint)
        assert backbone.code == FAILED
        assert "is training a head 'edges' of" in backbone.error
    assert not list((empty / ".work").glob("*/*"))
    assert medusa(*joint).code == 0


def test_what_a_killed_training_left_is_in_nobodys_way(medusa, empty):
    (empty / ".work").mkdir()
    for name in ("edges", JOINT):
        (empty / ".work" / f"{name}.lock").touch()
    assert medusa(*ADD).code == 0


def test_a_model_that_appears_meanwhile_is_used(tmp_path, monkeypatch):
    """Two commands are given a folder that does not exist: the slower one finds it made."""
    real = making.init

    def init(*args, **kwargs):
        real(*args)
        return real(*args, **kwargs)

    monkeypatch.setattr(making, "init", init)
    making.ensure(tmp_path / "model", SilentProgress())
    assert (tmp_path / "model" / "model.json").exists()


def test_an_empty_folder_is_filled_where_it_is(medusa, tmp_path, monkeypatch):
    """A shell may stand in it, or it may be a mounted volume."""
    monkeypatch.chdir(tmp_path)
    before = os.stat(tmp_path).st_ino
    line = ("init", ".", "--backbone", "test_efficientnet", "--from-scratch")
    assert medusa(*line).code == 0
    assert os.stat(".").st_ino == before
    assert medusa("verify", "-m", ".").code == 0
    again = medusa(*line)
    assert again.code == FAILED
    assert "in use" in again.error
