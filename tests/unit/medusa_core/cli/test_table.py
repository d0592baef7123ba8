"""Tables look as rich draws them, whoever draws."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medusa_core.cli._output import clean
from medusa_core.cli._table import table

CELLS = st.one_of(
    st.none(), st.integers(), st.text(max_size=8), st.sampled_from(["–", "深度", "é"])
)


def _printed(what: object, width: int, color: bool = False) -> str:
    out = io.StringIO()
    Console(file=out, width=width, markup=False, force_terminal=color, highlight=False).print(what)
    return out.getvalue()


def _by_rich(columns: list[str], rows: list[tuple[object, ...]], numeric: set[str]) -> Table:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        justify = "right" if name in numeric else "left"
        drawn.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        shown = [clean("–" if cell is None else str(cell)) for cell in row]
        ends = [cell.rstrip() for cell in shown]  # blanks at the end would move what is set right
        pairs = zip(columns, shown, ends, strict=True)
        drawn.add_row(*(Text(end if name in numeric else cell) for name, cell, end in pairs))
    return drawn


@given(
    st.lists(st.text("abcd", min_size=1, max_size=6), min_size=1, max_size=4, unique=True),
    st.data(),
    st.sampled_from([12, 30, 200]),
)
def test_they_are_what_rich_draws(columns: list[str], data: st.DataObject, width: int) -> None:
    rows = data.draw(st.lists(st.tuples(*[CELLS] * len(columns)), max_size=4))
    numeric = data.draw(st.sets(st.sampled_from(columns)))
    found = _printed(table(columns, rows, numeric), width)
    assert found == _printed(_by_rich(columns, rows, numeric), width)


@pytest.mark.parametrize("width", [8, 80])
def test_the_header_is_bold_on_a_terminal(width: int) -> None:
    header, *rows = _printed(table(("name", "b"), [("long one", "x")]), width, True).splitlines()
    assert "\x1b[1m" in header
    assert not any("\x1b[1m" in row for row in rows)
