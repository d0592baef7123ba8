"""A state machine over a model folder: changes through the real workflows, faults in the middle of
them, readers that stay open meanwhile. Everything that must hold is checked after every step.
"""

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from torch import Tensor

from benchmarks.reliability.faults import Crash, FaultyOS, PowerFailure
from medusa_core.backbones.fingerprint import fingerprint
from medusa_core.errors import FingerprintError, NameTakenError, StoreError, UnknownNameError
from medusa_core.model import MedusaModel, open_model
from medusa_core.model.execution import Execution
from medusa_core.plugin_host import default_host
from medusa_core.store import commit, files, head_file, records
from medusa_core.store.check import check
from medusa_core.store.commit import NewHead
from medusa_core.store.folder import ModelFolder
from medusa_core.workflows.add_task import add_task
from medusa_core.workflows.head_files import add_head, export_head
from medusa_core.workflows.heads import remove_task, rename_head
from medusa_core.workflows.init import init
from medusa_core.workflows.listing import describe

NAMES = ("alpha", "beta", "train", "float", "a" * 41)
"""Some would clash with attributes of `nn.Module`, were they its children's names."""

TASKS = ("depth", "normals", "semseg", "edges", "saliency", "human_parts")
IMAGES = torch.rand(2, 3, 40, 64, generator=torch.manual_seed(0))
PICTURE = (IMAGES[0].permute(1, 2, 0) * 255).to(torch.uint8).numpy()
READERS = 2
"""At most so many are open at a time."""

names = st.sampled_from(NAMES)
which = st.integers(0, 5)


@dataclass(frozen=True)
class Known:
    """All there is to know about a head: its files, its tensors, what it predicts."""

    task: str
    files: dict[str, bytes]
    tensors: dict[str, Tensor]
    output: Tensor
    result: Tensor


Heads = dict[str, Known]


@dataclass(frozen=True)
class Reader:
    """A model and a folder that were opened once, and the heads there were then."""

    model: MedusaModel
    folder: ModelFolder
    known: Heads


@dataclass(frozen=True)
class Template:
    """What every sequence starts from: made once, copied."""

    model: Path
    files: tuple[Path, ...]
    """Head files for this backbone, each of another task."""
    known: tuple[Known, ...]
    """What they are once they have been added."""
    stranger: Path
    """The file of a head on another backbone, equal in all but its weights."""


class Changes(RuleBasedStateMachine):
    """A model folder, and what every head in it was when it was committed."""

    template: ClassVar[Template]

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        shutil.copytree(self.template.model, self.path)
        self.backbone = (self.path / "backbone.safetensors").read_bytes()
        self.fingerprint = opened(self.path).record.fingerprint
        self.known: Heads = {}
        self.exported: dict[str, Known] = {}
        self.readers: list[Reader] = []

    @property
    def path(self) -> Path:
        """Of the model folder."""
        return self.root / "model"

    def teardown(self) -> None:
        self._close_readers()
        shutil.rmtree(self.root)

    # -- changes ----------------------------------------------------------------------------

    @rule(name=names, task=st.sampled_from(TASKS), linear=st.booleans(), seed=st.integers(0, 9))
    def train(self, name: str, task: str, linear: bool, seed: int) -> None:
        """Train a head; where one of that name exists, replace it."""
        options = {
            "data": ("rooms:32x32",),
            "name": name,
            "head": "linear" if linear else "medusa",
            "settings": {} if linear else {"width": 4, "fused_width": 4},
            "steps": 1,
            "batch": 2,
            "limit": 4,
            "views": 1,
            "size": (32, 32),
            "seed": seed,
        }
        if name in self.known:
            with pytest.raises(NameTakenError):
                add_task(task, model=self.path, **options)
        add_task(task, model=self.path, replace=name in self.known, **options)
        self.known = {**self.known, name: look(self.path, name)}
        assert self.known[name].task == task

    @rule(name=names, of=which)
    def import_(self, name: str, of: int) -> None:
        """Take in a head file; where there is a head of that name, replace it."""
        change, after = self._import(name, of)
        if name in self.known:
            with pytest.raises(NameTakenError):
                add_head(self._file(of), model=self.path, name=name)
        change(self.path)
        self.known = after

    @rule(name=names, of=which)
    def import_exported(self, name: str, of: int) -> None:
        """Take in what was exported: it is the same head, bit by bit."""
        if not self.exported:
            return
        old = _pick(self.exported, of)
        file = self.root / f"{old}.medusa"
        done = add_head(file, model=self.path, name=name, replace=True)
        assert done["head"]["probe"] == "equal"
        self.known = {**self.known, name: self.exported[old]}

    @precondition(lambda self: self.known)
    @rule(of=which)
    def export(self, of: int) -> None:
        change, after = self._export(of)
        change(self.path)
        assert after == self.known
        self.exported[_pick(self.known, of)] = self.known[_pick(self.known, of)]

    @precondition(lambda self: self.known)
    @rule(of=which, through_model=st.booleans())
    def remove(self, of: int, through_model: bool) -> None:
        """From the command's side, or from that of an open model."""
        change, after = self._remove(of)
        model = opened(self.path)
        if through_model:
            model.remove_head(_pick(self.known, of))
        else:
            change(self.path)
            model = opened(self.path)
        with pytest.raises(UnknownNameError):
            model(IMAGES, tasks=[_pick(self.known, of)])
        self.known = after
        self._check_model(model)

    @precondition(lambda self: self.known)
    @rule(of=which, new=names, through_model=st.booleans())
    def rename(self, of: int, new: str, through_model: bool) -> None:
        """Under the new name a head must be what it was under the old one."""
        change, after = self._rename(of, new)
        if new in self.known:
            with pytest.raises(NameTakenError):
                change(self.path)
            return
        model = opened(self.path)
        if through_model:
            model.rename_head(_pick(self.known, of), new)
        else:
            change(self.path)
            model = opened(self.path)
        self.known = after
        self._check_model(model)

    @rule(name=names, honest=st.booleans())
    def graft(self, name: str, honest: bool) -> None:
        """Try to bring in a head that was trained on another backbone, as a file or as it is."""
        with pytest.raises(FingerprintError):
            add_head(self.template.stranger, model=self.path, name=name, replace=True)
        found = head_file.read(self.template.stranger)
        head = NewHead(found.manifest, found.weights)
        expected = found.manifest.fingerprint if honest else self.fingerprint
        with pytest.raises(FingerprintError):
            commit.commit_head(self.path, name, head, expect_fingerprint=expected, replace=True)

    # -- readers ----------------------------------------------------------------------------

    @rule()
    def open(self) -> None:
        """A reader that stays open across what follows."""
        if len(self.readers) == READERS:
            old = self.readers.pop(0)
            old.folder.close()
        self.readers.append(Reader(opened(self.path), ModelFolder.open(self.path), self.known))

    @precondition(lambda self: self.known)
    @rule(chosen=st.sets(which, min_size=1))
    def predict(self, chosen: set[int]) -> None:
        """Whichever heads are asked for, each predicts as it did when it was committed."""
        asked = {_pick(self.known, of) for of in chosen}
        results = opened(self.path).predict(PICTURE, tasks=asked)
        assert results.keys() == asked
        for name, result in results.items():
            assert torch.equal(torch.as_tensor(result.value), self.known[name].result), name

    # -- faults -----------------------------------------------------------------------------

    @rule(
        kind=st.sampled_from(["error", "full", "read-only", "read", "crash", "power failure"]),
        at=st.integers(1, 90),
        change=st.sampled_from(["import", "export", "remove", "rename"]),
        of=which,
        name=names,
        kept=st.sampled_from([0.0, 0.5, 1.0]),
        seed=st.integers(0, 99),
    )
    def fault(
        self, kind: str, at: int, change: str, of: int, name: str, kept: float, seed: int
    ) -> None:
        """Call number `at` of a change fails: the folder is as before or as after it."""
        if change == "import":
            run, after = self._import(name, of)
        elif not self.known or (change == "rename" and name in self.known):
            return
        else:
            run, after = {
                "export": lambda: self._export(of),
                "remove": lambda: self._remove(of),
                "rename": lambda: self._rename(of, name),
            }[change]()
        power = kind == "power failure"
        disk = PowerFailure(self.root, at) if power else FaultyOS(kind, at)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "os", disk)
            try:
                run(self.path)
                ended = "well"
            except StoreError:
                ended = "with an error"
            except Crash:
                ended = "nobody knows how"
        if isinstance(disk, PowerFailure):
            self._close_readers()
            old, self.root = self.root, Path(tempfile.mkdtemp()) / "root"
            disk.after_failure(self.root, random.Random(seed), kept)
            shutil.rmtree(old)
        if change == "export":
            self._found_file(_pick(self.known, of), ended)
        possible = {"well": (after,), "with an error": (self.known,)}
        self._found_model(possible.get(ended, (self.known, after)))

    def _found_file(self, name: str, ended: str) -> None:
        """The head file is whole: the old one or the new one."""
        old, new = self.exported.pop(name, None), self.known[name]
        possible = {"well": (new,), "with an error": (old,)}.get(ended, (old, new))
        if not self._file_of(name).exists():
            assert None in possible
            return
        found = head_file.read(self._file_of(name)).weights
        [self.exported[name]] = [k for k in possible if k and _weights(k) == found][:1]

    def _found_model(self, possible: tuple[Heads, ...]) -> None:
        """The folder opens and is in a possible state; garbage is collected."""
        with ModelFolder.open(self.path) as folder:
            revisions = dict(folder.manifest.heads)
        states = [heads for heads in possible if _revisions(heads) == revisions]
        assert states, "neither the state before nor the state after"
        self.known = states[0]
        commit.repair(self.path)
        for path in self.root.glob("*.tmp"):  # the next export clears it
            path.unlink()

    # -- what a change does, and what is there afterwards -------------------------------------

    def _import(self, name: str, of: int) -> tuple[Callable[[Path], object], Heads]:
        after = {**self.known, name: self.template.known[of % len(self.template.files)]}
        return lambda path: add_head(self._file(of), model=path, name=name, replace=True), after

    def _export(self, of: int) -> tuple[Callable[[Path], object], Heads]:
        name = _pick(self.known, of)
        return (
            lambda path: export_head(name, self._file_of(name), model=path, replace=True),
            self.known,
        )

    def _remove(self, of: int) -> tuple[Callable[[Path], object], Heads]:
        name = _pick(self.known, of)
        return (
            lambda path: remove_task([name], model=path),
            {n: known for n, known in self.known.items() if n != name},
        )

    def _rename(self, of: int, new: str) -> tuple[Callable[[Path], object], Heads]:
        name = _pick(self.known, of)
        return (
            lambda path: rename_head(name, new, model=path),
            {(new if n == name else n): known for n, known in self.known.items()},
        )

    def _file(self, of: int) -> Path:
        return self.template.files[of % len(self.template.files)]

    def _file_of(self, name: str) -> Path:
        return self.root / f"{name}.medusa"

    # -- invariants -------------------------------------------------------------------------

    @invariant()
    def everything_is_as_it_was(self) -> None:
        """What must hold after every step; AssertionError where it does not."""
        assert (self.path / "backbone.safetensors").read_bytes() == self.backbone
        assert check(self.path) == []
        for name, known in self.known.items():
            assert _files(self.path, name) == known.files
        for name, known in self.exported.items():
            assert head_file.read(self._file_of(name)).weights == _weights(known)
        self._check_model(opened(self.path))
        with ModelFolder.open(self.path) as folder:
            listed = json.loads(json.dumps(describe(folder, default_host()), default=str))
        assert {row["name"]: row["task"] for row in listed["heads"]} == {
            name: known.task for name, known in self.known.items()
        }
        assert {row["state"] for row in listed["heads"]} <= {"ready"}
        for reader in self.readers:
            self._check_model(reader.model, reader.known)
            for name, known in reader.known.items():
                assert reader.folder.read_head_bytes(name) == _weights(known)

    def _check_model(self, model: MedusaModel, heads: Heads | None = None) -> None:
        """What is in memory is what is on the disk, and computes what it always did."""
        heads = self.known if heads is None else heads
        assert set(model.heads) == set(heads)
        assert not model.orphans
        model.train()
        model.backbone.train()  # what a trainer around it might do
        with torch.no_grad():
            outputs = model(IMAGES)
            alone = {name: model(IMAGES, tasks=[name])[name] for name in list(outputs)[:1]}
        identity = model.backbone.description.identity()
        digest = fingerprint(identity, model.backbone.weights())
        assert digest == self.fingerprint == model.record.fingerprint
        for name, known in heads.items():
            tensors = model.head_module(name).state_dict()
            assert tensors.keys() == known.tensors.keys()
            for key, tensor in tensors.items():
                assert torch.equal(tensor, known.tensors[key]), f"{name}: {key}"
            assert torch.equal(outputs[name], known.output), f"{name}: output"
        for name, output in alone.items():
            assert torch.equal(output, outputs[name])

    def _close_readers(self) -> None:
        for reader in self.readers:
            reader.folder.close()
        self.readers = []


def opened(path: Path) -> MedusaModel:
    """The plain networks: no copies beside what may move."""
    return open_model(path, execution=Execution("plain"))


def look(path: Path, name: str) -> Known:
    """A head as it is in its folder and in memory."""
    model = opened(path)
    with torch.no_grad():
        output = model(IMAGES, tasks=[name])[name]
    tensors = {k: v.clone() for k, v in model.head_module(name).state_dict().items()}
    result = torch.as_tensor(model.predict(PICTURE, tasks=[name])[name].value)
    return Known(model.heads[name].task, _files(path, name), tensors, output, result)


def _pick(heads: dict[str, Known], of: int) -> str:
    return sorted(heads)[of % len(heads)]


def _weights(known: Known) -> bytes:
    return known.files["head.safetensors"]


def _revisions(heads: Heads) -> dict[str, str]:
    return {n: records.revision(k.files["head.json"], _weights(k)) for n, k in heads.items()}


def _files(path: Path, name: str) -> dict[str, bytes]:
    """The content of a head's one revision."""
    [revision] = (path / "heads" / name).iterdir()
    found = {file.name: file.read_bytes() for file in revision.iterdir()}
    assert records.revision(found["head.json"], found["head.safetensors"]) == revision.name
    return found


def make_template(root: Path) -> Template:
    """A tiny backbone, three heads on it as files, and one of another backbone."""
    for seed, path in enumerate((root / "model", root / "other", root / "third")):
        init(path, backbone="test_resnet", from_scratch=True, seed=int(seed == 2))
    options = {"data": ("rooms:32x32",), "steps": 1, "limit": 4, "views": 1, "size": (32, 32)}
    found = []
    for task in ("depth", "semseg", "normals"):
        small = {"settings": {"width": 4, "fused_width": 4}} if task != "depth" else {}
        head = "medusa" if small else "linear"
        add_task(task, model=root / "other", head=head, **small, **options)
        export_head(task, root / f"{task}.medusa", model=root / "other")
        found.append(look(root / "other", task))
    add_task("depth", model=root / "third", head="linear", **options)
    export_head("depth", root / "stranger.medusa", model=root / "third")
    paths = tuple(root / f"{known.task}.medusa" for known in found)
    return Template(root / "model", paths, tuple(found), root / "stranger.medusa")
