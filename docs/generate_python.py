"""Writes `docs/reference/python.md` from the docstrings of what `medusa_core` exports.

Run it after changing one; a test compares.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import medusa_core
from medusa_core.model.medusa_model import Result
from medusa_core.workflows.training.head_plan import TrainOptions

TARGET = Path(__file__).parent / "reference" / "python.md"
WIDTH = 88
"""Longer signatures get a line a parameter."""

HEAD = """\
# Python

<!-- Written by docs/generate_python.py. Do not edit: run it again. -->

`import medusa_core as medusa`: what the commands do, as functions, and a model folder as an
`nn.Module`. torch is imported when one of them is first used. Every error is a `MedusaError` with a
`message` and mostly a `hint`; they lie in `medusa_core.errors`. What plugins are written with,
`medusa_core.api`, is in [hooks and checks](hooks.md).
"""

PAGES = {
    "Models": ("init", "open", "MedusaModel", "verify", "doctor", "bench"),
    "Tasks": ("add_task", "estimate", "evaluate", "predict", "remove_task", "rename_head"),
    "Heads as files": ("export_head", "add_head", "export"),
    "Backbones": ("train_backbone",),
    "Errors": ("MedusaError",),
}
"""Part of the page → the exported names in it."""

METHODS = ("forward", "predict", "notes", "remove_head", "rename_head")
"""Of `MedusaModel`."""

VALUES: dict[str, Any] = {
    "Execution": medusa_core.Execution,
    "Result": Result,
    "TrainOptions": TrainOptions,
}
"""Classes of data that the functions take or give; those of `TrainOptions` as arguments, too."""

_SECTION = re.compile(r"^(Args|Returns|Raises):$")
_ITEM = re.compile(r"^([\w*, ]+): (.*)$")


def reference() -> str:
    """The text of the file."""
    parts = [HEAD]
    for title, names in PAGES.items():
        parts.append(f"## {title}\n")
        for name in names:
            parts += _entry(f"medusa.{name}", getattr(medusa_core, name))
    parts.append("## Values\n")
    for name, value in VALUES.items():
        exported = name in medusa_core.__all__
        parts += _entry(f"medusa.{name}" if exported else name, value)
        if not exported:
            parts.append("Not for making one: its fields are given, or read.\n")
    return "\n".join(parts)


def _entry(name: str, value: Any) -> Iterator[str]:
    yield f"### {name.rpartition('.')[2]}\n"
    if value is not medusa_core.MedusaModel:  # made by `open`
        yield f"```python\n{signature(name, value)}\n```\n"
    yield markdown(inspect.getdoc(value) or "", _fields(value))
    if value is medusa_core.MedusaModel:
        for attribute in ("heads", "orphans"):
            doc = " ".join((inspect.getdoc(getattr(value, attribute)) or "").split())
            yield f"* `model.{attribute}`: {doc}"
        yield ""
        for method in METHODS:
            function = getattr(value, method)
            call = "model" if method == "forward" else f"model.{method}"
            yield f"```python\n{signature(call, function)}\n```\n"
            yield markdown(inspect.getdoc(function) or "")


def _fields(value: Any) -> set[str]:
    return {f.name for f in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()


def signature(name: str, function: Callable[..., Any]) -> str:
    """`name(parameter: type = default, …) -> type`, in one line or in several."""
    found = inspect.signature(function)
    parameters, kind = [], None
    for parameter in found.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY is not kind:
            parameters.append("*")
        kind = parameter.kind
        stars = "**" if kind is parameter.VAR_KEYWORD else ""
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parameters.append(f"{stars}{parameter.name}: {parameter.annotation}{default}")
    end = "" if inspect.isclass(function) else f" -> {found.return_annotation}"
    line = f"{name}({', '.join(parameters)}){end}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {text}," for text in parameters), f"){end}"])


def markdown(doc: str, fields: set[str] | None = None) -> str:
    """A docstring with its sections, and the fields of a class of data, as lists."""
    lines, section, depth = [], "", 0
    for line in doc.splitlines():
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if found := _SECTION.match(line):
            section, depth = found[1], indent + 4
            lines += [f"**{section}**", ""]
        elif section and (not text or section == "Returns"):
            lines.append(text)
        elif section:
            item = _ITEM.match(text) if indent == depth else None
            lines.append(f"* {_code(item[1])}: {item[2]}" if item else f"  {text}")
        elif (item := _ITEM.match(line)) and fields and set(_names(item[1])) <= fields:
            lines.append(f"* {_code(item[1])}: {item[2]}")
        else:
            lines.append(f"  {text}" if indent and fields else text)
    return "\n".join(lines) + "\n"


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _code(text: str) -> str:
    return ", ".join(f"`{name}`" for name in _names(text))


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
