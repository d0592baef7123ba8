"""A safetensors file of equal rows, written one by one and memory-mapped for reading.

The library's own writer needs the whole tensor in memory; a feature cache is larger than that.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from medusa_core.engine.cache_folder import (
    claim,
    partial_files,
    partial_prefix,
    remove_partials,
    this_boot,
)
from medusa_core.errors import StoreError
from medusa_core.store import files

_DTYPES = {"F16": np.float16, "F32": np.float32, "U8": np.uint8, "I16": np.int16, "I64": np.int64}
_CODES = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}
_TENSOR = "rows"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Of a disk, a user's share of it, or what a process may write."""


class RowWriter:
    """Writes `count` rows of `shape` and `dtype`; the file appears when all are there.

    Rows of a writer that was interrupted stay, and the next one for the same file has them.

    Attributes:
        rows: of the file once it has appeared, in use without a gap: others cannot delete it.
        written: how many rows there are.
    """

    def __init__(
        self,
        path: Path,
        count: int,
        shape: Sequence[int],
        dtype: np.dtype,
        metadata: Mapping[str, str],
    ) -> None:
        self.path = path
        self.rows: np.ndarray | None = None
        self.dtype = np.dtype(dtype)
        self.shape = tuple(shape)
        self.count, self.written = count, 0
        self._row = math.prod(self.shape) * self.dtype.itemsize
        header = _header((count, *self.shape), self.dtype, count * self._row, metadata)
        self._start = len(header)
        with _reported(path):
            self.temporary, self._file = _adopted(path, header) or _made(path)
        try:
            with _reported(path):
                length = self._file.seek(0, os.SEEK_END)
                if length < self._start:
                    self._file.write(header)
                self.rewind(min(count, max(0, length - self._start) // self._row))
        except StoreError as err:
            self._leave(err)
            raise

    @property
    def missing_bytes(self) -> int:
        """Of rows that are not written yet."""
        return (self.count - self.written) * self._row

    def rewind(self, written: int) -> None:
        """Keep the first `written` rows; the next one comes after them."""
        with _reported(self.path):
            self._file.truncate(self._file.seek(self._start + written * self._row))
        self.written = written

    def write(self, row: np.ndarray) -> None:
        """Append one row."""
        if row.shape != self.shape:
            raise ValueError(f"row of shape {row.shape}, {self.shape} expected")
        with _reported(self.path):
            self._file.write(np.ascontiguousarray(row, self.dtype).tobytes())
        self.written += 1

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None or self.written < self.count:
            self._leave(error)
            return
        try:
            self._finish()
        except BaseException as err:
            self._leave(err)
            raise

    def _finish(self) -> None:
        with _reported(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            if os.name != "nt":  # where a file in use cannot be renamed
                files.lock(self._file, shared=True)
                self.rows = read_rows(self.temporary)[0]
            self._file.close()
            os.replace(self.temporary, self.path)
            if self.rows is None:
                self.rows = read_rows(self.path)[0]
        remove_partials(self.path)

    def _leave(self, error: BaseException | None) -> None:
        """Keep rows that can be gone on with, but not on a full disk."""
        kept = self.written > 0 and this_boot() and not _is_full(error)
        with contextlib.suppress(OSError):
            self._file.close()
        if not kept:
            self.temporary.unlink(missing_ok=True)


def _is_full(error: BaseException | None) -> bool:
    cause = None if error is None else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL


def _made(path: Path) -> tuple[Path, IO[bytes]]:
    """An empty file for rows of `path`, locked: nobody else writes to it, or deletes it."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=partial_prefix(path))
        file = os.fdopen(descriptor, "w+b")
        files.lock(file, shared=False)
        if _is_there(file, Path(name)):
            return Path(name), file
        file.close()  # somebody made room before it was locked


def _adopted(path: Path, header: bytes) -> tuple[Path, IO[bytes]] | None:
    """What somebody left of `path` who was interrupted, locked; None where nobody did.

    Whoever is still writing holds the lock.
    """
    for kept in partial_files(path) if this_boot() else ():
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            descriptor = os.open(kept, os.O_RDWR | os.O_NOFOLLOW)
            file = stack.enter_context(os.fdopen(descriptor, "r+b"))
            if claim(file) and _is_there(file, kept) and file.read(len(header)) == header:
                stack.pop_all()
                return kept, file
    return None


def _is_there(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except OSError:
        return False


def read_rows(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """The rows, memory-mapped read-only, and the metadata.

    As long as the rows are referred to, the file counts as in use.

    Raises:
        StoreError: not such a file, cut short, or just deleted.
    """
    try:
        with path.open("rb") as file:
            files.lock(file, shared=True)  # the mapping copies the descriptor, and so the lock
            path.stat()  # it may have been deleted while the lock was waited for
            length = int.from_bytes(file.read(8), "little")
            if length > 64_000_000:
                raise ValueError("header too long")
            header = json.loads(file.read(length))
            entry = header[_TENSOR]
            dtype = np.dtype(_DTYPES[entry["dtype"]])
            rows = np.memmap(file, dtype, mode="r", offset=8 + length, shape=tuple(entry["shape"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as err:
        raise StoreError(f"{path}: not a file of rows: {err}.", hint=f"Delete it: {path}") from err
    return rows, header.get("__metadata__", {})


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        hint = "Free some space, or put the cache elsewhere: MEDUSA_CACHE=DIR"
        if err.errno == errno.EMFILE:
            hint = "Raise the limit (ulimit -n 4096), or use fewer --views or tasks at once."
        raise StoreError(f"{path}: cannot be written: {err.strerror}.", hint=hint) from err


def file_size(shape: tuple[int, ...], dtype: np.dtype, metadata: Mapping[str, str]) -> int:
    """Bytes of a whole file, its header included."""
    size = math.prod(shape) * dtype.itemsize
    return len(_header(shape, dtype, size, metadata)) + size


def _header(
    shape: tuple[int, ...], dtype: np.dtype, size: int, metadata: Mapping[str, str]
) -> bytes:
    entry = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [0, size]}
    text = json.dumps({"__metadata__": dict(metadata), _TENSOR: entry}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
