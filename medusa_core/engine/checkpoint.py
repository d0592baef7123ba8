"""The state of an unfinished training: one safetensors file, replaced atomically.

Beside the latest state lies that of the best evaluation, to go back to should training diverge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from medusa_core.errors import StoreError, UsageError
from medusa_core.model.memory import is_out_of_memory
from medusa_core.store import files
from medusa_core.store.weights import to_bytes

FILE = "state.safetensors"
BEST = "best.safetensors"
_NOTHING = object()
_DAMAGE = (
    SafetensorError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
)
"""What reading a state raises that lacks something, or holds something else."""


def save_state(
    folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], name: str = FILE
) -> None:
    """Write tensors and JSON-able facts as one file that is either the old or the new one."""
    files.make_folder(folder, parents=True)
    files.rewrite(folder / name, to_bytes(tensors, {"medusa": json.dumps(facts)}))


def exists(folder: Path) -> bool:
    """Whether there is an unfinished training."""
    return (folder / FILE).exists()


def saved_setting(folder: Path, name: str) -> Any:
    """A setting of an unfinished training; None where there is none.

    Raises:
        StoreError: the file is damaged.
    """
    if not exists(folder):
        return None
    with _opened(folder / FILE) as (_, facts):
        return facts["identity"].get(name)


def load_state(
    folder: Path, identity: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and facts of an unfinished training; None where there is none.

    Args:
        folder: where it was saved.
        identity: settings that must be those of the unfinished training. One that diverged must
            have a lower `lr` instead.

    Raises:
        UsageError: the settings differ; lists all differences.
        StoreError: the file is damaged.
    """
    if not exists(folder):
        return None
    tensors, facts = _read(folder / FILE)
    before, asked = facts["identity"], json.loads(json.dumps(identity))
    diverged = facts.get("diverged")
    if diverged is not None:
        if asked["lr"] >= before["lr"]:
            raise UsageError(
                f"The unfinished training diverged at step {diverged['step']} with --lr "
                f"{before['lr']:g}: {diverged['what']}. Its state of step {facts['step']} is kept.",
                hint=f"Go on with a lower one, such as --resume --lr {lower(before['lr']):g}, or "
                "start again without --resume.",
            )
        before = {**before, "lr": asked["lr"]}
    differences = list(_differences(before, asked))
    if differences:
        raise UsageError(
            f"Cannot resume with other settings (saved → asked for): {'; '.join(differences)}.",
            hint="Give the settings of the unfinished training, or start again without --resume.",
        )
    return tensors, facts


def go_back(folder: Path, names: Iterable[str], step: int, lr: float, what: str) -> int | None:
    """After a training diverged: make the best state the one to resume.

    Args:
        folder: of the training.
        names: of the states it has saved, those to go back to first.
        step: at which it diverged.
        lr: with which it diverged; another one than that of the state, after going back before.
        what: diverged.

    Returns:
        The step of the state that is kept; None where there is none.
    """
    for name in names:
        with suppress(StoreError):  # the training has failed already: that is what to report
            if files.exists(folder / name):
                tensors, facts = _read(folder / name)
                facts["identity"]["lr"] = lr
                save_state(folder, tensors, {**facts, "diverged": {"step": step, "what": what}})
                forget_best(folder)
                return int(facts["step"])
    return None


def forget_best(folder: Path) -> None:
    """Remove the best state, which may be that of another training."""
    if files.exists(folder / BEST):
        files.remove(folder / BEST)


def lower(lr: float) -> float:
    """The learning rate to suggest after a training diverged."""
    return float(f"{lr / 3:.2g}")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with _opened(path) as (file, facts):
        return {key: file.get_tensor(key) for key in file.keys()}, facts  # noqa: SIM118


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Report what fails in the block as damage of a state: it lacks something, or does not fit."""
    try:
        yield
    except _DAMAGE as err:
        if is_out_of_memory(err):
            raise
        raise StoreError(
            f"{path}: cannot be read: {type(err).__name__}: {err}.",
            hint="Start again without --resume.",
        ) from err


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The file, its tensors not read yet, and its facts."""
    with sound(path), safe_open(path, framework="pt") as file:
        facts = json.loads((file.metadata() or {})["medusa"])
        dict(facts["identity"])
        yield file, facts


def _differences(before: Any, asked: Any, name: str = "") -> Iterator[str]:
    """`setting: saved → asked` for every setting that differs, those of nested objects by path."""
    if isinstance(before, dict) and isinstance(asked, dict):
        for key in sorted(before.keys() | asked.keys()):
            path = f"{name}.{key}" if name else key
            yield from _differences(before.get(key, _NOTHING), asked.get(key, _NOTHING), path)
    elif before != asked:
        yield f"{name}: {_shown(before)} → {_shown(asked)}"


def _shown(value: Any) -> str:
    if value is _NOTHING:
        return "not set"
    return ", ".join(map(str, value)) or "none" if isinstance(value, (list, dict)) else str(value)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors of an AdamW state, by parameter number."""
    return {
        f"{number}.{key}": value
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `pack_optimizer` gave, laid out as the parameters are: fused steps count on it.

    What has another shape than its parameter, such as the number of steps, is left as it is.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, _, key = name.partition(".")
        like = parameters[int(number)]
        if value.shape == like.shape:
            value = torch.empty_like(like, dtype=value.dtype).copy_(value)
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys with a prefix."""
    return {f"{prefix}.{key}": value for key, value in tensors.items()}


def under_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a prefix, without it."""
    start = f"{prefix}."
    return {k[len(start) :]: v for k, v in tensors.items() if k.startswith(start)}
