"""The state of an unfinished training: one safetensors file, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from medusa_core.errors import StoreError, UsageError
from medusa_core.store import files

FILE = "state.safetensors"


def save_state(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able facts as one file that is either the old or the new one."""
    files.make_folder(folder, parents=True)
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    data = save(plain, metadata={"medusa": json.dumps(facts)})
    rest = files.temporary(folder / FILE)
    if files.exists(rest):  # of a process that was killed, or a disk that was full
        files.remove(rest)
    files.write(folder / FILE, data)


def exists(folder: Path) -> bool:
    """Whether there is an unfinished training."""
    return (folder / FILE).exists()


def load_state(
    folder: Path, identity: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and facts of an unfinished training; None where there is none.

    Args:
        folder: where it was saved.
        identity: settings that must be those of the unfinished training.

    Raises:
        UsageError: the settings differ; lists all differences.
        StoreError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["medusa"])
            before = facts["identity"]
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as err:
        raise StoreError(
            f"{path}: cannot be read: {err}.", hint="Start again without --resume."
        ) from err
    differences = [
        f"{key} was {before.get(key)!r}, is {identity.get(key)!r}"
        for key in sorted(before.keys() | identity.keys())
        if before.get(key) != json.loads(json.dumps(identity.get(key)))
    ]
    if differences:
        raise UsageError(
            f"Cannot resume with other settings: {'; '.join(differences)}.",
            hint="Give the settings of the unfinished training, or start again without --resume.",
        )
    return tensors, facts


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of an AdamW state, by parameter number."""
    return {
        f"{number}.{key}": value
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `pack_optimizer` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys with a prefix."""
    return {f"{prefix}.{key}": value for key, value in tensors.items()}


def under_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a prefix, without it."""
    start = f"{prefix}."
    return {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}
