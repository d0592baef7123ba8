"""Where everything in a model folder lives. The only place that builds its paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from medusa_core.api.specs import NAME_PATTERN
from medusa_core.errors import UnknownNameError, UsageError
from medusa_core.store import files

_MODEL = "model.json"
_BACKBONE = "backbone.safetensors"
_NEXT_BACKBONE = "backbone.next.safetensors"
_HEADS = "heads"
_WORK = ".work"
_REPORTS = "reports"
_LOCK = ".lock"
_HEAD_FILES = ("head.json", "head.safetensors")

JOINT = "train-backbone"
"""Where trainings go by the names of their heads: the joint one. No head can have this name."""

_ROOT_ENTRIES = {_MODEL, _BACKBONE, _HEADS, _WORK, _REPORTS, _LOCK}
_ROOT_LEFTOVERS = {
    _NEXT_BACKBONE,
    *(files.temporary(Path(name)).name for name in (_MODEL, _BACKBONE, _NEXT_BACKBONE)),
}
_HEAD_LEFTOVERS = {files.temporary(Path(name)).name for name in _HEAD_FILES}
_REVISION = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Layout:
    """The paths of one model folder. Names are checked here, so none can leave the folder."""

    root: Path

    @property
    def model(self) -> Path:
        """`model.json`, whose replacement is the commit."""
        return self.root / _MODEL

    @property
    def backbone(self) -> Path:
        """The weights of the backbone."""
        return self.root / _BACKBONE

    @property
    def next_backbone(self) -> Path:
        """Weights that become the backbone once `model.json` names their hash."""
        return self.root / _NEXT_BACKBONE

    @property
    def heads(self) -> Path:
        """The folder of all heads."""
        return self.root / _HEADS

    @property
    def lock(self) -> Path:
        """The file writers lock."""
        return self.root / _LOCK

    @property
    def all_work(self) -> Path:
        """The resume state of all unfinished trainings."""
        return self.root / _WORK

    @property
    def staging(self) -> Path:
        """The sibling folder in which this one is written before it appears under its name."""
        return self.root.parent / f".{self.root.name}.medusa-new"

    def head(self, name: str) -> Path:
        """The folder of all revisions of a head."""
        return self.heads / checked_name(name)

    def revision(self, name: str, revision: str) -> Path:
        """The folder of one revision of a head."""
        if not _REVISION.fullmatch(revision):
            raise ValueError(f"{revision!r} is not a revision")
        return self.head(name) / revision

    def head_json(self, name: str, revision: str) -> Path:
        """The manifest of one revision of a head."""
        return self.revision(name, revision) / _HEAD_FILES[0]

    def head_weights(self, name: str, revision: str) -> Path:
        """The weights of one revision of a head."""
        return self.revision(name, revision) / _HEAD_FILES[1]

    def report(self, name: str) -> Path:
        """The picture of how a training went. Nothing depends on it."""
        return self.root / _REPORTS / f"{_training(name)}.png"

    def log(self, name: str) -> Path:
        """The records of how a training went, one a line. Nothing depends on them."""
        return self.root / _REPORTS / f"{_training(name)}.jsonl"

    def work(self, name: str) -> Path:
        """The resume state of an unfinished training. It may not exist yet."""
        return self.all_work / _training(name)

    def work_lock(self, name: str) -> Path:
        """The file that a training locks; no head can be called that."""
        return self.all_work / f"{_training(name)}.lock"

    def work_locks(self) -> list[Path]:
        """Those of all trainings that are there; what is left of a killed process is not held."""
        return [entry for entry in files.children(self.all_work) if entry.suffix == ".lock"]

    def is_own(self, entry: Path) -> bool:
        """Whether an entry of the root has the name of one of a model folder's."""
        return entry.name in _ROOT_ENTRIES | _ROOT_LEFTOVERS

    def is_new(self, entry: Path) -> bool:
        """Whether an entry of the root has the name of one that it is made with."""
        return self.is_own(entry) and entry.name not in (_WORK, _REPORTS)

    def strays(self, heads: Mapping[str, str]) -> Iterator[tuple[Path, bool]]:
        """Entries that `heads` (name → current revision) does not account for.

        Yields:
            Path, and whether it is a leftover of ours (a superseded revision, the remains of a
            crash) that may be deleted. Lazy: a head folder that a caller has emptied follows.
        """
        for entry in files.children(self.root):
            if entry.name not in _ROOT_ENTRIES:
                yield entry, entry.name in _ROOT_LEFTOVERS
        for head in files.children(self.heads):
            if not (is_name(head.name) and files.is_folder(head)):
                yield head, False
                continue
            current = heads.get(head.name)
            for entry in files.children(head):
                if entry.name == current:
                    yield from _strays_of_revision(entry)
                else:
                    ours = bool(_REVISION.fullmatch(entry.name)) and files.is_folder(entry)
                    yield entry, ours
            if current is None and not files.children(head):
                yield head, True


def _strays_of_revision(revision: Path) -> Iterator[tuple[Path, bool]]:
    for entry in files.children(revision):
        if entry.name not in _HEAD_FILES:
            yield entry, entry.name in _HEAD_LEFTOVERS


def is_name(name: str) -> bool:
    """Whether a head may be called `name`."""
    return re.fullmatch(NAME_PATTERN, name) is not None


def _training(name: str) -> str:
    """The name of a head, or `JOINT`."""
    return name if name == JOINT else checked_name(name)


def unknown_head(name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that no head has."""
    return UnknownNameError("head", name, known, hint="Heads are shown by: medusa list")


def checked_name(name: str) -> str:
    """`name`, if a head may be called that.

    Raises:
        UsageError: it may not.
    """
    if not is_name(name):
        raise UsageError(
            f"A head cannot be called {name!r}.",
            hint="Use lower-case letters, digits and _, a letter first, at most 41 characters.",
        )
    return name
