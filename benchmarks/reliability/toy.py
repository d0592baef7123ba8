"""A small model folder whose heads are a few kilobytes of chance, and random changes of it.

What a change does is also done to a dictionary: that is what the folder must agree with.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from medusa_core.api import HeadRef
from medusa_core.errors import NameTakenError, UnknownNameError
from medusa_core.store import commit, container, files, head_file
from medusa_core.store.commit import NewHead
from medusa_core.store.folder import ModelFolder
from medusa_core.store.manifest import BackboneRecord, HeadManifest, Owner, Probe

FINGERPRINT = "f" * 64
NAMES = tuple(f"head_{letter}" for letter in "abcdef")
KINDS = ("add", "replace", "rename", "remove", "export", "import")

Contents = dict[str, bytes]
"""Head → its weights."""


def weights(chance: random.Random, size: int = 2000) -> bytes:
    """A safetensors file with one tensor of random values."""
    entry = {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}
    return container.join({"weight": entry}, chance.randbytes(4 * size))


def new_head(data: bytes) -> NewHead:
    """A head with these weights."""
    owner = Owner(distribution="medusa-heads", version="0.1.0")
    manifest = HeadManifest(
        task="depth",
        head=HeadRef(name="linear"),
        owner=owner,
        head_owner=owner,
        api_version="1.0",
        size=(64, 64),
        fingerprint=FINGERPRINT,
        sha256=sha256(data).hexdigest(),
        params=1,
        gmacs=0.1,
        probe=Probe(shape=(1,), values="", torch="2", cpu_capability="x", device="cpu"),
    )
    return NewHead(manifest, data)


def create(path: Path, heads: Contents) -> None:
    """A model folder with these heads."""
    data = weights(random.Random(0))
    record = BackboneRecord(
        name="tiny",
        out_indices=(1,),
        channels=(8,),
        strides=(4,),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        weights_sha256=sha256(data).hexdigest(),
        fingerprint=FINGERPRINT,
        params=1,
        gmacs=0.1,
    )
    commit.create(path, record, data, {name: new_head(head) for name, head in heads.items()})


def contents(path: Path) -> Contents:
    """What a reader finds: every head readable, its hashes right, the backbone too."""
    with ModelFolder.open(path) as folder:
        folder.read_backbone_bytes()
        return {name: folder.read_head_bytes(name) for name in folder.manifest.heads}


@dataclass(frozen=True)
class Change:
    """One change: `run` does it to a folder, `apply` to a dictionary; both raise where it fails."""

    kind: str
    name: str
    other: str
    data: bytes

    def run(self, path: Path) -> None:
        """Do it. A head file lies beside the folder, as `<name>.medusa`."""
        file = path.parent / f"{self.name}.medusa"
        if self.kind in ("add", "replace"):
            commit.commit_head(
                path,
                self.name,
                new_head(self.data),
                expect_fingerprint=FINGERPRINT,
                replace=self.kind == "replace",
            )
        elif self.kind == "rename":
            commit.rename_head(path, self.name, self.other)
        elif self.kind == "remove":
            commit.remove_heads(path, [self.name])
        elif self.kind == "export":
            with ModelFolder.open(path) as folder:
                document, data = folder.head_document(self.name), folder.read_head_bytes(self.name)
            files.rewrite(file, head_file.pack(document, data))
        else:
            found = head_file.unpack(export(self.data), file)
            head = NewHead(found.manifest, found.weights, found.document)
            commit.import_head(path, self.name, head, expect_fingerprint=FINGERPRINT)

    def apply(self, heads: Contents) -> Contents:
        """The heads afterwards."""
        if self.kind in ("rename", "remove", "export") and self.name not in heads:
            raise UnknownNameError("head", self.name, heads)
        taken = self.other if self.kind == "rename" else self.name
        if self.kind in ("add", "import", "rename") and taken in heads:
            raise NameTakenError(taken)
        if self.kind in ("add", "replace", "import"):
            return {**heads, self.name: self.data}
        if self.kind == "rename":
            return {(self.other if n == self.name else n): data for n, data in heads.items()}
        return {n: data for n, data in heads.items() if self.kind != "remove" or n != self.name}


def export(data: bytes) -> bytes:
    """The head file of a head with these weights."""
    document = new_head(data).manifest.model_dump_json(indent=2) + "\n"
    return head_file.pack(document.encode(), data)


def random_change(chance: random.Random) -> Change:
    """Any change; whether it can be done depends on the folder."""
    name, other = chance.sample(NAMES, 2)
    return Change(chance.choice(KINDS), name, other, weights(chance))


def possible_change(chance: random.Random, heads: Contents) -> tuple[Change, Contents]:
    """A change that can be done, and the heads afterwards."""
    while True:
        change = random_change(chance)
        try:
            return change, change.apply(heads)
        except (NameTakenError, UnknownNameError):
            continue
