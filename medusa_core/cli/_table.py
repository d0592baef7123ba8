"""Tables on a console."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medusa_core.cli._output import clean

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

_BETWEEN = "  "


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], numeric: Collection[str] = ()
) -> Table:
    """A table for a console. None is shown as a dash; `numeric` columns are set to the right."""
    right = [name in numeric for name in columns]
    cells = [
        ["–" if cell is None else clean(cell).rstrip() if end else clean(cell) for cell, end in row]
        for row in (zip(row, right, strict=True) for row in rows)
    ]
    return Table(list(columns), cells, frozenset(numeric))


@dataclass(frozen=True)
class Table:
    """Cells of one line each. Where they fit, rows are written as they are: no work for rich."""

    columns: list[str]
    rows: list[list[str]]
    numeric: frozenset[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[object]:
        """What rich draws, header first."""
        from rich.cells import cell_len
        from rich.segment import Segment
        from rich.style import Style

        lines = [self.columns, *self.rows]
        sizes = [[cell_len(cell) for cell in line] for line in lines]
        widths = [max(column) for column in zip(*sizes, strict=True)]
        if sum(widths) + len(_BETWEEN) * (len(widths) - 1) > options.max_width:
            yield self._folded()
            return
        for line, own in zip(lines, sizes, strict=True):
            blanks = [" " * (width - size) for width, size in zip(widths, own, strict=True)]
            placed = (
                blank + cell if name in self.numeric else cell + blank
                for name, cell, blank in zip(self.columns, line, blanks, strict=True)
            )
            bold = Style(bold=True) if line is self.columns else None
            yield Segment(_BETWEEN.join(placed) + "\n", bold)

    def _folded(self) -> object:
        from rich.table import Table
        from rich.text import Text

        result = Table(box=None, pad_edge=False, header_style="bold")
        for column in self.columns:
            justify: Any = "right" if column in self.numeric else "left"
            result.add_column(column, justify=justify, overflow="fold")
        for row in self.rows:
            result.add_row(*map(Text, row))
        return result
