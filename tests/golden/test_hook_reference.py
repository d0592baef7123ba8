"""`docs/reference/hooks.md` is what the code says, and every hook is tested."""

import re
import runpy
from pathlib import Path

import pytest

from medusa_core.testing.conformance import DATASET_CHECKS, HEAD_CHECKS, TASK_CHECKS

ROOT = Path(__file__).parents[2]
GENERATOR = runpy.run_path(str(ROOT / "docs" / "generate_hooks.py"))
PAGE = GENERATOR["TARGET"].read_text(encoding="utf-8")
HOOKS = GENERATOR["hooks"]()


def test_the_reference_of_hooks_is_up_to_date():
    assert GENERATOR["reference"]() == PAGE, "run: python docs/generate_hooks.py"


def test_there_are_hooks():
    assert {"medusa_register_tasks", "medusa_register_heads", "medusa_register_datasets"} <= set(
        HOOKS
    )


@pytest.mark.parametrize("name", HOOKS)
def test_the_hook_is_documented_with_its_signature(name):
    assert f"\n{GENERATOR['signature'](name)}\n" in PAGE
    assert len((HOOKS[name].__doc__ or "").strip()) > 20


@pytest.mark.parametrize("name", HOOKS)
def test_the_hook_has_a_test(name):
    pattern = re.compile(rf"def {name}\b|\"{name}\"|\.{name}\b")
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    assert any(pattern.search(path.read_text("utf-8")) for path in tests)


@pytest.mark.parametrize(
    "check", [*TASK_CHECKS, *HEAD_CHECKS, *DATASET_CHECKS], ids=lambda c: c.name
)
def test_the_check_says_what_it_checks(check):
    assert check.promise.endswith(".")
    assert f"| `{check.name}` | {check.promise} |" in PAGE
