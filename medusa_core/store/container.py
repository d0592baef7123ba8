"""Safetensors files as bytes: taken apart, put together, kept within limits. Needs no torch.

Such a file is the length of its header (8 bytes, little-endian), the header (a JSON object: name →
dtype, shape and place of a tensor, `__metadata__` → texts), and the values of all tensors.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json

from medusa_core.errors import StoreError

MAX_HEADER = 16 << 20
"""Longest header that is read or written, in bytes."""
MAX_TENSORS = 10_000
MAX_HEAD_BYTES = 1 << 30
"""Longest file of a head, in bytes."""
MAX_BACKBONE_BYTES = 16 << 30
"""Longest file of a backbone, in bytes."""

METADATA = "__metadata__"
_LENGTH = 8
_HINT = "Restore it from a copy, or train the head again."


def split(data: bytes, source: object) -> tuple[dict[str, Any], memoryview]:
    """Header and values of a file. Whether they fit each other is for safetensors to say.

    Args:
        data: the file; hostile content is an error, nothing else.
        source: what to call the file in an error.

    Raises:
        StoreError: it has no header, or one beyond the limits.
    """
    length = int.from_bytes(data[:_LENGTH], "little")
    if len(data) < _LENGTH or length > len(data) - _LENGTH:
        raise _malformed(source, "it ends within its header")
    if length > MAX_HEADER:
        raise _malformed(source, f"its header has {length} bytes, more than {MAX_HEADER}")
    try:
        header = from_json(data[_LENGTH : _LENGTH + length])
    except ValueError as err:
        raise _malformed(source, f"its header is not JSON: {err}") from err
    if not isinstance(header, dict):
        raise _malformed(source, "its header is no JSON object")
    if len(header) > MAX_TENSORS + 1:
        raise _malformed(source, f"it has {len(header)} tensors, more than {MAX_TENSORS}")
    return header, memoryview(data)[_LENGTH + length :]


def join(header: dict[str, Any], values: bytes | memoryview) -> bytes:
    """A file, its header padded to whole words, as the safetensors library writes it."""
    text = to_json(header)
    text += b" " * (-len(text) % _LENGTH)
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, values])


def _malformed(source: object, why: str) -> StoreError:
    return StoreError(f"{source} is not a valid safetensors file: {why}.", hint=_HINT)
