"""Pages of benchmarks are made from records, and those in results/ are what theirs say."""

from __future__ import annotations

import importlib
import json

import pytest

from benchmarks.report import RESULTS

PAGES = sorted(path.stem for path in RESULTS.glob("*.md"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_its_record_says(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name.partition('-')[0]}")
    make = getattr(module, "render", None) or module.table
    record = json.loads((RESULTS / f"{name}.json").read_text())
    assert make(record) == (RESULTS / f"{name}.md").read_text()
