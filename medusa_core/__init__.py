"""One frozen backbone, many heads: the names users need, each imported on first use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from medusa_core.errors import MedusaError

if TYPE_CHECKING:
    from medusa_core.model import MedusaModel
    from medusa_core.model import open_model as open
    from medusa_core.model.execution import Execution
    from medusa_core.workflows.add_task import add_task
    from medusa_core.workflows.bench import bench
    from medusa_core.workflows.doctor import doctor
    from medusa_core.workflows.estimate import estimate
    from medusa_core.workflows.evaluate import evaluate
    from medusa_core.workflows.export import export
    from medusa_core.workflows.head_files import add_head, export_head
    from medusa_core.workflows.heads import remove_task, rename_head
    from medusa_core.workflows.init import init
    from medusa_core.workflows.predict import predict
    from medusa_core.workflows.train_backbone import train_backbone
    from medusa_core.workflows.verify import verify

__version__ = "0.1.0"

__all__ = [
    "Execution",
    "MedusaError",
    "MedusaModel",
    "__version__",
    "add_head",
    "add_task",
    "bench",
    "doctor",
    "estimate",
    "evaluate",
    "export",
    "export_head",
    "init",
    "open",
    "predict",
    "remove_task",
    "rename_head",
    "train_backbone",
    "verify",
]

_LAZY = {
    "Execution": ("medusa_core.model.execution", "Execution"),
    "MedusaModel": ("medusa_core.model", "MedusaModel"),
    "add_head": ("medusa_core.workflows.head_files", "add_head"),
    "add_task": ("medusa_core.workflows.add_task", "add_task"),
    "bench": ("medusa_core.workflows.bench", "bench"),
    "doctor": ("medusa_core.workflows.doctor", "doctor"),
    "estimate": ("medusa_core.workflows.estimate", "estimate"),
    "evaluate": ("medusa_core.workflows.evaluate", "evaluate"),
    "export": ("medusa_core.workflows.export", "export"),
    "export_head": ("medusa_core.workflows.head_files", "export_head"),
    "init": ("medusa_core.workflows.init", "init"),
    "open": ("medusa_core.model", "open_model"),
    "predict": ("medusa_core.workflows.predict", "predict"),
    "remove_task": ("medusa_core.workflows.heads", "remove_task"),
    "rename_head": ("medusa_core.workflows.heads", "rename_head"),
    "train_backbone": ("medusa_core.workflows.train_backbone", "train_backbone"),
    "verify": ("medusa_core.workflows.verify", "verify"),
}
"""Public name → (module, attribute); torch is imported when one of them is first asked for."""


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
