"""The identity of a backbone: what a head was trained on, and will only work on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def fingerprint(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """sha256 of a backbone as it computes: its description and its loaded tensors.

    Library versions, the order of keys and the memory layout of tensors do not matter. In the
    description `1` and `1.0` do differ, as they do in JSON; tuples and lists do not.

    Args:
        description: timm name, kwargs, out_indices, mean, std and input range; JSON-able.
        tensors: the state dict, buffers included. Floating-point tensors count as float32.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in _parts(description, tensors):
        digest.update(len(part).to_bytes(8, "little"))  # so that no two inputs run together alike
        digest.update(part)
    return digest.hexdigest()


def _parts(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Iterator[bytes]:
    yield _canonical_json(description)
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.float()
        array = tensor.numpy()
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        yield key.encode()
        yield array.dtype.name.encode()
        yield _canonical_json(list(array.shape))
        yield array.tobytes()


def _canonical_json(value: object) -> bytes:
    if isinstance(value, Mapping):
        value = dict(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
