"""A bound on the memory that a backbone named by a file can take while it is built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from medusa_core.errors import WeightsError

SLACK, CLASSIFIER = 4, 200_000_000
"""A model may have so many times the parameters of its features, and so many more (VGG's)."""


@contextmanager
def not_larger(name: str, values: int | None) -> Iterator[None]:
    """Stop building a network that has far more parameters than there are values for them.

    timm builds all of a model before it takes the features, hence the slack. Parameters are counted
    as they are registered, which is before they are filled.

    Args:
        name: of the backbone.
        values: how many numbers there are to fill it with; None: no bound.

    Raises:
        WeightsError: it is larger.
    """
    if values is None:
        yield
        return
    limit, builder, total = SLACK * values + CLASSIFIER, get_ident(), 0

    def count(module: nn.Module, key: str, parameter: nn.Parameter | None) -> None:
        nonlocal total
        if parameter is None or get_ident() != builder:
            return
        total += parameter.numel()
        if total > limit:
            raise WeightsError(
                f"Backbone {name!r} has over {limit} parameters, its file has {values} values.",
                hint="Restore the model folder from a copy.",
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
