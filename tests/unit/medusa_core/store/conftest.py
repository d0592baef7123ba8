"""Small model folders: a fake backbone and fake heads, with true hashes."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from medusa_core.api import HeadRef
from medusa_core.store import commit
from medusa_core.store.commit import NewHead
from medusa_core.store.manifest import BackboneRecord, HeadManifest, Owner, Probe

FINGERPRINT = "f" * 64
OWNER = Owner(distribution="medusa-heads", version="0.1.0")
BACKBONE = b"backbone weights"


def make_backbone(weights: bytes = BACKBONE, fingerprint: str = FINGERPRINT) -> BackboneRecord:
    return BackboneRecord(
        name="tiny",
        out_indices=(1, 2),
        channels=(8, 16),
        strides=(4, 8),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        weights_sha256=sha256(weights).hexdigest(),
        fingerprint=fingerprint,
        params=10,
        gmacs=0.1,
    )


def make_head(weights: bytes = b"head weights", fingerprint: str = FINGERPRINT) -> NewHead:
    manifest = HeadManifest(
        task="depth",
        head=HeadRef(name="linear", config={"width": 8}),
        owner=OWNER,
        head_owner=OWNER,
        api_version="1.0",
        size=(48, 64),
        fingerprint=fingerprint,
        sha256=sha256(weights).hexdigest(),
        params=3,
        gmacs=0.01,
        metrics={"rmse": 0.5},
        probe=Probe(shape=(1,), values="", torch="2", cpu_capability="x", device="cpu"),
        provenance={"seed": 0},
    )
    return NewHead(manifest, weights)


@pytest.fixture
def backbone() -> Callable[..., BackboneRecord]:
    return make_backbone


@pytest.fixture
def head() -> Callable[..., NewHead]:
    return make_head


@pytest.fixture
def fingerprint() -> str:
    return FINGERPRINT


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with the heads `depth` and `normals`."""
    path = tmp_path / "model"
    heads = {"depth": make_head(b"depth weights"), "normals": make_head(b"normals weights")}
    commit.create(path, make_backbone(), BACKBONE, heads)
    return path
