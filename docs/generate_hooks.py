"""Writes docs/reference/hooks.md: hooks with their signatures, descriptions, conformance checks.

Run it after changing one of them; a test compares.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from medusa_core.api import API_VERSION, specs
from medusa_core.plugin_host import hookspecs
from medusa_core.testing.checks import Check
from medusa_core.testing.conformance import DATASET_CHECKS, HEAD_CHECKS, TASK_CHECKS

TARGET = Path(__file__).parent / "reference" / "hooks.md"

SPECS = (
    specs.Registered,
    specs.TaskSpec,
    specs.OutputSpec,
    specs.TargetSpec,
    specs.LabelSchema,
    specs.MetricRef,
    specs.HeadRef,
    specs.HeadSpec,
    specs.DatasetSpec,
)

HEAD = """# Hooks and checks

Written by `python docs/generate_hooks.py` from the code of the plugin API {version}.

A plugin is a module with some of these functions, each decorated with `medusa_core.api.hookimpl`,
named by an entry point in the group `medusa.plugins`. It must import quickly: every command
that uses tasks, heads or data reads it. [Write a task](../how-to/write-a-task.md) shows one.
"""

DESCRIPTIONS = """
## Descriptions

What the hooks return, from `medusa_core.api`: frozen pydantic models. Fields without a default must
be given, and unknown ones are refused. A `Name` is of lower-case letters, digits and underscores, a
letter first, at most 41; an `ImportString` is `module:attribute`.
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
    parts += [DESCRIPTIONS, *map(_description, SPECS), CHECKS]
    for title, checks in (
        ("Tasks", TASK_CHECKS),
        ("Head architectures", HEAD_CHECKS),
        ("Data sets", DATASET_CHECKS),
    ):
        parts.append(f"\n### {title}\n\n{_table(checks)}")
    return "".join(parts)


def _description(spec: type[specs.Spec]) -> str:
    written = inspect.get_annotations(spec)
    rows = [
        f"| `{name}` | `{_cell(written[name])}` | {_cell(_default(field))} |\n"
        for name, field in spec.model_fields.items()
        if name in written
    ]
    doc = inspect.cleandoc(spec.__doc__ or "")
    table = "".join(["| field | type | default |\n|---|---|---|\n", *rows])
    return f"\n### {spec.__name__}\n\n```text\n{doc}\n```\n\n{table}"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    return f"`HeadRef(name={value.name!r})`" if isinstance(value, specs.HeadRef) else f"`{value!r}`"


def _table(checks: Sequence[Check[Any]]) -> str:
    rows = [f"| `{check.name}` | {check.promise} |\n" for check in checks]
    return "".join(["| check | promise |\n|---|---|\n", *rows])


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
