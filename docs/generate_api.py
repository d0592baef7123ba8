"""Writes `tests/golden/public_api.json`, what plugins may rely on: `python docs/generate_api.py`.

A change of that file is a change of the plugin API: removing or renaming needs a new major version,
adding a new minor one (`API_VERSION` in medusa_core/api/hooks.py).
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

TARGET = Path(__file__).parents[1] / "tests" / "golden" / "public_api.json"
PUBLIC = {
    "medusa_core.api": None,
    "medusa_core.errors": "medusa_core.errors",
    "medusa_core.heads.base": "medusa_core.heads.base",
    "medusa_core.heads.blocks": "medusa_core.heads.blocks",
    "medusa_core.heads.configs": "medusa_core.heads.configs",
    "medusa_core.losses": None,
    "medusa_core.metrics": None,
    "medusa_core.testing": None,
    "medusa_core.viz": None,
    "medusa_core.data.images": "medusa_core.data.images",
    "medusa_core.testing.fakes": "medusa_core.testing.fakes",
    "medusa_core.testing.fixtures": "medusa_core.testing.fixtures",
}
"""Module → None where `__all__` lists its names, else the module that its public names are of."""


def public_api() -> dict[str, Any]:
    """Module → name → what it is; and every hook."""
    modules = {module: _names(module, home) for module, home in PUBLIC.items()}
    hookspecs = importlib.import_module("medusa_core.plugin_host.hookspecs")
    hooks = {
        name: str(inspect.signature(hook))
        for name, hook in vars(hookspecs).items()
        if name.startswith("medusa_")
    }
    version = importlib.import_module("medusa_core.api").API_VERSION
    return {"api_version": version, "hooks": hooks, "modules": modules}


def _names(module: str, home: str | None) -> dict[str, Any]:
    loaded = importlib.import_module(module)
    names = getattr(loaded, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(loaded).items()
            if not (name.startswith("_") or inspect.ismodule(value))
            and (getattr(value, "__module__", home) == home or _plain(value))
        ]
    return {name: _describe(getattr(loaded, name)) for name in sorted(names)}


def _describe(value: Any) -> Any:
    """Signatures of functions and of the public methods of classes; fields of models; constants."""
    if inspect.isclass(value):
        members = {
            name: _describe(member)
            for name, member in vars(value).items()
            if not name.startswith(("_", "model_")) and not isinstance(member, type(value))
        }
        bases = [base.__name__ for base in value.__bases__]
        if issubclass(value, BaseModel):
            return {"bases": bases, "fields": _fields(value), **_public(members)}
        try:
            signature = _text(inspect.signature(value))
        except ValueError:
            signature = "?"
        return {"bases": bases, "signature": signature, **_public(members)}
    if isinstance(value, property):
        return "property"
    if callable(value):
        return _text(inspect.signature(value))
    if _plain(value):
        return repr(value)
    return type(value).__name__


def _fields(model: type[BaseModel]) -> dict[str, str]:
    types: dict[str, str] = {}
    for base in reversed(model.__mro__):
        types |= inspect.get_annotations(base)  # as written: annotations are postponed
    fields = {}
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        fields[name] = types[name] + ("" if field.is_required() else f" = {default!r}")
    return fields


def _public(members: dict[str, Any]) -> dict[str, Any]:
    kept = {name: text for name, text in members.items() if isinstance(text, str)}
    return {"members": kept} if kept else {}


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float, tuple, frozenset))


def _text(signature: inspect.Signature) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", str(signature))


if __name__ == "__main__":
    TARGET.write_text(json.dumps(public_api(), indent=1) + "\n", encoding="utf-8")
