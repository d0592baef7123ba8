from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from medusa_core.errors import (
    FingerprintError,
    NameTakenError,
    StoreError,
    UnknownNameError,
    UsageError,
)
from medusa_core.store import commit, files, transaction
from medusa_core.store.check import check
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import Layout


def contents(path):
    """Name → weights of every head, as a reader sees them."""
    with ModelFolder.open(path) as folder:
        return {name: folder.read_head_bytes(name) for name in folder.heads}


def test_what_is_created_is_read_back(model):
    assert contents(model) == {"depth": b"depth weights", "normals": b"normals weights"}
    assert check(model) == []


def test_create_uses_an_empty_folder(tmp_path, backbone):
    commit.create(tmp_path / "a" / "b", backbone(), b"backbone weights")
    (tmp_path / "empty").mkdir()
    commit.create(tmp_path / "empty", backbone(), b"backbone weights")
    assert check(tmp_path / "a" / "b") == check(tmp_path / "empty") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "empty"]


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_create_refuses_a_path_in_use(tmp_path, backbone, kind):
    path = tmp_path / "used"
    if kind == "folder":
        path.mkdir()
        (path / "note.txt").write_text("mine")
    elif kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to(tmp_path / "file")
        (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match=rf"{path} is an output folder in use"):
        commit.create(path, backbone(), b"backbone weights")


def test_create_leaves_a_folder_alone_that_is_in_its_way(tmp_path, backbone, model):
    """Where it writes first, there may be what a crash left of it, and nothing else."""
    way = Layout(tmp_path / "new").staging
    for foreign in ("thesis.txt", "reports"):
        (way / foreign).mkdir(parents=True)
        before = sorted(way.rglob("*"))
        with pytest.raises(StoreError, match=f"in the way: it holds {foreign}"):
            commit.create(tmp_path / "new", backbone(), b"backbone weights")
        assert sorted(way.rglob("*")) == before
        (way / foreign).rmdir()
    (way / "backbone.safetensors.tmp").write_bytes(b"half")
    commit.create(tmp_path / "new", backbone(), b"backbone weights")
    assert check(tmp_path / "new") == []
    assert not way.exists()


def test_a_backbone_that_lost_its_record_is_not_replaced(tmp_path, backbone):
    model = tmp_path / "model"
    commit.create(model, backbone(), b"backbone weights")
    (model / "model.json").unlink()
    (model / ".lock").touch()
    with pytest.raises(StoreError, match="in use"):
        commit.create(model, backbone(), b"backbone weights")
    assert (model / "backbone.safetensors").read_bytes() == b"backbone weights"


def test_heads_are_added_beside_each_other(model, head, fingerprint):
    commit.commit_head(model, "edges", head(b"e"), expect_fingerprint=fingerprint)
    commit.commit_heads(model, {"a": head(b"a"), "b": head(b"b")}, expect_fingerprint=fingerprint)
    assert contents(model) == {
        "depth": b"depth weights",
        "normals": b"normals weights",
        "edges": b"e",
        "a": b"a",
        "b": b"b",
    }
    assert check(model) == []


def test_a_taken_name_needs_replace(model, head, fingerprint):
    with pytest.raises(NameTakenError, match="'depth' exists already") as caught:
        commit.commit_head(model, "depth", head(b"new"), expect_fingerprint=fingerprint)
    assert "--replace" in caught.value.hint
    assert "--name" in caught.value.hint
    assert contents(model)["depth"] == b"depth weights"
    commit.commit_head(model, "depth", head(b"new"), expect_fingerprint=fingerprint, replace=True)
    assert contents(model)["depth"] == b"new"
    assert len(list((model / "heads" / "depth").iterdir())) == 1
    assert check(model) == []


def test_all_heads_or_none(model, head, fingerprint):
    with pytest.raises(NameTakenError):
        commit.commit_heads(
            model, {"new": head(b"n"), "depth": head(b"d")}, expect_fingerprint=fingerprint
        )
    assert sorted(contents(model)) == ["depth", "normals"]
    assert check(model) == []


@pytest.mark.parametrize("where", ["expected", "manifest"])
def test_a_head_of_another_backbone_is_refused(model, head, fingerprint, where):
    other = "0123456789ab" + "0" * 52
    new = head(b"x", fingerprint=other if where == "manifest" else fingerprint)
    expected = other if where == "expected" else fingerprint
    with pytest.raises(FingerprintError, match=r"0123456789ab….*ffffffffffff…") as caught:
        commit.commit_head(model, "x", new, expect_fingerprint=expected)
    assert "cannot be moved" in caught.value.hint
    assert check(model) == []


def test_hash_and_weights_must_agree(model, head, backbone, fingerprint, tmp_path):
    wrong = commit.NewHead(head(b"a").manifest, b"b")
    with pytest.raises(StoreError, match="sha256"):
        commit.commit_head(model, "x", wrong, expect_fingerprint=fingerprint)
    with pytest.raises(StoreError, match="sha256"):
        commit.create(tmp_path / "new", backbone(), b"other")


def test_committing_a_damaged_head_again_mends_it(model, head, fingerprint):
    new = head(b"depth weights")
    weights = next((model / "heads" / "depth").glob("*/head.safetensors"))
    weights.write_bytes(b"rotten")
    commit.commit_head(model, "depth", new, expect_fingerprint=fingerprint, replace=True)
    assert check(model) == []


def test_removed_heads_are_gone_from_the_disk(model):
    commit.remove_heads(model, ["depth"])
    assert contents(model) == {"normals": b"normals weights"}
    assert not (model / "heads" / "depth").exists()
    commit.remove_heads(model, ["normals"])
    assert check(model) == []


def test_all_removed_or_none(model):
    with pytest.raises(UnknownNameError, match="Did you mean 'depth'"):
        commit.remove_heads(model, ["normals", "dept"])
    assert sorted(contents(model)) == ["depth", "normals"]


def test_a_renamed_head_keeps_every_byte_and_its_place(model):
    before = {p.name: p.read_bytes() for p in (model / "heads" / "depth").glob("*/*")}
    commit.rename_head(model, "depth", "depth_indoor")
    after = {p.name: p.read_bytes() for p in (model / "heads" / "depth_indoor").glob("*/*")}
    assert after == before
    assert list(contents(model)) == ["depth_indoor", "normals"]
    assert check(model) == []


def test_rename_refusals(model):
    with pytest.raises(NameTakenError):
        commit.rename_head(model, "depth", "normals")
    with pytest.raises(UnknownNameError):
        commit.rename_head(model, "edges", "x")
    with pytest.raises(UsageError, match="cannot be called"):
        commit.rename_head(model, "depth", "../x")
    next((model / "heads" / "depth").glob("*/head.safetensors")).write_bytes(b"rotten")
    with pytest.raises(StoreError, match="damaged"):
        commit.rename_head(model, "depth", "x")
    assert (model / "heads" / "depth").exists()


def test_a_backbone_is_replaced_only_while_there_are_no_heads(model, backbone, head):
    new, heads = backbone(b"joint", "a" * 64), {"edges": head(b"e", "a" * 64)}
    with pytest.raises(StoreError, match=r"has heads \(depth, normals\)"):
        commit.replace_backbone(model, new, b"joint", heads)
    commit.remove_heads(model, ["depth", "normals"])
    commit.replace_backbone(model, new, b"joint", heads)
    assert (model / "backbone.safetensors").read_bytes() == b"joint"
    assert contents(model) == {"edges": b"e"}
    assert check(model) == []


def test_a_new_backbone_ends_all_training(model, backbone):
    commit.remove_heads(model, ["depth", "normals"])
    Layout(model).work("edges").mkdir(parents=True)
    commit.replace_backbone(model, backbone(b"joint"), b"joint")
    assert not (model / ".work").exists()


def test_the_resume_state_goes_with_the_commit_of_its_head_only(model, head, fingerprint):
    for name in ("depth", "edges"):
        Layout(model).work(name).mkdir(parents=True)
        (Layout(model).work(name) / "state").write_text("half way")
    commit.remove_heads(model, ["depth"])
    assert Layout(model).work("depth").exists()
    commit.commit_head(model, "edges", head(b"e"), expect_fingerprint=fingerprint)
    assert not Layout(model).work("edges").exists()
    assert Layout(model).work("depth").exists()
    assert check(model) == []


def test_foreign_files_are_left_alone(model, head, fingerprint):
    notes = [model / "README", model / "heads" / "depth" / "note.txt", model / "heads" / "x.tmp"]
    for note in notes:
        note.write_text("mine")
    commit.remove_heads(model, ["depth"])
    assert all(note.exists() for note in notes)
    assert sorted(p.path for p in check(model)) == sorted(map(str, notes))


def test_deleting_does_not_follow_links(model, head, fingerprint, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    work = Layout(model).work("edges")
    work.parent.mkdir()
    work.symlink_to(outside)
    (model / "model.json.tmp").symlink_to(outside / "precious")
    (model / "heads" / "gone").symlink_to(outside)
    commit.commit_head(model, "edges", head(b"e"), expect_fingerprint=fingerprint)
    assert (outside / "precious").read_text() == "mine"
    assert not work.is_symlink()
    work.parent.rmdir()
    work.parent.symlink_to(outside)
    commit.commit_head(model, "precious", head(b"p"), expect_fingerprint=fingerprint)
    assert (outside / "precious").read_text() == "mine"


def test_no_head_is_written_through_a_link(model, head, fingerprint, tmp_path):
    (tmp_path / "outside").mkdir()
    (model / "heads" / "edges").symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError, match="heads/edges"):
        commit.commit_head(model, "edges", head(b"e"), expect_fingerprint=fingerprint)
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "a\n", "a" * 42, ".work"])
def test_names_cannot_leave_the_folder(model, head, fingerprint, name):
    with pytest.raises(UsageError, match="cannot be called"):
        commit.commit_head(model, name, head(), expect_fingerprint=fingerprint)
    with pytest.raises(UsageError, match="cannot be called"):
        Layout(model).work(name)


def test_no_lock_file_is_made_where_there_is_no_model(tmp_path):
    with pytest.raises(StoreError, match="There is no model folder at") as caught:
        commit.remove_heads(tmp_path, ["depth"])
    assert "medusa init" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_does_not_end_is_reported(model, monkeypatch):
    monkeypatch.setattr(transaction, "LOCK_SECONDS", 0.1)
    with FileLock(model / ".lock"), ThreadPoolExecutor(1) as other:
        removal = other.submit(commit.remove_heads, model, ["depth"])
        with pytest.raises(StoreError, match="Another medusa process") as caught:
            removal.result()
    assert "Wait" in caught.value.hint
    assert sorted(contents(model)) == ["depth", "normals"]


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (OSError(28, "No space left on device"), "disk space"),
        (PermissionError(13, "Permission denied"), "own the folder"),
        (OSError(30, "Read-only file system"), "read-only"),
        (OSError(5, "Input/output error"), "Check the disk"),
    ],
)
def test_system_errors_say_where_why_and_what_to_do(
    model, head, fingerprint, monkeypatch, error, hint
):
    def listing():  # some versions of filelock delete the lock file when it is released
        return sorted(path for path in model.rglob("*") if path.name != ".lock")

    before = listing()

    def fail(*args):
        raise error

    monkeypatch.setattr(files.os, "write", fail)
    with pytest.raises(StoreError, match=re.escape(error.strerror)) as caught:
        commit.commit_head(model, "x", head(), expect_fingerprint=fingerprint)
    monkeypatch.undo()
    assert "heads/x" in caught.value.message
    assert hint in caught.value.hint
    assert listing() == before
    assert check(model) == []


def test_a_folder_that_cannot_be_made_is_reported(tmp_path, backbone):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Cannot make the folder"):
        commit.create(tmp_path / "file" / "model", backbone(), b"backbone weights")


def run_python(code: str) -> str:
    return start_python(code).communicate()[0]


def start_python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_two_processes_lose_no_update(model):
    code = """
        import sys, time
        from hashlib import sha256
        from medusa_core.store import commit
        from medusa_core.store.commit import NewHead
        from medusa_core.store.folder import ModelFolder
        path = {path!r}
        with ModelFolder.open(path) as folder:
            like = folder.heads["depth"]
        for i in range(10):
            weights = ("{who}" + str(i)).encode()
            manifest = like.model_copy(update={{"sha256": sha256(weights).hexdigest()}})
            head = NewHead(manifest, weights)
            commit.commit_head(path, "{who}" + str(i), head, expect_fingerprint=like.fingerprint)
            if i % 2:
                commit.remove_heads(path, ["{who}" + str(i - 1)])
            with ModelFolder.open(path) as folder:
                [folder.read_head_bytes(name) for name in folder.heads]
        print("done")
    """
    processes = [start_python(code.format(path=str(model), who=who)) for who in "ab"]
    assert [process.communicate()[0] for process in processes] == ["done\n", "done\n"]
    expected = {f"{who}{i}" for who in "ab" for i in range(1, 10, 2)}
    assert set(contents(model)) == {"depth", "normals", *expected}
    assert check(model) == []


def test_two_processes_create_one_folder(tmp_path):
    code = """
        import sys
        sys.path.insert(0, {tests!r})
        from conftest import BACKBONE, make_backbone
        from medusa_core.errors import StoreError
        from medusa_core.store import commit
        try:
            commit.create({path!r}, make_backbone(), BACKBONE)
        except StoreError as err:
            print(err.message)
        else:
            print("made")
    """
    path = tmp_path / "model"
    code = code.format(path=str(path), tests=str(Path(__file__).parent))
    answers = [process.communicate()[0] for process in [start_python(code) for _ in range(3)]]
    assert sum(answer == "made\n" for answer in answers) == 1
    assert sum("in use" in answer for answer in answers) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert check(path) == []


def test_changing_and_checking_a_folder_needs_no_torch(model):
    answer = run_python(f"""
        import sys
        from medusa_core.store import check, commit, files, folder, layout, manifest, records
        with folder.ModelFolder.open({str(model)!r}) as opened:
            assert list(opened.heads) == ["depth", "normals"]
        commit.rename_head({str(model)!r}, "depth", "x")
        commit.remove_heads({str(model)!r}, ["x"])
        assert check.check({str(model)!r}) == []
        print(sorted({{"torch", "numpy", "safetensors"}} & sys.modules.keys()))
    """)
    assert answer == "[]\n"
