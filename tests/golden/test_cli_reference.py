"""`docs/reference/cli.md` is what `docs/generate_cli.py` writes.

Other versions of click word help in another way: with them, commands and options are compared.
"""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_reference_of_commands_is_up_to_date():
    generator = runpy.run_path(str(ROOT / "docs" / "generate_cli.py"))
    written = generator["TARGET"].read_text(encoding="utf-8")
    made_with = re.search(r"with click (\d+\.\d+)\.", written)
    assert made_with is not None
    there = generator["reference"]()
    assert outline(written) == outline(there), "run: python docs/generate_cli.py"
    if made_with[1] == generator["click_version"]():
        assert written == there, "run: python docs/generate_cli.py"


def outline(page):
    """Command → names of its options."""
    sections = re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", page, re.M | re.S)
    return {
        name: set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", text, re.M)) for name, text in sections
    }
