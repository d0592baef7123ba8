"""A group that knows its commands from a table and imports only the one that runs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import click

from medusa_core.cli._output import stdout_for_results
from medusa_core.errors import UnknownNameError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


TYPED = "medusa.typed"
"""Where a context keeps the words after the command."""


class _Context(click.Context):
    """Of a command that runs: whatever it calls, plugins included, cannot spoil its result."""

    def invoke(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function behind a command."""
        with stdout_for_results():
            return super().invoke(*args, **kwargs)


class LazyGroup(click.Group):
    """Help and completion come from the table: asking commands for it would import them all."""

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; see to it that stdout is for results while it runs."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command = cast("click.Command", getattr(importlib.import_module(module), attribute))
        for each in (command, *getattr(command, "commands", {}).values()):
            each.context_class = _Context
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to run, with a near match for a misspelt one."""
        name = args[0]
        if not (name in self.table or name.startswith("-") or ctx.resilient_parsing):
            raise UnknownNameError("command", name, self.table, hint="See: medusa --help")
        ctx.meta[TYPED] = tuple(args[1:])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names of commands, then options."""
        from click.shell_completion import CompletionItem

        rows = ((name, text) for name, (_, text) in self.table.items())
        items = [CompletionItem(n, help=text) for n, text in rows if n.startswith(incomplete)]
        return items + click.Command.shell_complete(self, ctx, incomplete)
