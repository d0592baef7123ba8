"""Every `medusa …` line in README and docs is one that the command line understands."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import click
import pytest

from medusa_core.cli import medusa

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *ROOT.glob("plugins/**/*.md")]


def commands() -> list[tuple[str, str]]:
    """(page, command line) for each line of a code block that starts with `medusa `."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text("utf-8"), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                text = line.removeprefix("$ ").strip()
                if text.startswith("medusa ") and "|" not in text and "…" not in text:
                    found.append((str(page.relative_to(ROOT)), text))
    return found


def test_there_are_documented_commands() -> None:
    assert len(commands()) > 10


@pytest.mark.parametrize(("page", "line"), commands())
def test_documented_command_is_understood(page: str, line: str) -> None:
    if page == "docs/reference/cli.md" and line.endswith("[OPTIONS]"):
        pytest.skip("a usage line")
    words = shlex.split(line, comments=True)[1:]
    if words[0].startswith("-"):
        return
    group, context = medusa, click.Context(medusa, **medusa.context_settings)
    command = group.get_command(context, words[0])
    assert command is not None, f"{page}: {line}"
    rest = words[1:]
    if isinstance(command, click.Group):
        command = command.get_command(context, rest.pop(0))
        assert command is not None, f"{page}: {line}"
    with contextlib.suppress(click.exceptions.Exit):  # --help
        command.make_context(line, rest, parent=context)
