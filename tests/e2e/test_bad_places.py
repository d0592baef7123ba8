"""Places that cannot be read or written, are full or in use: an error, and nothing is lost."""

import errno
import os
import re
import shutil
from types import SimpleNamespace

import pytest

from medusa_core.errors import FAILED, USAGE
from medusa_core.store import files

from .conftest import ADD, ROOMS


def test_an_output_folder_in_use(medusa, unchanged, photos):
    for folder in (unchanged, photos):
        before = sorted(os.listdir(folder))
        done = medusa("init", folder, "--backbone", "test_resnet", "--from-scratch")
        assert done.code == FAILED
        assert f"{folder} is an output folder in use" in done.error
        assert "does not exist, or is empty" in done.hint
        assert sorted(os.listdir(folder)) == before


def test_a_model_in_a_model_is_refused(medusa, unchanged):
    """A change of the outer one would delete it: it has the name of an old revision."""
    for inner in ("inner", "heads/depth/0123456789abcdef"):
        line = ("init", unchanged / inner, "--backbone", "test_resnet", "--from-scratch")
        done = medusa(*line)
        assert done.code == FAILED
        assert f"lies in the model folder {unchanged}" in done.error


def test_a_model_in_one_that_cannot_be_read_is_refused(medusa, model):
    (model / "model.json").write_text("{")
    done = medusa("init", model / "inner", "--backbone", "test_resnet", "--from-scratch")
    assert done.code == FAILED
    assert "lies in the model folder" in done.error


def test_links_that_lead_to_themselves(medusa, unchanged, tmp_path):
    loop = tmp_path / "loop.medusa"
    loop.symlink_to(loop)
    done = medusa("init", loop, "--backbone", "test_resnet", "--from-scratch")
    assert done.code == FAILED
    assert "Too many levels of symbolic links" in done.error
    assert medusa("export-head", "depth", "-o", loop, "--replace").code == 0
    assert loop.is_file()


@pytest.fixture
def no_writing(unchanged, monkeypatch):
    """The model folder refuses every write, as it does to people who do not own it."""
    real_open, real_mkdir = os.open, os.mkdir

    def ours(path):
        return os.path.abspath(os.fspath(path)).startswith(str(unchanged))

    def opened(path, flags, *rest, **keywords):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and ours(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, flags, *rest, **keywords)

    def made(path, *rest, **keywords):
        if ours(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_mkdir(path, *rest, **keywords)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "mkdir", made)
    return unchanged


@pytest.mark.parametrize(
    "line", [ADD, ("remove-task", "depth", "-y"), ("rename-head", "depth", "d")]
)
def test_no_permission_to_write_the_model(medusa, no_writing, line):
    done = medusa(*line)
    assert done.code == FAILED
    assert "medusa-model" in done.error
    assert "Permission denied" in done.error
    assert "you own the folder" in done.hint


def test_no_permission_to_read_is_not_needed_to_write(medusa, no_writing, photos):
    """What only reads works in a folder that cannot be written."""
    assert medusa("list").code == 0
    assert medusa("verify").code == 0
    assert medusa("eval", *ROOMS, "--limit", "1").code == 0
    assert medusa("predict", photos / "one", "--out", photos.parent / "out").code == 0


def test_predict_does_not_write_over_the_images_it_reads(medusa, unchanged, photos):
    street, clash = photos / "one" / "street.png", photos / "one" / "street.depth.png"
    shutil.copy(street, clash)
    before = clash.read_bytes()
    done = medusa("predict", photos / "one", "--out", photos / "one", "--tasks", "depth")
    assert done.code == USAGE
    assert "street.depth.png: is one of the images" in done.error
    assert "--out" in done.hint
    assert clash.read_bytes() == before
    assert sorted(path.name for path in clash.parent.iterdir()) == [clash.name, street.name]


def test_a_name_too_long_for_its_results_is_cut(medusa, unchanged, photos, tmp_path):
    shutil.move(photos / "one" / "street.png", photos / "one" / f"{'é' * 120}.png")
    done = medusa("predict", photos / "one", "--out", tmp_path / "out", "--tasks", "depth")
    assert done.code == 0
    [written] = (tmp_path / "out").glob("*.png")
    assert re.fullmatch(r"é{91}-[0-9a-f]{16}\.depth\.png", written.name)


def test_a_report_is_not_written_through_a_link(medusa, model, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (model / "reports").mkdir(exist_ok=True)
    (model / "reports" / "edges.png").symlink_to(victim)
    assert medusa(*ADD).code == 0
    assert victim.read_text() == "mine"
    assert not (model / "reports" / "edges.png").is_symlink()


def test_no_permission_to_write_results(medusa, unchanged, photos, tmp_path):
    (tmp_path / "out").write_text("a file where a folder is wanted")
    done = medusa("predict", photos)
    assert done.code in (FAILED, USAGE)
    assert "out" in done.error


def test_a_full_disk_is_noticed_before_features_are_computed(
    medusa, unchanged, monkeypatch, tmp_path
):
    monkeypatch.setenv("MEDUSA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    done = medusa(*ADD)
    assert done.code == FAILED
    assert "are needed, 0.0 MB are free" in done.error
    assert "MEDUSA_CACHE" in done.hint
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("line", [ADD, ("rename-head", "depth", "d")])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_disk_that_is_full_at_the_commit(medusa, unchanged, monkeypatch, line, at):
    real, calls = files.write, []

    def write(path, data, through=None):
        if ".work" not in path.parts:
            calls.append(path)
        if len(calls) == at:
            files.temporary(path).write_bytes(data[:10])
            with files.reported("write", path):
                raise OSError(errno.ENOSPC, "No space left on device")
        real(path, data, through)

    monkeypatch.setattr(files, "write", write)
    done = medusa(*line)
    assert done.code == FAILED
    assert "No space left on device" in done.error
    assert "Free some disk space" in done.hint
    assert ("--resume" in done.hint) == (line is ADD)
