"""The system calls of the store. Every change of the disk goes through here.

Nothing is ever changed in place: `write` makes a whole new file appear under its name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from medusa_core.errors import StoreError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

_CHUNK = 1 << 24
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)

_FULL = "Free some disk space, then run the command again."
_DENIED = "Check that you own the folder and may write to it."
_HINTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: "The file system is read-only: copy the folder to one that is not.",
    errno.ELOOP: "Put the file itself there: links inside a model folder are not followed.",
    errno.EMFILE: "A reader holds one file open for each head: raise the limit (ulimit -n 4096).",
    errno.ENOENT: "Restore it from a copy, or remove the head it belongs to: medusa remove-task",
}
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_OTHER_HINT = "Check the disk and the permissions of the folder."


@contextmanager
def reported(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StoreError that says what could not be done."""
    try:
        yield
    except OSError as err:
        reason = err.strerror or str(err)
        hint = _HINTS.get(err.errno or 0, _OTHER_HINT)
        if err.errno == errno.ENOENT and action != "read":
            hint = "Make the folder first, or name another place."
        raise StoreError(f"Cannot {action} {path}: {reason}.", hint) from err


def is_shortage(error: StoreError) -> bool:
    """Whether the process lacked something, so that the file itself may be sound."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _SHORTAGES


def temporary(path: Path) -> Path:
    """Where `write` puts the bytes of `path` until all of them are on the disk."""
    return path.with_name(path.name + ".tmp")


# -- writing ------------------------------------------------------------------------------------


def write(path: Path, data: bytes, through: Path | None = None) -> None:
    """Put a whole file on the disk, then let it appear (or replace the old one) in one step.

    Args:
        path: where it appears.
        data: all of it.
        through: where it is written; None: at `temporary(path)`.
    """
    through = through or temporary(path)
    with reported("write", path):
        descriptor = os.open(through, _CREATE | _NO_LINKS, 0o666)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest[:_CHUNK]) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(through, path)


def rewrite(path: Path, data: bytes, through: Path | None = None) -> None:
    """`write`, where nobody tidies: what is left half done is cleared. Two at once need `alone`."""
    through = through or temporary(path)

    def clear() -> None:
        if exists(through) and not is_folder(through):
            remove(through)

    clear()  # what a killed process left
    try:
        write(path, data, through)
    except StoreError:
        with suppress(StoreError):
            clear()
        raise


def lock(file: IO[bytes] | int, *, shared: bool, wait: bool = True) -> bool:
    """Lock an open file until its descriptor, and every copy of it, is closed.

    Returns:
        False where another one holds it, and is not waited for. File systems and systems without
        locks are left alone.
    """
    if fcntl is None:
        return True
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other process that asks for it writes to a folder meanwhile, where folders can be locked.

    Not twice at once in a process. One that may be written to and not read is not locked.

    Raises:
        StoreError: there is no such folder.
    """
    if fcntl is None or (not os.access(folder, os.R_OK) and os.path.isdir(folder)):
        yield
        return
    with reported("write to", folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor, shared=False)
        yield
    finally:
        os.close(descriptor)


def make_folder(path: Path, parents: bool = False) -> None:
    """Make a folder unless it is there. A link to one is an error.

    With `parents`, those above it, too, and durably.
    """
    if is_folder(path):
        return
    if parents:
        make_folder(path.parent, parents)
    with reported("make the folder", path):
        try:
            os.mkdir(path)
        except FileExistsError:  # made by somebody else just now, or not a folder
            if not is_folder(path):
                raise
    if parents:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the appearing, moving and vanishing of entries of a folder durable."""
    if os.name == "nt":  # Windows cannot, and orders these by itself
        return
    with reported("sync", path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def move(source: Path, target: Path) -> None:
    """Rename in one step; a target file (or empty folder) is replaced."""
    with reported("write", target):
        os.replace(source, target)


def remove(path: Path) -> None:
    """Delete a file, a link (not what it points to), or a folder with all that is in it."""
    if is_folder(path):
        for entry in children(path):
            remove(entry)
        with reported("delete", path):
            os.rmdir(path)
    else:
        with reported("delete", path):
            os.unlink(path)


# -- reading ------------------------------------------------------------------------------------


def exists(path: Path) -> bool:
    """Whether there is anything at `path`, be it a dangling link."""
    with reported("read", path):
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    with reported("read", path):
        try:
            return os.lstat(path).st_size
        except (FileNotFoundError, NotADirectoryError):
            return 0


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder itself, not a link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def children(path: Path) -> list[Path]:
    """Entries of a folder, sorted; none where there is no folder or a link to one."""
    if not is_folder(path):
        return []
    with reported("list", path):
        return sorted(path / name for name in os.listdir(path))


def open_read(path: Path, root: Path) -> int:
    """A descriptor of a plain file. Links below `root` are refused, `root` itself may be one."""
    with reported("read", path):
        reached = os.fspath(root)
        for part in path.relative_to(root).parts:
            reached = os.path.join(reached, part)
            if os.path.islink(reached):
                raise OSError(errno.ELOOP, "it is or lies behind a symbolic link")
        descriptor = os.open(path, _READ | _NO_LINKS)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "it is not a plain file")
        return descriptor


def chunks(descriptor: int) -> Iterator[bytes]:
    """The content of a file, wherever its offset is (threads and forks share that)."""
    position = 0
    while chunk := _read_at(descriptor, position):
        yield chunk
        position += len(chunk)


def _read_at(descriptor: int, position: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, _CHUNK, position)
    os.lseek(descriptor, position, os.SEEK_SET)
    return os.read(descriptor, _CHUNK)


def read(path: Path, root: Path, limit: int | None = None) -> bytes:
    """The content of a file below `root`.

    Raises:
        StoreError: it cannot be read, or is longer than `limit`.
    """
    return read_state(path, root, limit)[1]


def read_state(path: Path, root: Path, limit: int | None = None) -> tuple[tuple[int, int], bytes]:
    """As `read`, and before it what tells the file from any other that gets its name."""
    descriptor = open_read(path, root)
    try:
        with reported("read", path):
            found = os.fstat(descriptor)
            return (found.st_ino, found.st_mtime_ns), read_open(descriptor, path, limit)
    finally:
        os.close(descriptor)


def read_open(descriptor: int, path: Path, limit: int | None = None) -> bytes:
    """The content of an open file; `path` and `limit` as in `read`."""
    size = os.fstat(descriptor).st_size
    if limit is not None and size > limit:
        raise StoreError(
            f"{path} has {size} bytes, more than the {limit} it may have.",
            hint="It was not written by medusa: restore it from a copy.",
        )
    return b"".join(chunks(descriptor))


def sha256(path: Path, root: Path) -> str:
    """Hash of a file below `root`, read piece by piece."""
    digest = hashlib.sha256()
    descriptor = open_read(path, root)
    try:
        with reported("read", path):
            for chunk in chunks(descriptor):
                digest.update(chunk)
    finally:
        os.close(descriptor)
    return digest.hexdigest()
