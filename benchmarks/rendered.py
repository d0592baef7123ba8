"""Synthetic rooms rendered once, by all workers: trainings and scorings then only read them."""

from __future__ import annotations

import os
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from medusa_core.api import Sample
from medusa_tasks.datasets.rooms.dataset import SPLITS, VERSION, Rooms

_IMAGE = "image"


def read_rooms_from(folder: Path, workers: int) -> None:
    """Have `rooms` of the default size read, from now on, what is rendered into a folder.

    Args:
        folder: of arrays, one file a split and target; those that are missing are made.
        workers: processes to render with.
    """
    folder = folder / f"rooms-{VERSION}"
    planes = {split: _planes(folder / split, split, workers) for split in SPLITS}
    render = Rooms.load
    default = {split: Rooms(None, split).digest for split in SPLITS}

    def load(self: Rooms, index: int, targets: Collection[str] | None = None) -> Sample:
        if self.digest != default[self.split]:
            return render(self, index, targets)
        names = [name for name in self.targets if targets is None or name in targets]
        own = planes[self.split]
        return Sample(
            id=self.ids[index],
            image=np.array(own[_IMAGE][index]),
            targets={name: np.array(own[name][index]) for name in names},
        )

    Rooms.load = load  # type: ignore[method-assign]


def _planes(folder: Path, split: str, workers: int) -> dict[str, np.ndarray]:
    names = (_IMAGE, *Rooms(None, split).targets)
    paths = {name: folder / f"{name}.npy" for name in names}
    if not all(path.exists() for path in paths.values()):
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [(split, index) for index in range(SPLITS[split])]
        with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            samples = list(pool.map(_render, jobs, chunksize=8))
        for name, path in paths.items():
            whole = np.stack([s.image if name == _IMAGE else s.targets[name] for s in samples])
            unfinished = path.with_name(f"unfinished-{path.name}")
            np.save(unfinished, whole)
            os.replace(unfinished, path)
    return {name: np.load(path, mmap_mode="r") for name, path in paths.items()}


def _render(job: tuple[str, int]) -> Sample:
    split, index = job
    return Rooms(None, split).load(index)
