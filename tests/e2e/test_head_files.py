"""A head leaves a model as one file and enters another one, bit by bit; nothing hostile does."""

import hashlib
import json
import os
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import medusa_core as medusa_package
from medusa_core.plugin_host import default_host
from medusa_core.store import container, files, head_file
from medusa_core.store.folder import ModelFolder

from .conftest import tree


@pytest.fixture
def receiver(original: Path, tmp_path: Path, medusa, model: Path) -> Path:
    """Another folder with the same backbone and one head, semseg."""
    path = Path(shutil.copytree(original, tmp_path / "receiver"))
    medusa("remove-task", "depth", "-m", path, "--yes")
    return path


@pytest.fixture
def file(medusa, model) -> Path:
    assert medusa("export-head", "depth", "-o", "depth.medusa").code == 0
    return Path("depth.medusa")


def files_of(path: Path, name: str) -> dict[str, bytes]:
    [revision] = (path / "heads" / name).iterdir()
    return {f"{revision.name}/{file.name}": file.read_bytes() for file in revision.iterdir()}


def test_the_round_trip_is_bit_exact(medusa, model, receiver, file):
    before = tree(model)
    other = files_of(receiver, "semseg")
    done = medusa("add-task", file, "-m", receiver, "--json")
    assert done.code == 0, done.err
    assert done.document["head"]["probe"] == "equal"
    assert files_of(receiver, "depth") == files_of(model, "depth")
    assert files_of(receiver, "semseg") == other
    assert tree(model) == before
    assert medusa("verify", "-m", receiver).code == 0
    assert medusa("export-head", "depth", "-m", receiver, "-o", "again.medusa").code == 0
    assert Path("again.medusa").read_bytes() == file.read_bytes()


def test_what_is_in_a_file_is_told_before_anything_is_written(medusa, receiver, file):
    before = tree(receiver)
    done = medusa("add-task", file, "-m", receiver, "--dry-run", "--json")
    assert done.code == 0
    assert tree(receiver) == before
    head = done.document["head"]
    assert head["fits"] is True
    assert (head["task"], head["unit"], head["name"]) == ("depth", "m", "depth")
    assert head["plugin"]["distribution"] == "medusa-heads"
    assert head["provenance"]["steps"] == 4
    assert done.document["problems"] == []
    told = medusa("add-task", file, "-m", receiver, "--dry-run")
    for word in ("depth", "results in: m", "needs: medusa-heads", "fits", "steps 4", "bytes"):
        assert word in told.err
    assert "Would add depth" in told.out


def test_classes_are_told(medusa, model):
    medusa("export-head", "semseg")
    told = medusa("add-task", "semseg.medusa", "--dry-run", "--name", "other")
    assert "classes: " in told.err
    assert told.code == 0


def test_another_backbone_is_refused_and_told(medusa, file, tmp_path):
    medusa("init", "third", "--backbone", "test_efficientnet", "--from-scratch", "--seed", "1")
    before = tree(tmp_path / "third")
    done = medusa("add-task", file, "-m", "third")
    assert done.code == 1
    assert "was trained on the backbone" in done.error
    assert "does not fit" in done.err
    dry = medusa("add-task", file, "-m", "third", "--dry-run", "--json")
    assert dry.code == 1
    assert dry.document["head"]["fits"] is False
    assert "was trained on the backbone" in dry.document["problems"][0]
    assert tree(tmp_path / "third") == before


def test_without_a_model_folder_a_head_of_another_backbone_makes_none(medusa, file):
    done = medusa("add-task", file, "-m", "none-yet")
    assert done.code == 1
    assert not Path("none-yet").exists()


def test_names_taken(medusa, unchanged, file):
    done = medusa("add-task", file)
    assert done.code == 2
    assert "exists already" in done.error


def test_replacing_and_naming(medusa, model, receiver, file):
    assert medusa("add-task", file, "-m", receiver, "--name", "depth_indoor").code == 0
    assert medusa("add-task", file, "-m", receiver, "--name", "semseg").code == 2
    assert medusa("add-task", file, "-m", receiver, "--name", "semseg", "--replace").code == 0
    assert not (receiver / "reports" / "semseg.png").exists(), "of the head that was replaced"
    with ModelFolder.open(receiver) as folder:
        assert {n: h.task for n, h in folder.heads.items()} == {
            "semseg": "depth",
            "depth_indoor": "depth",
        }


def test_an_unfinished_training_survives_an_import(medusa, receiver, file):
    state = receiver / ".work" / "depth" / "state.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"hours of work")
    assert medusa("add-task", file, "-m", receiver).code == 0
    assert state.read_bytes() == b"hours of work"


def test_a_missing_plugin_is_named(medusa, receiver, file, monkeypatch):
    before = tree(receiver)
    monkeypatch.setenv("MEDUSA_DISABLE_PLUGINS", "medusa-tasks")
    default_host.cache_clear()
    done = medusa("add-task", file, "-m", receiver)
    assert done.code == 3
    assert "needs the task 'depth' of medusa-heads" in done.error
    assert "change or unset MEDUSA_DISABLE_PLUGINS" in done.hint
    assert tree(receiver) == before


def repacked(file: Path, change) -> None:
    """The file with another record, and true hashes: what a careful liar would send."""
    header, values = container.split(file.read_bytes(), file)
    record = json.loads(header["__metadata__"]["medusa"])
    change(record)
    header["__metadata__"]["medusa"] = json.dumps(record)
    file.write_bytes(container.join(header, values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(task="human_parts"), "cannot be built"),
        (lambda r: r["head"]["config"].update(width=1024), "Cannot load"),
        (lambda r: r["head"]["config"].update(width=1024, fused_width=1024), "Cannot load"),
        (lambda r: r.update(unit="ft"), "records results in 'ft'"),
        (lambda r: r.update(labels={"names": ["a"]}), "records classes"),
        (lambda r: r.update(params=1), "parameters"),
        (lambda r: r["probe"].update(values="AAAA"), "does not compute"),
        (lambda r: r["owner"].update(distribution="\x1b[2Jevil"), "not available"),
        (lambda r: r.update(schema_version=2), "format 2"),
        (lambda r: r.update(code="os:system"), "Extra inputs"),
        (lambda r: r.update(size=[10**9, 1]), "damaged: size"),
        (lambda r: r.update(task="../../evil"), "damaged: task"),
    ],
    ids=[
        "task",
        "width",
        "memory",
        "unit",
        "labels",
        "params",
        "probe",
        "plugin",
        "newer",
        "unknown",
        "size",
        "path",
    ],
)
def test_lies_are_found(medusa, receiver, file, change, message):
    before = tree(receiver)
    repacked(file, change)
    done = medusa("add-task", file, "-m", receiver)
    assert done.code in (1, 3)
    assert re.search(message, done.error), done.error
    assert "\x1b" not in done.err
    assert tree(receiver) == before


def test_damaged_and_foreign_files(medusa, receiver, file):
    before = tree(receiver)
    data = file.read_bytes()
    [weights] = (receiver / "heads" / "semseg").glob("*/head.safetensors")
    for content in (
        b"",
        b"\x00" * 8,
        data[: len(data) // 2],
        data[:-1] + bytes([data[-1] ^ 1]),
        (1 << 40).to_bytes(8, "little") + data[8:],
        weights.read_bytes(),
        b"\x80\x04\x95 a pickle, perhaps",  # refused like any other bytes, never opened as one
    ):
        file.write_bytes(content)
        done = medusa("add-task", file, "-m", receiver)
        assert done.code == 1, content[:40]
        assert done.hint
    assert medusa("add-task", "./nothing.medusa", "-m", receiver).code == 1
    assert medusa("add-task", "./", "-m", receiver).code == 1
    assert tree(receiver) == before


def test_export_replaces_only_when_asked(medusa, unchanged, tmp_path):
    (tmp_path / "depth.medusa").write_text("somebody's")
    done = medusa("export-head", "depth")
    assert done.code == 1
    assert "--replace" in done.hint
    assert (tmp_path / "depth.medusa").read_text() == "somebody's"
    (tmp_path / ".depth.medusa.medusa-part").write_text("left by a killed export")
    (tmp_path / "depth.medusa.tmp").mkdir()
    (tmp_path / "depth.medusa.tmp" / "file").write_text("somebody's")
    assert medusa("export-head", "depth", "--replace").code == 0
    assert head_file.read(tmp_path / "depth.medusa").manifest.task == "depth"
    assert not (tmp_path / ".depth.medusa.medusa-part").exists()
    assert (tmp_path / "depth.medusa.tmp" / "file").read_text() == "somebody's"
    assert medusa("export-head", "unknown").code == 2
    assert medusa("export-head", "depth", "-o", "no/such/folder.medusa").code == 1


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be locked there")
def test_two_exports_to_one_file_take_turns(medusa, unchanged, tmp_path, monkeypatch):
    """The second one waits, be the first one as slow as it likes, and finds the file there."""
    begun, fsync = threading.Event(), os.fsync

    def slow(descriptor):
        begun.set()
        time.sleep(0.5)
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", slow)
    names = {"depth": False, "semseg": True}
    with ThreadPoolExecutor() as pool:
        runs = []
        for name, replace in names.items():
            runs.append(
                pool.submit(
                    medusa_package.export_head,
                    name,
                    tmp_path / "one.medusa",
                    model=unchanged,
                    replace=replace,
                )
            )
            assert begun.wait(60)
        done = [run.result() for run in runs]
    assert [each["name"] for each in done] == list(names)
    assert hashlib.sha256((tmp_path / "one.medusa").read_bytes()).hexdigest() == done[1]["sha256"]
    assert sorted(path.name for path in tmp_path.glob("*one.medusa*")) == ["one.medusa"]


def test_export_never_replaces_what_is_no_head_file(medusa, model, tmp_path):
    other = tmp_path / "photo.jpg"
    other.write_bytes(b"somebody's")
    before = tree(model)
    (tmp_path / "link").symlink_to(model)
    inside = [model / name for name in ("model.json", "backbone.safetensors", "new.medusa")]
    for path in (*inside, tmp_path / "link" / "model.json", other):
        done = medusa("export-head", "depth", "-m", model, "-o", path, "--replace")
        assert done.code == 1
        assert "-o" in done.hint
    assert other.read_bytes() == b"somebody's"
    assert tree(model) == before


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_only_files_are_replaced(medusa, unchanged, tmp_path, kind):
    path = tmp_path / "depth.medusa"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    done = medusa("export-head", "depth", "--replace")
    assert done.code == 1
    assert "not a file" in done.error
    assert path.is_dir() or path.is_fifo()


def test_an_empty_name_is_not_that_of_the_task(medusa, file, receiver):
    before = tree(receiver)
    done = medusa("add-task", file, "-m", receiver, "--name", "", "--replace")
    assert done.code == 2
    assert tree(receiver) == before


def test_the_same_in_python(medusa, model, receiver):
    written = medusa_package.export_head("depth", "a.medusa", model=model)
    assert written["head"]["task"] == "depth"
    added = medusa_package.add_head("a.medusa", model=receiver)
    assert added["head"]["probe"] == "equal"
    assert set(medusa_package.open(receiver).heads) == {"depth", "semseg"}
