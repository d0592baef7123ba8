"""Fixtures for tests of plugins. Import them in a `conftest.py`: there is no pytest plugin.

from medusa_core.testing.fixtures import medusa_cli, medusa_environment
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from medusa_core.cli import main
from medusa_core.plugin_host import default_host

__all__ = ["Done", "medusa_cli", "medusa_environment", "tiny_model"]

SWITCHES = (
    "MEDUSA_CACHE_LIMIT",
    "MEDUSA_DEBUG",
    "MEDUSA_DISABLE_PLUGINS",
    "MEDUSA_MODEL",
    "MEDUSA_PLUGINS",
    "MEDUSA_STRICT_PLUGINS",
)


@dataclass(frozen=True)
class Done:
    """What a command returned and wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """stdout, which must be one JSON document and nothing else."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        if "Traceback" in self.err:
            raise AssertionError(self.err)
        [line] = [line for line in self.err.splitlines() if line.startswith("Error: ")]
        return line.removeprefix("Error: ")

    @property
    def hint(self) -> str:
        """What to do about it, if anything is said."""
        found = [line for line in self.err.splitlines() if line.startswith("Hint: ")]
        if len(found) > 1:
            raise AssertionError(self.err)
        return found[0].removeprefix("Hint: ") if found else ""


@pytest.fixture(scope="session")
def medusa_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No settings, caches or switches of whoever runs the tests; the folder for those of tests."""
    home = tmp_path_factory.mktemp("medusa")
    with pytest.MonkeyPatch.context() as patch:
        for name in SWITCHES:
            patch.delenv(name, raising=False)
        patch.setenv("MEDUSA_CACHE", str(home / "cache"))
        patch.setenv("MEDUSA_CONFIG", str(home / "config"))
        patch.setenv("COLUMNS", "100")
        yield home


@pytest.fixture
def medusa_cli(
    medusa_environment: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Done]]:
    """Runs a command line in this process, with the plugins that are installed."""

    def run(*args: object) -> Done:
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        return Done(code, *capsys.readouterr())

    default_host.cache_clear()
    yield run
    default_host.cache_clear()


@pytest.fixture
def tiny_model(medusa_environment: Path, tmp_path: Path) -> Path:
    """A model folder without heads, its backbone tiny and untrained: quick to try things on."""
    from medusa_core.testing.main_job import BACKBONE
    from medusa_core.workflows.init import init

    init(tmp_path / "model", backbone=BACKBONE, from_scratch=True, seed=0)
    return tmp_path / "model"
