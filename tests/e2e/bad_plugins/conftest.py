"""Command lines run with plugins found anew, and a model and a picture to run them on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medusa_core.cli import main
from medusa_core.plugin_host import default_host

ROOMS = ("--data", "rooms:64x64", "--limit", "4")
SHORT = ("--steps", "2", "--batch", "2", "--views", "1", "--size", "32x32")


class Medusa:
    """Runs command lines in this process, each with plugins found anew."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *args: object) -> tuple[int, str, str]:
        default_host.cache_clear()
        self.capsys.readouterr()
        code = main(["--quiet", *map(str, args)])
        return code, *self.capsys.readouterr()

    def json(self, *args: object, code: int = 0) -> tuple[Any, list[str]]:
        """The one document on stdout, and the lines on stderr."""
        got, out, err = self(*args, "--json")
        assert got == code, err
        return json.loads(out), err.splitlines()

    def error(self, *args: object) -> tuple[int, str]:
        """Exit code and the error of a command that must fail; nothing is on stdout."""
        code, out, err = self(*args)
        assert out == ""
        [error] = [row for row in err.splitlines() if row.startswith("Error: ")]
        return code, error.removeprefix("Error: ")


@pytest.fixture
def medusa(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Medusa:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDUSA_CONFIG", str(tmp_path / "settings.json"))
    return Medusa(capsys)


@pytest.fixture
def model(make_model: Callable[..., Path]) -> Path:
    return make_model("depth", "normals")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.RandomState(0).randint(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"
