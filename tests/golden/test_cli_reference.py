"""`docs/reference/cli.md` is what `docs/generate_cli.py` writes."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_reference_of_commands_is_up_to_date():
    generator = runpy.run_path(str(ROOT / "docs" / "generate_cli.py"))
    written = generator["TARGET"].read_text(encoding="utf-8")
    made_with = re.search(r"with click (\d+\.\d+)\.", written)
    assert made_with is not None
    if made_with[1] != generator["click_version"]():
        pytest.skip(f"written with click {made_with[1]}, which words help in another way")
    assert written == generator["reference"](), "run: python docs/generate_cli.py"
