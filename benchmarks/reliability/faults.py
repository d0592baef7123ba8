"""Disks that fail: the module `os` as `store.files` sees it, when something goes wrong.

All bytes of a model folder, those of weights included, are written by `store.files`, so every one
of them is in reach.
"""

# ruff: noqa: D102 - each method is the function of that name in `os`

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path


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

    def listdir(self, path: Path) -> list[str]:
        self._read()
        return os.listdir(path)

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
        self.pending: list[tuple[Path, Callable[[dict[Path, File | None]], object]]] = []
        self.opened: dict[int, Path] = {}

    def _change(self, path: Path, apply: Callable[[dict[Path, File | None]], object]) -> None:
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
        file = self.live[self.opened[descriptor]]
        assert file is not None, "a folder was written to"
        file.written += bytes(data[:count])
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
