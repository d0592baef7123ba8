"""Tensors as safetensors bytes and back. The only module of the store that needs torch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from medusa_core.errors import StoreError
from medusa_core.store import container


def to_bytes(tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file, with `about` as its metadata. Tensors may share their memory.

    Equal tensors give equal bytes, whatever their order and layout.
    """
    plain = {
        key: tensors[key].detach().cpu().clone(memory_format=torch.contiguous_format)
        for key in sorted(tensors)
    }
    return save(plain, metadata=dict(about) if about else None)


def from_bytes(data: bytes, source: object) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Args:
        data: the file; hostile content is an error, nothing else.
        source: what to call the file in an error.

    Raises:
        StoreError: it is malformed, or beyond the limits of `container`.
    """
    container.split(data, source)
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError, AssertionError) as err:
        raise StoreError(
            f"{source} is not a valid safetensors file: {err}.",
            hint="Restore it from a copy, or train the head again.",
        ) from err
