"""Variables of MATLAB files (v5 to v7), read as data from a stranger.

A reader of our own, since SciPy's kills the process on damaged files: one wrong byte in the type of
an element, or cells nested deep enough, and it reads memory that is not its own (SciPy 1.17). Here
a file gives arrays of numbers, text and structs, or an error. Nothing in it is run or imported.
MathWorks describes the format ("MAT-File Format"). Files of MATLAB 7.3 are HDF5 and are refused.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medusa_core.data.files import read_bounded
from medusa_core.data.images import MAX_PIXELS
from medusa_core.errors import DataError

MAX_BYTES = 1 << 28
"""Of a file, packed or unpacked."""

Struct = dict[str, Any]
"""Field → number array `(…)`, text, or list of structs."""

_Order = Literal["<", ">"]
_ORDERS: dict[bytes, _Order] = {b"IM": "<", b"MI": ">"}
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _TEXT = 2, 4
_CLASSES = dict(enumerate(("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"), 6))
"""Class of an array → what its numbers are."""
_STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
"""Type of an element → how its numbers are stored, which may be smaller than what they are."""
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_COMPLEX = 0x800
_DEEPEST = 16


@dataclass(frozen=True)
class _Element:
    kind: int
    data: memoryview


def read_variable(path: Path, name: str) -> Any:
    """A variable: an array of numbers, text, or a list of structs.

    Raises:
        DataError: the file cannot be read, lacks the variable, or holds something else in it.
    """
    data = _read(path)
    order = _ORDERS.get(data[126:128])
    if order is None or struct.unpack(f"{order}H", data[124:126])[0] != 0x0100:
        raise DataError(f"{path}: not a MATLAB file (v5 to v7).")
    try:
        for body in _variables(data, order):
            parts = list(_elements(body, order))
            if len(parts) > 2 and bytes(parts[2].data) == name.encode():
                return _value(body, order, 0)
    except (ValueError, struct.error, zlib.error, MemoryError) as err:
        raise DataError(f"{path}: cannot be read, truncated or damaged: {err}.") from err
    raise DataError(f"{path}: has no variable {name!r}.")


def numbers(path: Path, what: str, value: Any) -> np.ndarray:
    """`value`, if it is an `(H, W)` array of numbers; else `DataError`."""
    if not isinstance(value, np.ndarray) or value.ndim != 2:
        raise DataError(f"{path}: {what} is {_describe(value)}, expected a map of numbers.")
    if not 0 < value.size <= MAX_PIXELS:
        raise DataError(f"{path}: {what} has {value.size} pixels.")
    return value


def text(path: Path, what: str, value: Any) -> str:
    """`value`, if it is text; else `DataError`."""
    if not isinstance(value, str):
        raise DataError(f"{path}: {what} is {_describe(value)}, expected text.")
    return value


def structs(path: Path, what: str, value: Any, fields: Sequence[str]) -> list[Struct]:
    """`value`, if it is structs with at least these fields, or empty; else `DataError`."""
    if isinstance(value, np.ndarray) and value.size == 0:
        return []
    if not isinstance(value, list) or any(not set(fields) <= set(one) for one in value):
        raise DataError(
            f"{path}: {what} is {_describe(value)}, expected structs with the fields "
            f"{', '.join(fields)}."
        )
    return value


def _describe(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, list):
        return f"structs with the fields {', '.join(value[0])}" if value else "an empty struct"
    return f"{'×'.join(map(str, value.shape))} numbers"


def _read(path: Path) -> bytes:
    try:
        data = read_bounded(path, MAX_BYTES)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except OSError as err:
        raise DataError(f"{path}: cannot be read: {err.strerror}.") from err
    if data.startswith(b"MATLAB 7.3") or data[512:520] == b"\x89HDF\r\n\x1a\n":
        raise DataError(
            f"{path}: a MATLAB 7.3 file (HDF5), which is not read.",
            hint="Save it again in MATLAB with save(…, '-v7').",
        )
    return data


def _variables(data: bytes, order: _Order) -> Iterator[memoryview]:
    """The content of each variable's array, decompressed."""
    left = MAX_BYTES
    # What is compressed is not padded, and nothing else stands beside arrays.
    for element in _elements(memoryview(data)[_HEADER:], order, padded=False):
        if element.kind == _COMPRESSED:
            stream = zlib.decompressobj()
            unpacked = stream.decompress(element.data, left + 1)
            if len(unpacked) > left:
                raise ValueError(f"it unpacks to more than {MAX_BYTES >> 20} MiB")
            if not stream.eof:
                raise ValueError("a compressed variable is incomplete")
            left -= len(unpacked)
            element = next(_elements(memoryview(unpacked), order), element)
        if element.kind != _MATRIX:
            raise ValueError(f"an element of type {element.kind} where a variable should be")
        yield element.data


def _elements(data: memoryview, order: _Order, padded: bool = True) -> Iterator[_Element]:
    """What follows one another in `data`: each a type, a length and that many bytes."""
    position = 0
    while position < len(data):
        if position + 8 > len(data):
            raise ValueError("it ends within an element")
        kind, length = struct.unpack_from(f"{order}II", data, position)
        start, following = position + 8, position + 8 + length
        if kind >> 16:  # up to four bytes lie beside a short type and length
            kind, length = kind & 0xFFFF, kind >> 16
            start, following = position + 4, position + 8
        elif padded:
            following += -length % 8
        if start + length > min(following, len(data)):
            raise ValueError("an element is longer than what holds it")
        yield _Element(kind, data[start : start + length])
        position = following


def _value(body: memoryview, order: _Order, depth: int) -> Any:
    """An array's content from its flags, shape, name and what belongs to its class."""
    if depth > _DEEPEST:
        raise ValueError(f"structs nested more than {_DEEPEST} deep")
    parts = list(_elements(body, order))
    if not parts:  # an empty field
        return np.zeros((0, 0))
    if len(parts) < 3:
        raise ValueError("an array without a shape and a name")
    (flags,) = struct.unpack_from(f"{order}I", parts[0].data)
    shape = _sizes(parts[1], order)
    if not shape or min(shape) < 0:
        raise ValueError(f"an array of the shape {shape}")
    kind, content = flags & 0xFF, parts[3:]
    if kind == _STRUCT:
        return _structs(shape, content, order, depth)
    if kind == _TEXT:
        return _text(shape, content, order)
    if kind not in _CLASSES or flags & _COMPLEX or len(content) != 1:
        raise ValueError(f"an array of class {kind}: only real numbers, text and structs are read")
    stored = _decode(content[0], order)
    if stored.size != math.prod(shape):
        raise ValueError(f"{stored.size} numbers in an array of the shape {shape}")
    with np.errstate(invalid="ignore"):
        values = stored.astype(_CLASSES[kind]).reshape(shape, order="F")  # column by column
    return np.ascontiguousarray(values)


def _structs(shape: list[int], content: list[_Element], order: _Order, depth: int) -> list[Struct]:
    if len(content) < 2:
        raise ValueError("structs without field names")
    width, fields = sum(_sizes(content[0], order)), bytes(content[1].data)
    if not 0 < width <= len(fields) or len(fields) % width:
        raise ValueError("structs whose field names do not fit")
    names = [
        fields[i : i + width].split(b"\0")[0].decode("ascii", "replace")
        for i in range(0, len(fields), width)
    ]
    values = content[2:]
    if len(values) != math.prod(shape) * len(names) or any(v.kind != _MATRIX for v in values):
        raise ValueError(f"{len(values)} fields of structs of the shape {shape}")
    decoded = [_value(value.data, order, depth + 1) for value in values]
    return [
        dict(zip(names, decoded[i : i + len(names)], strict=True))
        for i in range(0, len(decoded), len(names))
    ]


def _text(shape: list[int], content: list[_Element], order: _Order) -> str:
    if len(content) != 1 or content[0].kind not in _ENCODINGS or math.prod(shape[:-1]) > 1:
        raise ValueError("text that is not one line")
    encoding = _ENCODINGS[content[0].kind]
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if order == "<" else "-be"
    return bytes(content[0].data).decode(encoding)


def _sizes(element: _Element, order: _Order) -> list[int]:
    """Numbers that count something."""
    sizes = _decode(element, order)
    if sizes.dtype.kind == "f" or any(sizes > MAX_BYTES):
        raise ValueError(f"sizes of the type {sizes.dtype}: {sizes[:4].tolist()}")
    return [int(size) for size in sizes]


def _decode(element: _Element, order: _Order) -> np.ndarray:
    if element.kind not in _STORED:
        raise ValueError(f"numbers of type {element.kind}")
    return np.frombuffer(element.data, np.dtype(_STORED[element.kind]).newbyteorder(order))
