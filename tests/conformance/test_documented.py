"""What is printed in `docs/how-to` keeps the contract."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medusa_core.data.folder import FolderDataset
from medusa_core.testing import check_head, check_task

PAGES = Path(__file__).parents[2] / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    """Those of a page, in order."""
    text = (PAGES / f"{page}.md").read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@contextmanager
def imported(folder: Path, package: str, files: dict[str, str]) -> Iterator[ModuleType]:
    """The module `plugin` of a package of these files."""
    (folder / package).mkdir()
    for name, text in {"__init__": "", **files}.items():
        (folder / package / f"{name}.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        try:
            yield importlib.import_module(f"{package}.plugin")
        finally:
            for name in [name for name in sys.modules if name.partition(".")[0] == package]:
                del sys.modules[name]


def test_the_task_of_a_number_keeps_the_contract(tmp_path: Path) -> None:
    files = dict(zip(("plugin", "task"), blocks("learn-a-number", "python"), strict=True))
    with imported(tmp_path, "medusa_fill", files) as plugin:
        check_task(plugin)


@pytest.mark.parametrize("tokens", [False, True])
def test_the_head_keeps_the_contract(tmp_path: Path, tokens: bool) -> None:
    head, of_tokens, config, plugin_file = blocks("write-a-head", "python")
    if tokens:
        head = _given_tokens(head, of_tokens)
    files = {"head": head, "config": config, "plugin": plugin_file}
    with imported(tmp_path, "medusa_myhead", files) as plugin:
        check_head(plugin)


def _given_tokens(head: str, lines: str) -> str:
    """The head with the lines of the section on tokens."""
    imports, says = lines.split("\n\n")[:2]
    forward = says.partition("# in forward:\n")[2]
    assert forward.count("\n") == 4
    head = head.replace("from torch import Tensor", f"{imports}\nfrom torch import Tensor")
    head = head.replace("    recordable", "    upsamples = True\n    recordable")
    head = head.replace(
        "        self.project =",
        "        self.upsampling = features.upsampling\n        self.project =",
    )
    body = head.index("        size =")
    return head[:body] + forward + head[head.index("        return self.predict") :]


def test_the_metric_counts_what_is_off() -> None:
    names: dict[str, Any] = {}
    exec(blocks("write-a-task", "python")[-1], names)
    decoded, target = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    valid = target > 0.2
    metric = names["Misses"]()
    found = metric.compute(metric.statistics(decoded, target, valid).sum(0))
    assert found["misses"] == pytest.approx(
        float(((decoded - target).abs() > 0.1)[valid].float().mean())
    )


def test_the_target_is_read(tmp_path: Path) -> None:
    [target] = blocks("learn-a-number", "json")
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
