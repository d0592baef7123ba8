"""Adding, removing and renaming heads changes no other head and not the backbone. Ever.

A random walk of 200 changes through the real workflows, then the same with a guard taken away:
an invariant that cannot fail proves nothing.
"""

import contextlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from medusa_core.backbones.fingerprint import fingerprint
from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.cli.list import describe
from medusa_core.errors import FingerprintError, NameTakenError, StoreError, UnknownNameError
from medusa_core.model import MedusaModel, open_model
from medusa_core.model.execution import Execution
from medusa_core.plugin_host import default_host
from medusa_core.store import commit, files, records
from medusa_core.store.check import check
from medusa_core.store.commit import NewHead
from medusa_core.store.folder import ModelFolder
from medusa_core.workflows.add_task import add_task
from medusa_core.workflows.head_files import add_head, export_head
from medusa_core.workflows.heads import remove_task, rename_head
from medusa_core.workflows.init import init
from medusa_core.workflows.verify import verify

STEPS = 200
NAMES = ("alpha", "beta", "gamma", "train", "float", "h_1", "a" * 41, "delta")
"""Some would clash with attributes of `nn.Module`, were they its children's names."""

WEIGHTS = {"add": 6, "remove": 6, "rename": 6, "travel": 4, "fault": 2, "graft": 1}
"""How often each kind of change is made."""

DATA = ("rooms:32x32",)
IMAGES = torch.rand(2, 3, 40, 64, generator=torch.manual_seed(0))


@dataclass(frozen=True)
class Known:
    """All there is to know about a head: its files, its tensors, what it predicts."""

    task: str
    files: dict[str, bytes]
    tensors: dict[str, Tensor]
    output: Tensor


class World:
    """A model folder, and what every head in it was when it was committed."""

    def __init__(self, root: Path) -> None:
        self.path = root / "model"
        init(self.path, backbone="test_efficientnet", from_scratch=True)
        self.stranger = self._stranger(root / "other")
        self.tasks = [
            entry.spec.name
            for entry in default_host().tasks
            if entry.provider.distribution == "medusa-heads"
        ]
        assert len(self.tasks) == 6
        self.backbone = (self.path / "backbone.safetensors").read_bytes()
        self.fingerprint = self._model().record.fingerprint
        self.known: dict[str, Known] = {}
        self.live: MedusaModel | None = None  # open since the last check, and changed in place

    # -- changes ----------------------------------------------------------------------------

    def add(self, chance: random.Random) -> None:
        """Train a head; where one of that name exists, replace it."""
        name, task = chance.choice(NAMES), chance.choice(self.tasks)
        head = chance.choice(["medusa", "medusa", "linear"])
        options = {
            "data": DATA,
            "name": name,
            "head": head,
            "settings": {"width": 4, "fused_width": 4} if head == "medusa" else {},
            "steps": chance.choice([1, 2]),
            "batch": 2,
            "limit": 4,
            "views": 1,
            "size": (32, 32),
            "seed": chance.randrange(1000),
        }
        if name in self.known:
            with pytest.raises(NameTakenError):
                add_task(task, model=self.path, **options)
        add_task(task, model=self.path, replace=name in self.known, **options)
        self.known.pop(name, None)
        self.live = None
        self.known[name] = self._look(self._model(), name)
        assert self.known[name].task == task

    def remove(self, chance: random.Random) -> None:
        """Remove one or two heads, from the command's side or from that of an open model."""
        names = chance.sample(sorted(self.known), k=min(len(self.known), chance.choice([1, 1, 2])))
        if self.live is not None and chance.random() < 0.5:
            for name in names:
                self.live.remove_head(name)
        else:
            remove_task(self.path, names)
            self.live = None
            assert not any((self.path / "reports" / f"{name}.png").exists() for name in names)
        for name in names:
            del self.known[name]
            with pytest.raises(UnknownNameError):
                (self.live or self._model())(IMAGES, tasks=[name])

    def rename(self, chance: random.Random) -> None:
        """Rename a head: under the new name it must be what it was under the old one."""
        old, new = chance.choice(sorted(self.known)), chance.choice(NAMES)
        if new in self.known:
            with pytest.raises(NameTakenError):
                rename_head(self.path, old, new)
            return
        if self.live is not None and chance.random() < 0.5:
            self.live.rename_head(old, new)
        else:
            rename_head(self.path, old, new)
            self.live = None
        self.known[new] = self.known.pop(old)

    def graft(self, chance: random.Random) -> None:
        """Try to bring in a head that was trained on another backbone."""
        expected = chance.choice([self.fingerprint, self.stranger.manifest.fingerprint])
        with contextlib.suppress(FingerprintError):
            commit.commit_head(self.path, "intruder", self.stranger, expect_fingerprint=expected)

    def travel(self, chance: random.Random) -> None:
        """Export a head and take it in under another name: it is the same, bit by bit."""
        name, new = chance.choice(sorted(self.known)), chance.choice(NAMES)
        file = self.path.parent / "head.medusa"
        export_head(name, file, model=self.path, replace=True)
        if new in self.known:
            with pytest.raises(NameTakenError):
                add_head(file, model=self.path, name=new)
            return
        assert add_head(file, model=self.path, name=new)["head"]["probe"] == "equal"
        self.known[new] = self.known[name]
        self.live = None

    def fault(self, chance: random.Random) -> None:
        """A full disk, at any file of a change: nothing has changed."""
        name, left = chance.choice(sorted(self.known)), [chance.randrange(3)]
        real = files.write

        def full(path: Path, data: bytes) -> None:
            if left[0] == 0:
                raise StoreError("No space left on device.")
            left[0] -= 1
            real(path, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "write", full)
            with pytest.raises(StoreError):
                rename_head(self.path, name, "elsewhere")

    # -- invariants -------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that must hold after every change; AssertionError where it does not."""
        assert (self.path / "backbone.safetensors").read_bytes() == self.backbone
        assert check(self.path) == []
        fresh = self._model()
        self._check_model(fresh)
        if self.live is not None:
            self._check_model(self.live)
        self.live = fresh
        with ModelFolder.open(self.path) as folder:
            listed = json.loads(json.dumps(describe(folder, default_host()), default=str))
        assert {row["name"]: row["task"] for row in listed["heads"]} == {
            name: known.task for name, known in self.known.items()
        }
        assert {row["state"] for row in listed["heads"]} <= {"ready"}

    def _check_model(self, model: MedusaModel) -> None:
        assert set(model.heads) == set(self.known)
        assert not model.orphans
        model.train()
        model.backbone.train()  # what a trainer around it might do
        with torch.no_grad():
            outputs = model(IMAGES)
            alone = {name: model(IMAGES, tasks=[name])[name] for name in list(outputs)[:1]}
        weights = model.backbone.weights()
        identity = model.backbone.description.identity()
        assert fingerprint(identity, weights) == self.fingerprint == model.record.fingerprint
        for name, known in self.known.items():
            assert _files(self.path, name) == known.files
            tensors = model.head_module(name).state_dict()
            assert tensors.keys() == known.tensors.keys()
            for key, tensor in tensors.items():
                assert torch.equal(tensor, known.tensors[key]), f"{name}: {key}"
            assert torch.equal(outputs[name], known.output), f"{name}: output"
        for name, output in alone.items():
            assert torch.equal(output, outputs[name])

    def _model(self) -> MedusaModel:
        return open_model(self.path, execution=Execution("plain"))  # no copies beside what may move

    def _look(self, model: MedusaModel, name: str) -> Known:
        with torch.no_grad():
            output = model(IMAGES, tasks=[name])[name]
        tensors = {k: v.clone() for k, v in model.head_module(name).state_dict().items()}
        return Known(model.heads[name].task, _files(self.path, name), tensors, output)

    def _stranger(self, path: Path) -> NewHead:
        """A head on another backbone: equal in all but its weights."""
        init(path, backbone="test_efficientnet", from_scratch=True, seed=1)
        options = {"head": "linear", "steps": 1, "limit": 2, "views": 1, "size": (32, 32)}
        add_task("depth", model=path, data=DATA, **options)
        with ModelFolder.open(path) as folder:
            return NewHead(folder.heads["depth"], folder.read_head_bytes("depth"))


def _files(path: Path, name: str) -> dict[str, bytes]:
    """The content of a head's one revision."""
    [revision] = (path / "heads" / name).iterdir()
    files = {file.name: file.read_bytes() for file in revision.iterdir()}
    assert records.revision(files["head.json"], files["head.safetensors"]) == revision.name
    return files


def walk(world: World, steps: int, seed: int) -> None:
    """Change the model at random, and check all of it after every change."""
    chance = random.Random(seed)
    for _ in range(steps):
        few = len(world.known) < 3
        kinds = {"add": 15, "graft": 1} if few else dict(WEIGHTS)
        getattr(world, chance.choices([*kinds], [*kinds.values()])[0])(chance)
        world.check()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.slow
def test_no_change_touches_anything_else(world):
    walk(world, STEPS, seed=2)
    assert world.known
    report = verify(world.path)
    assert report["ok"], report["problems"]
    assert set(report["probes"].values()) == {"equal"}


def test_without_the_batchnorm_freeze_it_would_be_noticed(world, monkeypatch):
    """Whatever calls `.train()` lets the statistics drift, and the outputs with them."""
    walk(world, 3, seed=0)
    monkeypatch.setattr(Backbone, "train", nn.Module.train)
    with pytest.raises(AssertionError):
        world.check()


def test_without_the_fingerprint_check_of_a_commit_it_would_be_noticed(world, monkeypatch):
    walk(world, 3, seed=0)
    world.graft(random.Random(0))
    world.check()
    monkeypatch.setattr(commit, "_check_fingerprint", lambda *_: None)
    world.graft(random.Random(0))
    with pytest.raises(AssertionError):
        world.check()


def test_without_the_fingerprint_check_of_a_read_it_would_be_noticed(world, monkeypatch):
    """A head of another backbone that got into the folder some other way is not read."""
    walk(world, 2, seed=0)
    with monkeypatch.context() as patch:
        patch.setattr(commit, "_check_fingerprint", lambda *_: None)
        world.graft(random.Random(0))
    with pytest.raises(FingerprintError):
        open_model(world.path)

    def careless(folder: ModelFolder, name: str) -> bytes:
        return folder._read(folder._weights[name], folder._weights_path(name), 1 << 30)

    monkeypatch.setattr(ModelFolder, "read_head_bytes", careless)
    open_model(world.path)
    with pytest.raises(AssertionError):
        world.check()
