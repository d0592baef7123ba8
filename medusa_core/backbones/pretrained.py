"""Weights of backbones: from a file in timm's names, or from where timm publishes them."""

from __future__ import annotations

from collections.abc import Mapping

import timm
import torch
from torch import Tensor

from medusa_core.backbones.timm_backbone import Backbone, check_name
from medusa_core.errors import WeightsError
from medusa_core.names import some

_DTYPES = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32}


def load_weights(backbone: Backbone, tensors: Mapping[str, Tensor], source: str) -> list[str]:
    """Copy weights into a backbone, strictly.

    Args:
        backbone: receives the weights.
        tensors: under the names of the timm feature model, or of the full timm model.
        source: named in errors.

    Returns:
        Keys of `tensors` that the backbone has no place for (a classifier's, usually).

    Raises:
        WeightsError: a key is missing or has another shape; lists all of them.
    """
    own = backbone.net.state_dict()
    chosen: dict[str, str] = {}
    problems = []
    for key, tensor in own.items():
        found = next((c for c in _checkpoint_names(key) if c in tensors), None)
        if found is None:
            if not key.endswith("num_batches_tracked"):
                problems.append(f"{key} is missing")
        elif tensors[found].shape != tensor.shape:
            problems.append(
                f"{key} is {tuple(tensors[found].shape)} in the file, {tuple(tensor.shape)} here"
            )
        elif tensors[found].dtype not in _DTYPES:
            problems.append(f"{key} is {tensors[found].dtype}, which is not converted")
        elif not torch.isfinite(tensors[found].float()).all():
            problems.append(f"{key} holds NaN or infinity")
        else:
            chosen[key] = found
    left = sorted(set(tensors) - set(chosen.values()))
    if problems:
        shown = "; ".join(problems[:8]) + ("; …" if len(problems) > 8 else "")
        raise WeightsError(
            f"Cannot load {source} into {backbone.description.name}: "
            f"{len(problems)} problems: {shown}",
            hint="The file must hold finite weights of this timm model, under timm's names. "
            f"What fits nothing in it: {some(left, 5) or 'nothing'}.",
        )
    with torch.no_grad():
        for key, found in chosen.items():
            own[key].copy_(tensors[found])
    return left


def hub_repository(name: str) -> str | None:
    """Where timm keeps the weights of a model on the Hugging Face hub; None: nowhere.

    Raises:
        UnknownNameError: timm has no such model.
    """
    check_name(name)
    config = timm.get_pretrained_cfg(name)
    return config.hf_hub_id or None if config is not None else None


def download_pretrained(name: str) -> str:
    """Path of the pretrained safetensors file of a timm model, fetched by huggingface_hub.

    Raises:
        UnknownNameError: timm has no such model.
        WeightsError: the model has no pretrained weights, or they cannot be fetched.
    """
    import huggingface_hub

    repository = hub_repository(name)
    if repository is None:
        raise WeightsError(
            f"timm offers no pretrained weights for {name!r}.",
            hint="Give your own with --weights FILE.safetensors.",
        )
    try:
        return huggingface_hub.hf_hub_download(repository, "model.safetensors")
    except Exception as err:
        raise WeightsError(
            f"Cannot fetch the pretrained weights of {name!r} ({repository}): {err}",
            hint="Without a network, give a local file: --weights FILE.safetensors.",
        ) from err


def _checkpoint_names(key: str) -> list[str]:
    """Names a key of a timm feature model may have in a checkpoint of the full model."""
    names = [key, key.removeprefix("model."), key.removeprefix("body.")]
    module, dot, rest = key.partition(".")  # timm flattens `stages.0` to `stages_0`
    names += [
        f"{module[:i]}.{module[i + 1 :]}{dot}{rest}" for i, c in enumerate(module) if c == "_"
    ]
    return names
