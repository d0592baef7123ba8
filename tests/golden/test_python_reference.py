"""`docs/reference/python.md` is what the docstrings say, of everything that is exported."""

import inspect
import re
import runpy
from pathlib import Path

import pytest

import medusa_core

ROOT = Path(__file__).parents[2]
GENERATOR = runpy.run_path(str(ROOT / "docs" / "generate_python.py"))
PAGE = GENERATOR["TARGET"].read_text(encoding="utf-8")
FUNCTIONS = [name for name in medusa_core.__all__ if name.islower() and name[0] != "_"]


def test_the_reference_is_up_to_date():
    assert GENERATOR["reference"]() == PAGE, "run: python docs/generate_python.py"


@pytest.mark.parametrize("name", [n for n in medusa_core.__all__ if not n.startswith("_")])
def test_whatever_is_exported_is_in_it(name):
    assert f"\n### {name}\n" in PAGE


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_described(name):
    entry = PAGE.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
    described = set(re.findall(r"^\* `\**(\w+)`", entry, re.MULTILINE))
    assert set(inspect.signature(getattr(medusa_core, name)).parameters) <= described
