"""What all tests share: an environment of their own, and model folders that need no training."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medusa_core.api import HeadRef
from medusa_core.plugin_host import default_host
from medusa_core.store.commit import NewHead, create
from medusa_core.store.manifest import BackboneRecord, HeadManifest, Owner, Probe

SWITCHES = (
    "MEDUSA_DEBUG",
    "MEDUSA_DISABLE_PLUGINS",
    "MEDUSA_MODEL",
    "MEDUSA_PLUGINS",
    "MEDUSA_STRICT_PLUGINS",
)
WEIGHTS = b"not tensors: nothing here reads them"
FINGERPRINT = "f" * 64


@pytest.fixture(scope="session", autouse=True)
def isolated_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No settings, caches or switches of whoever runs the tests."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in SWITCHES:
            patch.delenv(name, raising=False)
        patch.setenv("MEDUSA_CACHE", str(home / "cache"))
        patch.setenv("MEDUSA_CONFIG", str(home / "config"))
        patch.setenv("COLUMNS", "100")
        yield


@pytest.fixture(autouse=True)
def fresh_host() -> Iterator[None]:
    """Plugins are found anew by every test."""
    yield
    default_host.cache_clear()


@pytest.fixture
def make_head() -> Callable[..., NewHead]:
    """Makes a head to put into `make_folder`; keywords replace fields of its manifest."""

    def make(**changes: Any) -> NewHead:
        owner = Owner(distribution="medusa-good", version="0.2")
        fields = {
            "task": "sharpness",
            "head": HeadRef(name="slim"),
            "owner": owner,
            "head_owner": owner,
            "api_version": "1.0",
            "size": (64, 96),
            "fingerprint": FINGERPRINT,
            "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
            "params": 12_300,
            "gmacs": 0.25,
            "metrics": {"other": 9.0, "mae": 0.125},
            "probe": Probe(
                shape=(1, 1, 1, 1), values="AAAAAA==", torch="2", cpu_capability="X", device="cpu"
            ),
            "provenance": {"data": ["photos"]},
        }
        return NewHead(HeadManifest(**{**fields, **changes}), WEIGHTS)

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a model folder with the given heads that can be listed, not run."""

    def make(**heads: NewHead) -> Path:
        backbone = BackboneRecord(
            name="tiny",
            out_indices=(1, 2),
            channels=(8, 16),
            strides=(4, 8),
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            weights_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
            fingerprint=FINGERPRINT,
            params=3_860_720,
            gmacs=10.0,
        )
        create(tmp_path / "model", backbone, WEIGHTS, heads)
        return tmp_path / "model"

    return make
