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

from medusa_core.engine.cache_folder import RESUMABLE, claim, partial_files, partial_prefix
from medusa_core.errors import MedusaError, StoreError
from medusa_core.store import files

_DTYPES = {"F16": np.float16, "F32": np.float32, "U8": np.uint8, "I16": np.int16, "I64": np.int64}
_CODES = {np.dtype(dtype): code for code, dtype in _DTYPES.items()}
_TENSOR = "rows"


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
        self.count = count
        self._row = math.prod(self.shape) * self.dtype.itemsize
        header = _header((count, *self.shape), self.dtype, count * self._row, metadata)
        self._start = len(header)
        with _reported(path):
            self._temporary, self._file = _adopted(path, header) or _made(path)
        try:
            with _reported(path):
                length = self._file.seek(0, os.SEEK_END)
                self.written = min(count, max(0, length - self._start) // self._row)
                if length < self._start:
                    self._file.write(header)
                self.rewind(self.written)
        except StoreError:
            self._discard()
            raise

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
        interrupted = kind is not None and not isinstance(error, MedusaError)  # fails again
        if interrupted and self.written and RESUMABLE:
            with contextlib.suppress(OSError):
                self._file.close()
            return
        try:
            if kind is None and self.written == self.count:
                with _reported(self.path):
                    self._file.flush()
                    os.fsync(self._file.fileno())
                    if os.name != "nt":  # where a file in use cannot be renamed
                        files.lock(self._file, shared=True)
                        self.rows = read_rows(self._temporary)[0]
                    self._file.close()
                    os.replace(self._temporary, self.path)
                    if self.rows is None:
                        self.rows = read_rows(self.path)[0]
        finally:
            self._discard()

    def _discard(self) -> None:
        with contextlib.suppress(OSError):  # on a full disk, of what is thrown away
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def _made(path: Path) -> tuple[Path, IO[bytes]]:
    """An empty file for rows of `path`, locked: nobody else writes to it, or deletes it."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=partial_prefix(path))
    files.lock(descriptor, shared=False)
    return Path(name), os.fdopen(descriptor, "w+b")


def _adopted(path: Path, header: bytes) -> tuple[Path, IO[bytes]] | None:
    """What somebody left of `path` who was interrupted, locked; None where nobody did.

    Whoever is still writing holds the lock. Without locks, nobody knows.
    """
    for kept in partial_files(path):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            file = stack.enter_context(kept.open("r+b"))
            known = claim(file) and os.path.samestat(os.fstat(file.fileno()), kept.stat())
            if known and file.read(len(header)) == header:
                stack.pop_all()
                return kept, file
    return None


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
