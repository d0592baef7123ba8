"""In which number format networks are trained. Losses and evaluations stay in float32."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from medusa_core.errors import UsageError
from medusa_core.model.inference import computes_bfloat16

TRAINING_PRECISIONS = ("fp32", "bf16", "fp16")
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
MAX_GRADIENT = 5.0


def check_precision(name: str, device: str) -> None:
    """Refuse what a device cannot do.

    Raises:
        UsageError: unknown; float16 anywhere but on a CUDA device; bfloat16 where it lacks.
    """
    if name not in TRAINING_PRECISIONS:
        raise UsageError(f"--precision {name}: one of {', '.join(TRAINING_PRECISIONS)} is needed.")
    kind = torch.device(device).type
    if name == "fp16" and kind != "cuda":
        raise UsageError(
            f"--precision fp16 on {device}: float16 gradients underflow without the loss scaling "
            "that is for CUDA devices only.",
            hint="Use --precision bf16 or fp32.",
        )
    if name == "bf16" and kind == "cuda" and not computes_bfloat16(torch.device(device)):
        raise UsageError(
            f"--precision bf16: {device} has no bfloat16.", hint="Use --precision fp16 or fp32."
        )


def check_cuda_graphs(device: str, precision: str) -> None:
    """Refuse to record where nothing can be recorded.

    Raises:
        UsageError: the device is no CUDA device, or the precision not float32.
    """
    if torch.device(device).type != "cuda" or precision != "fp32":
        raise UsageError(
            f"--cuda-graphs with --device {device} --precision {precision}: only trainings in "
            "fp32 on a CUDA device can be recorded.",
            hint="Leave it out.",
        )


class Precision:
    """The number format of a training: where predictions are made, and how a step is taken."""

    def __init__(self, name: str, device: torch.device) -> None:
        check_precision(name, str(device))
        self.name, self.device = name, device
        self.scaler = torch.amp.GradScaler(device.type) if name == "fp16" else None

    def predicting(self) -> AbstractContextManager[Any]:
        """Run networks in it: autocast, or nothing for float32."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, _DTYPES[self.name])

    def backward_and_step(
        self, loss: Tensor, optimizer: torch.optim.Optimizer, clipped: Iterable[nn.Parameter]
    ) -> None:
        """Gradients of a loss, their norm clipped at `MAX_GRADIENT`, and a step.

        With float16 a step whose scaled gradients overflow is left out, and the scale halved.
        """
        optimizer.zero_grad(set_to_none=True)
        if self.scaler is None:
            loss.backward()
            nn.utils.clip_grad_norm_(clipped, MAX_GRADIENT)
            optimizer.step()
            return
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(clipped, MAX_GRADIENT)
        self.scaler.step(optimizer)
        self.scaler.update()

    def state(self) -> dict[str, Any]:
        """JSON-able state: that of the loss scale."""
        return self.scaler.state_dict() if self.scaler is not None else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` gave."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(state)
