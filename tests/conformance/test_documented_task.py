"""The task in `docs/how-to/learn-a-number.md`, as it is printed, keeps the contract."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medusa_core.data.folder import FolderDataset
from medusa_core.testing import check_task

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "learn-a-number.md"


def blocks(language: str) -> list[str]:
    """Those of the page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)


def test_the_task_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "medusa_fill"
    package.mkdir()
    for name, text in zip(("plugin", "task"), blocks("python"), strict=True):
        (package / f"{name}.py").write_text(text)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    try:
        check_task(importlib.import_module("medusa_fill.plugin"))
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "medusa_fill"]:
            del sys.modules[name]


def test_the_target_is_read(tmp_path: Path) -> None:
    [target] = blocks("json")
    targets = json.loads("{" + target + "}")
    description = {
        "schema_version": 1,
        "name": "bins",
        "image": "{id}.png",
        "splits": {"train": "train.txt"},
        "targets": targets,
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    (tmp_path / "train.txt").write_text("a\nb\n")
    (tmp_path / "known.csv").write_text("id,fill\na,80\nb,-999\n")
    for name in "ab":
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
    data = FolderDataset(str(tmp_path), "train")
    assert data.load(0).targets == {"fill": np.float32(80)}
    assert data.load(1).targets == {}
