"""An environment as a stranger has it, and wheels of everything in this repository.

Nothing is fetched: the libraries are those of the environment that runs the tests, seen through a
`.pth` file, while `medusa-heads` and the plugins are built here and installed from wheels.
"""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[3]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def setuptools_version() -> Version:
    import setuptools

    return Version(setuptools.__version__)


def libraries() -> list[str]:
    """Where the libraries of this environment lie."""
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    paths += [path for path in sys.path if path.endswith("site-packages")]
    return list(dict.fromkeys(paths))


@dataclass
class Fresh:
    """An environment of its own, and a folder to work in."""

    folder: Path
    python: Path
    wheels: dict[str, Path] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Variables for programs of the environment, with nothing of this one's settings."""
        kept = {name: value for name, value in os.environ.items() if "MEDUSA" not in name}
        kept.pop("PYTHONPATH", None)
        own = {
            "PATH": f"{self.python.parent}{os.pathsep}{kept['PATH']}",
            "MEDUSA_CACHE": str(self.folder / "cache"),
            "MEDUSA_CONFIG": str(self.folder / "config"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # as pip spells it: no isolation
            "PIP_NO_DEPS": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        return {**kept, **own}

    def run(self, *args: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """A program of the environment."""
        done = subprocess.run(
            [str(self.python), *map(str, args)],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"{args}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr
        return done

    def medusa(self, *args: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "medusa_core", *args, code=code)

    def together(self, *lines: Sequence[object]) -> None:
        """Commands that must work, in one process: most of their time is imports."""
        self.run("-c", TOGETHER, json.dumps([[str(arg) for arg in line] for line in lines]))

    def document(self, *args: object, code: int = 0) -> Any:
        return json.loads(self.medusa(*args, "--json", code=code).stdout)

    def pip(self, *args: object) -> None:
        self.run("-m", "pip", "-q", *args)

    def install(self, name: str) -> None:
        self.pip("install", self.wheels[name])


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    if setuptools_version() < Version("77"):
        pytest.skip("building wheels needs setuptools 77")
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "venv", with_pip=True)
    place = Fresh(folder, folder / "venv" / "bin" / "python")
    place.pip("uninstall", "--yes", "setuptools")  # an old one, which would hide the library
    inside = Path(place.run("-c", "import site; print(site.getsitepackages()[0])").stdout.strip())
    linked = folder / "libraries"
    linked.mkdir()
    for path in map(Path, libraries()):
        for entry in path.iterdir() if path.is_dir() else ():
            name = entry.name.lower()
            ours = "medusa" in name or name.endswith((".pth", ".egg-link")) or "editable" in name
            if not ours and not (linked / entry.name).exists():
                (linked / entry.name).symlink_to(entry)
    (inside / "libraries.pth").write_text(f"{linked}\n")
    for source in (ROOT, *PLUGINS):
        copy = folder / "source" / source.name
        wanted = ("medusa_core", "medusa_tasks", "src", "README.md", "LICENSE", "pyproject.toml")
        copy.mkdir(parents=True)
        for name in wanted:
            if (source / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(source / name, copy / name, ignore=ignored)
            elif (source / name).exists():
                shutil.copy(source / name, copy / name)
        built = folder / "wheels" / source.name
        built.mkdir(parents=True)
        subprocess.run(
            [sys.executable, "-c", BUILD, str(built)], cwd=copy, check=True, capture_output=True
        )
        [wheel] = built.glob("*.whl")
        place.wheels["medusa-heads" if source == ROOT else source.name] = wheel
    place.install("medusa-heads")
    return place


TOGETHER = """
import json, sys
from medusa_core.cli import main
sys.exit(next(filter(None, map(main, json.loads(sys.argv[1]))), 0))
"""
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
