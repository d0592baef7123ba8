"""Whatever fails, and whenever: a model folder is in the state before a change or after it.

Each change runs once per system call it makes, and that call fails: with an error, with an error
that stays (a full disk, one that has become read-only), with a crash (nothing runs after it), or
with a power failure (and what was not synced is lost, or not, at random). All bytes, those of
weights included, are written by `store.files`, so every one of them is in reach. With `-s` the
number of faults is printed.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from medusa_core.api import HeadRef
from medusa_core.errors import StoreError
from medusa_core.store import commit, container, files, head_file
from medusa_core.store.check import check
from medusa_core.store.commit import NewHead
from medusa_core.store.folder import ModelFolder
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
    commit.work_dir(path, "edges").mkdir(parents=True, exist_ok=True)
    (commit.work_dir(path, "edges") / "state").write_bytes(b"resume")
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
    if not path.exists():
        return None
    file = path.parent / EXPORTED
    exported = head_file.read(file) if file.exists() else None
    with ModelFolder.open(path) as folder:
        heads = {n: (folder.heads[n], folder.read_head_bytes(n)) for n in folder.heads}
        return folder.manifest, folder.read_backbone_bytes(), list(heads.items()), exported


def tree(path: Path) -> list[Path]:
    found = (p.relative_to(path.parent) for p in path.parent.rglob("*"))
    return sorted(p for p in found if not {".lock", ".work"} & set(p.parts))


class Crash(BaseException):
    """The process is gone."""


class FaultyOS:
    """The module `os`, of whose changing calls number `at` fails.

    kind: "error": this call only; "full": this and all later ones that need space; "read-only":
    this and all later ones; "crash": the same, in a way nobody catches; "read": calls that read are
    counted, and this one fails. Half of what a failing write was given is written.
    """

    def __init__(self, kind: str = "error", at: int | None = None) -> None:
        self.kind, self.at, self.calls = kind, at, 0

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def _read(self) -> None:
        if self.kind == "read":
            self.calls += 1
            if self.calls == self.at:
                raise OSError(errno.EIO, "Input/output error")

    def lstat(self, path: Path) -> os.stat_result:
        self._read()
        return os.lstat(path)

    def fstat(self, descriptor: int) -> os.stat_result:
        self._read()
        return os.fstat(descriptor)

    def pread(self, descriptor: int, length: int, position: int) -> bytes:
        self._read()
        return os.pread(descriptor, length, position)

    def _step(self, needs_space: bool) -> None:
        if self.kind == "read":
            return
        self.calls += 1
        if self.at is None or self.calls < self.at:
            return
        if self.kind == "crash":
            raise Crash
        if self.kind != "read-only" and (
            self.calls == self.at or (self.kind == "full" and needs_space)
        ):
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.kind == "read-only":
            raise OSError(errno.EROFS, "Read-only file system")

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            self._step(needs_space=True)
        else:
            self._read()
        return os.open(path, flags, mode)

    def write(self, descriptor: int, data: memoryview) -> int:
        try:
            self._step(needs_space=True)
        except BaseException:
            os.write(descriptor, data[: len(data) // 2])
            raise
        return os.write(descriptor, data[: len(data) // 2 + 1])  # a short write is no error

    def fsync(self, descriptor: int) -> None:
        self._step(needs_space=False)

    def mkdir(self, path: Path) -> None:
        self._step(needs_space=True)
        os.mkdir(path)

    def replace(self, source: Path, target: Path) -> None:
        self._step(needs_space=False)
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        self._step(needs_space=False)
        os.unlink(path)

    def rmdir(self, path: Path) -> None:
        self._step(needs_space=False)
        os.rmdir(path)


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
    if not path.exists():
        create(path)
    if (path.parent / f"{EXPORTED}.tmp").exists():  # the next export clears it
        export_again(path)
    kept = state(path)[2]
    fingerprint = state(path)[0].backbone.fingerprint
    commit.commit_head(path, "next", head(b"next", fingerprint), expect_fingerprint=fingerprint)
    commit.remove_heads(path, ["next"])
    assert state(path)[2] == kept
    assert check(path) == []
    assert {entry.name for entry in path.parent.iterdir()} <= {"model", EXPORTED}


class File:
    """What was written to a file, and what of it is on the disk."""

    def __init__(self, content: bytes = b"") -> None:
        self.written, self.synced = content, content


class PowerFailure(FaultyOS):
    """Keeps what would be on the disk if the power failed.

    A folder is None, a file a `File`, both by path. Changes of a folder's entries are pending
    until that folder is synced; `after_failure` writes down what may be found then.
    """

    def __init__(self, root: Path, at: int) -> None:
        super().__init__("crash", at)
        found = [path for path in root.rglob("*") if path.name != ".lock"]
        self.live = {p: None if p.is_dir() else File(p.read_bytes()) for p in found}
        self.disk = dict(self.live)
        self.root = root
        self.pending: list[tuple[Path, Callable[[dict[Path, File | None]], None]]] = []
        self.opened: dict[int, Path] = {}

    def _change(self, path: Path, apply: Callable[[dict[Path, File | None]], None]) -> None:
        apply(self.live)
        self.pending.append((path.parent, apply))

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = super().open(path, flags, mode)
        self.opened[descriptor] = path
        if flags & os.O_CREAT:
            new = File()
            self._change(path, lambda disk: disk.update({path: new}))
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        count = super().write(descriptor, data)
        self.live[self.opened[descriptor]].written += bytes(data[:count])
        return count

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        path = self.opened[descriptor]
        if (file := self.live.get(path)) is not None:
            file.synced = file.written
            return
        for folder, apply in self.pending:
            if folder == path:
                apply(self.disk)
        self.pending = [(folder, apply) for folder, apply in self.pending if folder != path]

    def mkdir(self, path: Path) -> None:
        super().mkdir(path)
        self._change(path, lambda disk: disk.update({path: None}))

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        moved = self.live[source]

        def apply(disk: dict[Path, File | None]) -> None:
            disk.pop(source, None)
            disk[target] = moved
            for path in [p for p in disk if source in p.parents]:
                disk[target / path.relative_to(source)] = disk.pop(path)

        self._change(target, apply)

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._change(path, lambda disk: disk.pop(path, None))

    def rmdir(self, path: Path) -> None:
        super().rmdir(path)
        self._change(path, lambda disk: disk.pop(path, None))

    def after_failure(self, root: Path, chance: random.Random, kept: float) -> None:
        """Write to `root` what may be on the disk; `kept` of what is pending got there."""
        disk = dict(self.disk)
        for _, apply in self.pending:
            if chance.random() < kept:
                apply(disk)
        root.mkdir()
        for path in sorted(disk):
            found = root / path.relative_to(self.root)
            if not found.parent.is_dir():
                continue  # the folder it was in is lost
            file = disk[path]
            if file is None:
                found.mkdir()
            else:
                found.write_bytes(file.written if chance.random() < kept else file.synced)


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
