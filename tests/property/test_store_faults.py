"""Whatever fails, and whenever: a model folder is in the state before a change or after it.

Each change runs once per system call it makes, and that call fails: with an error, with an error
that stays (a full disk, one that has become read-only), with a crash (nothing runs after it), or
with a power failure (and what was not synced is lost, or not, at random). All bytes, those of
weights included, are written by `store.files`, so every one of them is in reach. With `-n 0 -s`
the number of faults is printed.
"""

from __future__ import annotations

import itertools
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from benchmarks.reliability.faults import Crash, FaultyOS, PowerFailure
from medusa_core.api import HeadRef
from medusa_core.errors import StoreError
from medusa_core.store import commit, container, files, head_file
from medusa_core.store.check import check
from medusa_core.store.commit import NewHead
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import Layout
from medusa_core.store.manifest import BackboneRecord, HeadManifest, Owner, Probe
from medusa_core.workflows.head_files import export_head

EXPORTED = "exported.medusa"
OLD, NEW = "0" * 64, "1" * 64
OWNER = Owner(distribution="d", version="1")
PROBE = Probe(shape=(1,), values="", torch="2", cpu_capability="x", device="cpu")


@pytest.fixture
def tmp_path(tmp_path):
    """A folder in memory, where there is one: thousands of files are written."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def no_real_syncs(monkeypatch):
    """Power failures are simulated; the disk need not be kept busy."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def backbone(weights: bytes, fingerprint: str) -> BackboneRecord:
    return BackboneRecord(
        name="tiny",
        out_indices=(1,),
        channels=(8,),
        strides=(4,),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        weights_sha256=sha256(weights).hexdigest(),
        fingerprint=fingerprint,
        params=1,
        gmacs=0.1,
    )


def head(content: bytes, fingerprint: str = OLD) -> NewHead:
    """A head whose one tensor holds these bytes."""
    entry = {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}
    weights = container.join({"weight": entry}, content)
    manifest = HeadManifest(
        task="depth",
        head=HeadRef(name="linear"),
        owner=OWNER,
        head_owner=OWNER,
        api_version="1.0",
        size=(8, 8),
        fingerprint=fingerprint,
        sha256=sha256(weights).hexdigest(),
        params=1,
        gmacs=0.1,
        probe=PROBE,
    )
    return NewHead(manifest, weights)


def create(path: Path) -> None:
    heads = {"depth": head(b"depth"), "normals": head(b"normals")}
    commit.create(path, backbone(b"old backbone", OLD), b"old backbone", heads)


def create_without_heads(path: Path) -> None:
    commit.create(path, backbone(b"old backbone", OLD), b"old backbone")


def add(path: Path) -> None:
    Layout(path).work("edges").mkdir(parents=True, exist_ok=True)
    (Layout(path).work("edges") / "state").write_bytes(b"resume")
    commit.commit_head(path, "edges", head(b"edges"), expect_fingerprint=OLD)


def add_two(path: Path) -> None:
    heads = {"edges": head(b"edges"), "saliency": head(b"saliency")}
    commit.commit_heads(path, heads, expect_fingerprint=OLD)


def replace(path: Path) -> None:
    commit.commit_head(path, "depth", head(b"better"), expect_fingerprint=OLD, replace=True)


def repeat(path: Path) -> None:
    commit.commit_head(path, "depth", head(b"depth"), expect_fingerprint=OLD, replace=True)


def remove(path: Path) -> None:
    commit.remove_heads(path, ["depth"])


def rename(path: Path) -> None:
    commit.rename_head(path, "depth", "depth_indoor")


def train_backbone(path: Path) -> None:
    new = backbone(b"new backbone", NEW)
    commit.replace_backbone(path, new, b"new backbone", {"depth": head(b"joint", NEW)})


def nothing(path: Path) -> None:
    pass


def empty_folder(path: Path) -> None:
    path.mkdir()


def export(path: Path) -> None:
    export_head("depth", path.parent / EXPORTED, model=path)


def create_and_export(path: Path) -> None:
    create(path)
    export_head("normals", path.parent / EXPORTED, model=path)


def export_again(path: Path) -> None:
    export_head("depth", path.parent / EXPORTED, model=path, replace=True)


def take_in(path: Path) -> None:
    found = head_file.read(path.parent / EXPORTED)
    new = NewHead(found.manifest, found.weights, found.document)
    commit.import_head(path, "copy", new, expect_fingerprint=OLD)


def create_with_garbage(path: Path) -> None:
    create(path)
    superseded = path / "heads" / "gone" / ("0" * 16)
    superseded.mkdir(parents=True)
    for name in ("head.json", "head.json.tmp", "head.safetensors"):
        (superseded / name).write_bytes(b"of a change that did not end")
    (path / "backbone.next.safetensors").write_bytes(b"never committed")


def repair(path: Path) -> None:
    commit.repair(path)


COUNTS: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def counts() -> Iterator[None]:
    yield
    print(f"\n{COUNTS.total()} faults: {dict(COUNTS)}")


Change = Callable[[Path], None]
CHANGES = [
    pytest.param(nothing, create, id="create"),
    pytest.param(empty_folder, create_without_heads, id="create in a folder that is there"),
    pytest.param(create, add, id="add"),
    pytest.param(create, add_two, id="add two"),
    pytest.param(create, replace, id="replace"),
    pytest.param(create, repeat, id="commit the same again"),
    pytest.param(create, remove, id="remove"),
    pytest.param(create, rename, id="rename"),
    pytest.param(create_without_heads, train_backbone, id="replace the backbone"),
    pytest.param(create, export, id="export"),
    pytest.param(create_and_export, export_again, id="export again"),
    pytest.param(create_and_export, take_in, id="import"),
    pytest.param(create_with_garbage, repair, id="repair"),
]


def state(path: Path) -> object:
    """All that a reader can see: nothing, or the model, and the head file beside it."""
    if not (path / "model.json").exists():
        return None
    file = path.parent / EXPORTED
    exported = head_file.read(file) if file.exists() else None
    with ModelFolder.open(path) as folder:
        heads = {n: (folder.heads[n], folder.read_head_bytes(n)) for n in folder.heads}
        return folder.manifest, folder.read_backbone_bytes(), list(heads.items()), exported


def tree(path: Path) -> list[Path]:
    found = (p.relative_to(path.parent) for p in path.parent.rglob("*"))
    return sorted(p for p in found if not {".lock", ".work"} & set(p.parts))


def states(tmp_path: Path, prepare: Change, change: Change) -> tuple[object, object]:
    """What a reader sees before and after."""
    path = tmp_path / "good" / "model"
    path.parent.mkdir()
    prepare(path)
    before = state(path)
    change(path)
    assert check(path) == []
    return before, state(path)


@pytest.mark.parametrize(
    "kind",
    [
        "error",
        "full",
        "crash",
        *(pytest.param(k, marks=pytest.mark.slow) for k in ("read-only", "read")),
    ],
)
@pytest.mark.parametrize(("prepare", "change"), CHANGES)
def test_a_failing_call_leaves_the_old_state_or_the_new(
    tmp_path, monkeypatch, prepare, change, kind
):
    before, after = states(tmp_path, prepare, change)
    for at in itertools.count(1):
        path = tmp_path / str(at) / "model"
        path.parent.mkdir()
        prepare(path)
        files_before = tree(path)
        faulty = FaultyOS(kind, at)
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", faulty)
            try:
                change(path)
                failed = None
            except (StoreError, Crash) as err:
                failed = err
        if isinstance(failed, Crash):
            assert state(path) in (before, after)
        else:
            assert state(path) == (before if failed else after)
        if failed and kind == "full":
            assert set(tree(path)) <= set(files_before)
        if faulty.calls < at:
            assert at > 3
            break
        COUNTS[kind] += 1
        the_next_change_leaves_nothing_behind(path)


def the_next_change_leaves_nothing_behind(path: Path) -> None:
    if state(path) is None:
        if path.exists():  # filled halfway; the disk above does not know of the lock in it
            (path / ".lock").touch()
        create(path)
    if (path.parent / f".{EXPORTED}.medusa-part").exists():  # the next export clears it
        export_again(path)
    kept = state(path)[2]
    fingerprint = state(path)[0].backbone.fingerprint
    commit.commit_head(path, "next", head(b"next", fingerprint), expect_fingerprint=fingerprint)
    commit.remove_heads(path, ["next"])
    assert state(path)[2] == kept
    assert check(path) == []
    assert {entry.name for entry in path.parent.iterdir()} <= {"model", EXPORTED}


@pytest.mark.parametrize(("prepare", "change"), CHANGES)
def test_a_power_failure_leaves_the_old_state_or_the_new(tmp_path, monkeypatch, prepare, change):
    before, after = states(tmp_path, prepare, change)
    seen = []
    chance = random.Random(0)
    for at in itertools.count(1):
        path = tmp_path / str(at) / "model"
        path.parent.mkdir()
        prepare(path)
        disk = PowerFailure(path.parent, at)
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", disk)
            try:
                change(path)
                failed = False
            except Crash:
                failed = True
        for number, kept in enumerate((0.0, 1.0, 0.3, 0.5, 0.7)):
            root = tmp_path / f"{at} {number}"
            disk.after_failure(root, chance, kept)
            found = state(root / "model")
            seen.append(found)
            assert found in ((before, after) if failed else (after,))
        if not failed:
            break
        COUNTS["power failure"] += 5
        the_next_change_leaves_nothing_behind(root / "model")
    assert before in seen
    assert after in seen or before == after


# -- a campaign that cannot fail proves nothing --------------------------------------------------


def test_without_a_sync_before_the_rename_it_would_be_noticed(tmp_path, monkeypatch):
    """The order of fsync and rename in `files.write` is what the power failures are about."""

    def careless(path: Path, data: bytes) -> None:
        descriptor = files.os.open(files.temporary(path), files._CREATE, 0o666)
        rest = memoryview(data)
        while rest:
            rest = rest[files.os.write(descriptor, rest) :]
        files.os.replace(files.temporary(path), path)
        files.os.fsync(descriptor)
        files.os.close(descriptor)

    monkeypatch.setattr(files, "write", careless)
    with pytest.raises((AssertionError, StoreError)):
        test_a_power_failure_leaves_the_old_state_or_the_new(tmp_path, monkeypatch, create, add)


def test_without_syncing_folders_it_would_be_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "sync_folder", lambda path: None)
    with pytest.raises((AssertionError, StoreError)):
        test_a_power_failure_leaves_the_old_state_or_the_new(tmp_path, monkeypatch, create, add)
