"""The universal backbone that comes with the package."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from medusa_core.errors import WeightsError
from medusa_core.store.manifest import BackboneRecord

PACKAGE = "medusa_core.bundled"


def bundled_backbone() -> tuple[BackboneRecord, bytes]:
    """The record and the weights of the bundled backbone.

    Raises:
        WeightsError: this installation came without it.
    """
    record = BackboneRecord.model_validate_json(_read("backbone.json"))
    return record, _read("backbone.safetensors")


def model_card() -> dict[str, Any]:
    """What the bundled backbone was trained on, and which tasks it never saw.

    Raises:
        WeightsError: this installation came without it.
    """
    card: dict[str, Any] = json.loads(_read("card.json"))
    return card


def _read(name: str) -> bytes:
    try:
        return (files(PACKAGE) / name).read_bytes()
    except FileNotFoundError:
        raise WeightsError(
            "This installation came without the bundled backbone.",
            hint="Choose one: medusa init DIR --backbone NAME --pretrained",
        ) from None
