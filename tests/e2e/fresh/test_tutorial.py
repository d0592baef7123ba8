"""The tutorial, command by command, in an environment as its reader has it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "tutorial" / "first-task.md"
INSTALLED = ("python3 -m venv", ". .venv", 'pip install -e ".[test]"')
"""What the fixture did already."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def steps() -> list[tuple[str, str]]:
    """(file to write, or nothing; its text, or a command) in the order of the page."""
    found = []
    text = PAGE.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(python)?\n(.*?)^```", text, re.M | re.S):
        if match[1]:
            named = re.findall(r"`(medusa-sharpness/[\w/.]+)` by$", text[: match.start()], re.M)
            found.append((named[-1], match[2]))
        else:
            found += [("", line) for line in match[2].splitlines()]
    return found


def test_the_page_writes_two_files_and_runs_commands() -> None:
    files = [file for file, _ in steps() if file]
    assert [Path(file).name for file in files] == ["plugin.py", "task.py"]
    assert sum(line.startswith("medusa ") for _, line in steps()) >= 8


def test_every_command_works(fresh: Any, tmp_path: Path) -> None:
    output = []
    for file, text in steps():
        if file:
            assert (tmp_path / file).exists()
            (tmp_path / file).write_text(text, encoding="utf-8")
        elif not text.startswith(INSTALLED):
            done = subprocess.run(
                ["bash", "-c", text],
                cwd=tmp_path,
                env=fresh.environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            output.append((text, done.stdout + done.stderr))
    said = dict(output)
    assert "sharpness" in said["medusa tasks"]
    assert "medusa-sharpness" in said["medusa list"]
    assert (tmp_path / "out" / "sharpness.sharpness.png").exists()
    scores = {
        name: float(value)
        for name, value in re.findall(
            r"^(sharpness|guess)\b.*?mae ([\d.]+)", said["medusa eval --limit 50"], re.M
        )
    }
    assert scores["sharpness"] < scores["guess"]
