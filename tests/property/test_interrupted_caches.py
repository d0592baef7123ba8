"""Processes that fill one cache and are killed, or interrupted, at any moment: no file is wrong."""

import hashlib
import multiprocessing
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from medusa_core.api import Sample, TargetInfo
from medusa_core.backbones.timm_backbone import build, describe
from medusa_core.data.geometry import fixed_views
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import Source
from medusa_core.engine.cache_folder import cache_folder, this_boot
from medusa_core.engine.feature_cache import cache_tasks
from medusa_core.model.assembly import make_task
from medusa_core.plugin_host import default_host
from medusa_core.progress import SilentProgress

COUNT, SIZE, VIEWS, ROUNDS = 40, (32, 48), 2, 40
TASKS = ("depth", "normals")


class _Noise:
    """Images with depth and normals."""

    name, split, digest = "noise", "train", "noise"
    ids = tuple(f"{index}" for index in range(COUNT))

    def __init__(self) -> None:
        self.targets = {"depth": TargetInfo(unit="m"), "normals": TargetInfo()}

    def __len__(self) -> int:
        return COUNT

    def size(self, index: int) -> tuple[int, int]:
        return SIZE

    def load(self, index, targets=None):
        noise = np.random.RandomState(index)
        depth = noise.uniform(1, 5, SIZE).astype(np.float32)
        normals = noise.normal(size=(*SIZE, 3)).astype(np.float32)
        normals /= np.linalg.norm(normals, axis=2, keepdims=True)
        image = noise.randint(0, 256, (*SIZE, 3)).astype(np.uint8)
        return Sample(self.ids[index], image, {"depth": depth, "normals": normals})


def _fill(backbone, names, views):
    host = default_host()
    bindings = [Binding(make_task(host, host.tasks.get(name)), None) for name in names]
    source = Source(_Noise(), SIZE, fixed_views(views))
    cache_tasks(backbone, "f" * 64, source, bindings, SilentProgress())


def _victim(backbone, names, views, after, killed):
    """Ends after so many seconds, or when all is done."""

    def interrupt(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, signal.SIG_DFL if killed else interrupt)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        _fill(backbone, names, views)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        pass
    os._exit(0)  # an error has ended it with 1


def _digests(folder: Path) -> dict[str, str]:
    files = folder.glob("*.safetensors") if folder.exists() else []
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
@pytest.mark.skipif(not this_boot(), reason="nothing can be gone on with")
def test_files_are_those_of_an_undisturbed_pass(tmp_path, monkeypatch):
    backbone = build(describe("test_efficientnet")).freeze()
    monkeypatch.setenv("MEDUSA_CACHE", str(tmp_path / "undisturbed"))
    _fill(backbone, TASKS, VIEWS)
    expected = _digests(cache_folder())
    monkeypatch.setenv("MEDUSA_CACHE", str(tmp_path / "disturbed"))
    folder, chance, forks = cache_folder(), random.Random(0), multiprocessing.get_context("fork")
    for _ in range(ROUNDS):
        for path in folder.glob("*.safetensors"):
            if chance.random() < 0.6:
                path.unlink()
        running = [
            forks.Process(
                target=_victim,
                args=(
                    backbone,
                    chance.sample(TASKS, chance.choice([1, 2])),
                    chance.choice([1, VIEWS]),
                    chance.uniform(0.01, 0.3),
                    chance.random() < 0.5,
                ),
            )
            for _ in range(chance.choice([1, 2, 3]))
        ]
        for process in running:
            process.start()
        for process in running:
            process.join()
            assert process.exitcode in (0, -signal.SIGALRM)
        found = _digests(folder)
        assert found.items() <= expected.items()
    _fill(backbone, TASKS, VIEWS)
    assert _digests(folder) == expected
    assert not list(folder.glob(".*"))
