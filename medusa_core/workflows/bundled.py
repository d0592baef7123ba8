"""The universal backbone that comes with the package, found through the plugins' resources."""

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
    folder = files(PACKAGE)
    try:
        record = BackboneRecord.model_validate_json((folder / "backbone.json").read_bytes())
        return record, (folder / "backbone.safetensors").read_bytes()
    except FileNotFoundError:
        raise WeightsError(
            "This installation came without the bundled backbone.",
            hint="Choose one: medusa init DIR --backbone NAME --pretrained",
        ) from None


def model_card() -> dict[str, Any]:
    """What the bundled backbone was trained on, and which tasks it never saw."""
    card: dict[str, Any] = json.loads((files(PACKAGE) / "card.json").read_text("utf-8"))
    return card
