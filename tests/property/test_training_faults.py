"""A training saves its state or fills the cache, and something fails: files are old or new."""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.reliability.faults import Crash, FaultyOS, PowerFailure
from medusa_core.engine import cache_folder, checkpoint, row_file
from medusa_core.errors import StoreError
from medusa_core.store import files

IDENTITY = {"lr": 0.1}


def save(folder: Path, step: int) -> None:
    tensors = {"weight": torch.full((20,), float(step))}
    checkpoint.save_state(folder, tensors, {"identity": IDENTITY, "step": step})


def saved(folder: Path) -> int | None:
    """The step that would be resumed; what is read is whole."""
    found = checkpoint.load_state(folder, IDENTITY)
    if found is None:
        return None
    tensors, facts = found
    assert torch.equal(tensors["weight"], torch.full((20,), float(facts["step"])))
    return int(facts["step"])


@pytest.fixture(autouse=True)
def no_real_syncs(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.parametrize("before", [None, 1])
@pytest.mark.parametrize("kind", ["error", "full", "read-only", "read", "crash"])
def test_a_state_is_the_old_one_or_the_new_one(tmp_path, monkeypatch, kind, before):
    for at in itertools.count(1):
        folder = tmp_path / str(at) / "work"
        folder.parent.mkdir()
        if before is not None:
            save(folder, before)
        faulty = FaultyOS(kind, at)
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", faulty)
            try:
                save(folder, 2)
                possible = {2}
            except StoreError:
                possible = {before}
            except Crash:
                possible = {before, 2}
        assert saved(folder) in possible
        save(folder, 3)  # whatever was left
        assert saved(folder) == 3
        assert [path.name for path in folder.iterdir()] == [checkpoint.FILE]
        if faulty.calls < at:
            assert at > 1
            return


def test_a_power_failure_leaves_the_old_state_or_the_new(tmp_path, monkeypatch):
    chance = random.Random(0)
    for at in itertools.count(1):
        folder = tmp_path / str(at) / "work"
        folder.parent.mkdir()
        save(folder, 1)
        disk = PowerFailure(folder.parent, at)
        with monkeypatch.context() as patch:
            patch.setattr(files, "os", disk)
            try:
                save(folder, 2)
                failed = False
            except Crash:
                failed = True
        for number, kept in enumerate((0.0, 1.0, 0.3, 0.5, 0.7)):
            root = tmp_path / f"{at} {number}"
            disk.after_failure(root, chance, kept)
            assert saved(root / "work") in (1, 2)
        if not failed:
            return


class FailingFile:
    """An open file of which one call fails, after half of the bytes."""

    def __init__(self, file, fail) -> None:
        self._file, self._fail = file, fail

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        self._file.write(data[: len(data) // 2])
        self._fail()
        self._file.write(data[len(data) // 2 :])
        return len(data)


class FailingCache:
    """The module `os` as `engine.row_file` sees it; call `at` that changes the disk fails."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def __getattr__(self, name: str):
        return getattr(os, name)

    def _step(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise OSError(28, "No space left on device")

    def fdopen(self, descriptor: int, mode: str):
        return FailingFile(os.fdopen(descriptor, mode), self._step)

    def fsync(self, descriptor: int) -> None:
        self._step()

    def replace(self, source: Path, target: Path) -> None:
        self._step()
        os.replace(source, target)


def test_a_file_of_the_cache_is_whole_or_absent(tmp_path, monkeypatch):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)

    def write(path: Path) -> None:
        with row_file.RowWriter(path, 4, (3,), np.dtype(np.float32), {}) as writer:
            for row in rows:
                writer.write(row)

    for at in itertools.count(1):
        path = tmp_path / f"{at}.safetensors"
        faulty = FailingCache(at)
        with monkeypatch.context() as patch:
            patch.setattr(row_file, "os", faulty)
            try:
                write(path)
                failed = False
            except StoreError:
                failed = True
        assert path.exists() != failed
        assert not list(tmp_path.glob(f"{cache_folder.PARTIAL}*"))
        if not failed:
            assert faulty.calls == at - 1 == 7  # header, rows, sync, rename
            assert np.array_equal(row_file.read_rows(path)[0], rows)
            return
