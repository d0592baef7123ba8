"""Writes docs/reference/hooks.md: the hooks with their signatures, and the conformance checks.

Run it after changing a hook or a check; a test compares.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medusa_core.api import API_VERSION
from medusa_core.plugin_host import hookspecs
from medusa_core.testing.checks import Check
from medusa_core.testing.conformance import DATASET_CHECKS, HEAD_CHECKS, TASK_CHECKS

TARGET = Path(__file__).parent / "reference" / "hooks.md"

HEAD = """# Hooks and checks

Written by `python docs/generate_hooks.py` from the code of the plugin API {version}.

A plugin is a module with some of these functions, each decorated with `medusa_core.api.hookimpl`,
named by an entry point in the group `medusa.plugins`. It must import quickly: every command reads
it. [Write a task](../how-to/write-a-task.md) shows one.
"""

CHECKS = """
## Checks

`medusa_core.testing` runs them: `@task_checks(plugin)` over a pytest test, or `check_task(plugin)`
anywhere; see [Test a plugin](../how-to/test-a-plugin.md). `expected_failures={"name": "reason"}`
takes the names below.
"""


def hooks() -> dict[str, Any]:
    """Name → specification of every hook, in the order of the file."""
    return {
        name: function
        for name, function in vars(hookspecs).items()
        if name.startswith("medusa_") and callable(function)
    }


def signature(name: str) -> str:
    """How an implementation is written."""
    return f"def {name}{inspect.signature(hooks()[name])}: ...".replace("'", "")


def reference() -> str:
    """The page."""
    parts = [HEAD.format(version=API_VERSION)]
    for name, function in hooks().items():
        options = getattr(function, "medusa_spec", {})
        first = (
            "\nThe first answer that is not None is taken.\n" if options.get("firstresult") else ""
        )
        doc = inspect.cleandoc(function.__doc__ or "")
        parts.append(
            f"\n## {name}\n\n```python\n@hookimpl\n{signature(name)}\n```\n\n{doc}\n{first}"
        )
    parts.append(CHECKS)
    for title, checks in (
        ("Tasks", TASK_CHECKS),
        ("Head architectures", HEAD_CHECKS),
        ("Data sets", DATASET_CHECKS),
    ):
        parts.append(f"\n### {title}\n\n{_table(checks)}")
    return "".join(parts)


def _table(checks: Sequence[Check[Any]]) -> str:
    rows = [f"| `{check.name}` | {check.promise} |\n" for check in checks]
    return "".join(["| check | promise |\n|---|---|\n", *rows])


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
