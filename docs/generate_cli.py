"""Writes `docs/reference/cli.md` from the help of every command: `python docs/generate_cli.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from medusa_core.cli import medusa

TARGET = Path(__file__).parent / "reference" / "cli.md"
WIDTH = 88
"""Help is wrapped at this column, whatever terminal it is generated on."""

HEAD = """\
# Commands

<!-- Written by docs/generate_cli.py with click {click}. Do not edit: run it again. -->

`stdout` carries results only; progress, warnings and errors go to `stderr`. With `--json` a command
prints one JSON document with a `schema_version`. An error is one line that says what and where, and
mostly a second one that says what to do. A command that cannot begin or go on prints no document;
one that did all it could (`predict`, `verify`, `doctor`, `plugins doctor`, `demo`, `eval --min`,
`add-task` of several tasks, its `--dry-run` of a file that does not fit) prints it before it fails.
A reader that leaves early (`| head`) ends no command.

The shell completes commands and options after one line in its start-up file:

```text
eval "$(_MEDUSA_COMPLETE=bash_source medusa)"   # ~/.bashrc, bash 4.4 or later
eval "$(_MEDUSA_COMPLETE=zsh_source medusa)"    # ~/.zshrc
_MEDUSA_COMPLETE=fish_source medusa | source    # ~/.config/fish/config.fish
```

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the operation failed, or a check (`--min`, `verify`) is not met |
| 2 | wrong usage, or an unknown name |
| 3 | a plugin or weights are missing or broken |
| 130 | interrupted (Ctrl-C) |
| 143 | terminated (SIGTERM); like Ctrl-C, it keeps what a training has learnt, for `--resume` |

Environment variables and the settings file are described in [settings](settings.md).
"""


def reference() -> str:
    """The text of the file."""
    parts = [HEAD.format(click=click_version())]
    for name, text in helps(medusa, click.Context(medusa, info_name="medusa", **settings())):
        parts.append(f"## {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def helps(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """(full name, help) of a command and of all below it, in the order of their listing."""
    text = command.get_help(context)
    yield context.command_path, "\n".join(line.rstrip() for line in text.splitlines())
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        if child is not None:
            yield from helps(child, click.Context(child, info_name=name, parent=context))


def settings() -> dict[str, object]:
    """Those of `medusa` itself, at a fixed width."""
    return {**medusa.context_settings, "terminal_width": WIDTH}


def click_version() -> str:
    """`major.minor` of click, which decides how help is worded."""
    from importlib.metadata import version

    return ".".join(version("click").split(".")[:2])


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
