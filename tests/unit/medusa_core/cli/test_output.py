import dataclasses
import io
import json
import math
import sys
from enum import StrEnum
from pathlib import Path

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medusa_core.api import MetricRef
from medusa_core.cli import _output as output
from medusa_core.cli._table import table
from medusa_core.errors import UsageError

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=10,
)


def emitted(value, capsys):
    output.emit({"value": value}, True)
    return capsys.readouterr().out


@given(value=anything)
def test_jsonable_is_strict_json_and_stays_itself(value):
    plain = output.jsonable(value)
    text = json.dumps(plain, allow_nan=False)
    assert output.jsonable(json.loads(text)) == json.loads(text) == plain


@given(st.text())
def test_clean_text_is_printable_and_stays_itself(text):
    cleaned = output.clean(text)
    assert not cleaned or cleaned.isprintable()
    assert output.clean(cleaned) == cleaned
    assert all(character in text or ("\n" in text and character == " ") for character in cleaned)


def test_the_document_is_sorted_and_versioned(capsys):
    one = emitted({"b": 1, "a": 2}, capsys)
    assert one == emitted({"a": 2, "b": 1}, capsys)
    document = json.loads(one)
    assert list(document) == sorted(document) == ["schema_version", "value"]
    assert document["schema_version"] == 1


def test_values_of_all_kinds_have_a_json_form(capsys):
    class Colour(StrEnum):
        RED = "red"

    @dataclasses.dataclass
    class Point:
        x: float
        y: float = math.nan

    value = [
        np.float32(0.5),
        np.arange(2),
        np.array(math.inf),
        Path("a/b"),
        Colour.RED,
        Point(1.0),
        {"z", "y"},
        {3: 4},
        MetricRef(name="mae", higher_is_better=False),
    ]
    assert json.loads(emitted(value, capsys))["value"] == [
        0.5,
        [0, 1],
        None,
        "a/b",
        "red",
        {"x": 1.0, "y": None},
        ["y", "z"],
        {"3": 4},
        {"name": "mae", "unit": None, "higher_is_better": False, "primary": False},
    ]


def test_what_has_no_json_form_is_refused():
    with pytest.raises(TypeError, match="object has no JSON form"):
        output.emit({"value": object()}, True)


def test_people_get_the_text_and_not_the_document(capsys):
    output.emit({"value": 1}, False, lambda console: console.print("[bold]one[/bold] :smile:"))
    assert capsys.readouterr().out == "[bold]one[/bold] :smile:\n"
    output.emit({}, False, lambda console: console.print("name\nAdded depth."))
    assert capsys.readouterr().out == "name Added depth.\n"


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (999, "999"), (999.4e3, "999 k"), (999.6e3, "1 M"), (3.864e6, "3.86 M")],
)
def test_large_numbers_are_short(number, shown):
    assert output.count(number) == shown


def test_tables_do_not_wrap_in_a_pipe_and_carry_no_escapes(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    long = "x" * 150
    rows = [(long, 1, None), ("a\x1b[31mred", 22, "[b]")]
    output.emit({}, False, lambda c: c.print(table(("name", "n", "z"), rows, ("n",))))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].split() == [long, "1", "–"]
    assert lines[2].split() == ["a[31mred", "22", "[b]"]
    assert "\x1b" not in "".join(lines)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("no_colour", [False, True])
def test_no_color_is_respected(monkeypatch, no_colour):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    output.emit({}, False, lambda console: console.print("text", style="red"))
    assert ("\x1b[31m" in terminal.getvalue()) is not no_colour


@pytest.mark.parametrize(
    ("number", "text"),
    [(7, "7"), (999, "999"), (12_300, "12.3 k"), (3_860_720, "3.86 M"), (2e9, "2 G")],
)
def test_counts_are_short(number, text):
    assert output.count(number) == text


def test_the_next_command_is_on_the_same_data_and_fit_for_a_shell():
    assert output.next_line("list", "-m", Path("model")) == "Next: medusa list -m model"
    shown = output.next_line("eval", "-m", "my model", data=["folder:a", "depth=folder:b c"])
    assert shown == "Next: medusa eval -m 'my model' --data folder:a --data 'depth=folder:b c'"


@pytest.mark.parametrize("stdin", [io.StringIO("y\n"), None], ids=["a file", "closed"])
def test_confirmation_needs_a_terminal_or_yes(monkeypatch, stdin):
    output.confirm("Remove it?", yes=True)
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(UsageError) as caught:
        output.confirm("Remove it?", yes=False)
    assert "--yes" in caught.value.hint


@pytest.mark.parametrize("answer", ["y", "n"])
def test_confirmation_on_a_terminal(monkeypatch, capsys, answer):
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    if answer == "y":
        output.confirm("Remove it?", yes=False)
    else:
        with pytest.raises(click.Abort):
            output.confirm("Remove it?", yes=False)
    assert "Remove it?" in capsys.readouterr().err
