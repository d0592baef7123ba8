"""`medusa plugins new`: a complete package for a task, or a head, of one's own."""

from __future__ import annotations

import contextlib
import datetime
import importlib.resources
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from string import Template
from typing import Any

from medusa_core import __version__
from medusa_core.api import API_VERSION
from medusa_core.errors import NameTakenError, StoreError, UnknownNameError, UsageError
from medusa_core.plugin_host import Host, default_host
from medusa_core.plugin_host.settings import normalise

LICENCES = ("Apache-2.0", "MIT", "BSD-3-Clause")
PREFIX = "medusa-"
LONGEST = 30


def new_plugin(
    name: str,
    *,
    into: str | Path = ".",
    dataset: bool = False,
    head: bool = False,
    licence: str = LICENCES[0],
    author: str | None = None,
    dry_run: bool = False,
    host: Host | None = None,
) -> dict[str, Any]:
    """Write a package with one task, or one head architecture, that passes its own tests.

    Args:
        name: of the task or head, such as "sharpness" or "wall-paint"; a leading "medusa-" does not
            count.
        into: folder in which that of the package is made.
        dataset: the task learns from a data set of this package, not from the image alone.
        head: a head architecture in place of a task.
        licence: one of `LICENCES`.
        author: named in the licence.
        dry_run: check everything, write nothing.
        host: None: the installed plugins; what is made must not have the name of something in them.

    Returns:
        `folder`, `distribution`, `package`, `task` or `head` (the other is None), and `files` with
        paths below the folder.

    Raises:
        UsageError: the name cannot be used, or is taken, or both a data set and a head are wanted.
        StoreError: the folder cannot be written.
    """
    if dataset and head:
        raise UsageError(
            "A data set comes with a task, not with a head.", hint="Leave out --dataset or --head."
        )
    words = _words(name)
    own, package = "_".join(words), "_".join(["medusa", *words])
    distribution = PREFIX + "-".join(words)
    kind = "head" if head else "dataset" if dataset else "task"
    wanted = {"head" if head else "task": own} | ({"data set": f"{own}_data"} if dataset else {})
    _require_free(wanted, package, distribution, host or default_host())
    if licence not in LICENCES:
        raise UnknownNameError("licence", licence, LICENCES)
    folder = Path(into) / distribution
    if folder.exists() or folder.is_symlink():
        raise NameTakenError(f"{folder} exists already.", hint="Choose another name, or --into DIR")
    capitals = "".join(word.capitalize() for word in words)
    facts = {
        "name": own,
        "summary": f"The head architecture {own}" if head else f"The task {own}",
        "package": package,
        "distribution": distribution,
        "class_name": capitals + ("Head" if head else "Task"),
        "config_class": f"{capitals}Settings",
        "title": " ".join(words).capitalize(),
        "licence": licence,
        "author": _one_line(author) or f"the authors of {distribution}",
        "year": str(datetime.datetime.now(datetime.UTC).year),
        "api_version": API_VERSION,
        "bounds": _bounds(__version__),
        "data_option": f" --data {own}_data" if dataset else "",
        "dataset_row": (
            f"| `src/{package}/dataset.py` | the data: images and targets |\n" if dataset else ""
        ),
        "encode": "" if dataset else _read("encode.py.txt"),
    }
    files = {
        path: text if path == "LICENSE" and licence == LICENCES[0] else _filled(text, facts)
        for path, text in _templates(package, kind, licence).items()
    }
    if not dry_run:
        _write(folder, files)
    return {
        "dry_run": dry_run,
        "folder": str(folder),
        "distribution": distribution,
        "package": package,
        "task": None if head else own,
        "head": own if head else None,
        "files": sorted(files),
    }


def _words(name: str) -> list[str]:
    """The words of a name, checked."""
    words = name.removeprefix(PREFIX).replace("_", "-").split("-")
    plain = all(re.fullmatch(r"[a-z0-9]+", word) for word in words) and words[0][:1].isalpha()
    if not plain or len("-".join(words)) > LONGEST:
        raise UsageError(
            f"{name!r} cannot be the name of a plugin: lower-case letters and digits in words "
            f"separated by '-', a letter first, at most {LONGEST}.",
            hint="Such as: medusa plugins new wall-paint",
        )
    return words


def _require_free(wanted: dict[str, str], package: str, distribution: str, host: Host) -> None:
    """Refuse names that would stand for two things; `wanted` are those of what is made, by kind.

    Raises:
        NameTakenError: an installed plugin or package has the name, or something of that kind; or
            models are looked for in the folder that would be made.
    """
    known: dict[str, Iterable[Any]] = {
        "task": host.tasks,
        "head": host.heads,
        "data set": host.datasets,
    }
    reasons = [
        f"{entry.provider} has a {kind} {name!r} already."
        for kind, name in wanted.items()
        for entry in known[kind]
        if entry.spec.name == name
    ]
    if distribution in {normalise(name) for r in host.reports for name in (r.name, r.distribution)}:
        reasons.append(f"A plugin {distribution!r} is installed.")
    if importlib.util.find_spec(package) is not None:
        reasons.append(f"A package {package!r} is installed.")
    if distribution == "medusa-model":
        reasons.append(f"{distribution!r} is the folder that models are kept in.")
    if reasons:
        raise NameTakenError(reasons[0], hint="Choose another name.")


def _bounds(version: str) -> str:
    """The versions of the host that the package is written for: from this one to the next major."""
    major, minor = version.split(".")[:2]
    return f">={major}.{minor},<{int(major) + 1}"


def _one_line(text: str | None) -> str:
    return "".join(c for c in " ".join((text or "").split()) if c.isprintable())


def _templates(package: str, kind: str, licence: str) -> dict[str, str]:
    """Path below the folder → template of every file. Kinds: "task", "dataset", "head"."""
    variant = "" if kind == "task" else f"_with_{kind}"
    modules = {"task": ("task",), "dataset": ("task", "dataset"), "head": ("head", "config")}
    source = f"src/{package}"
    names = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README_with_head.md.txt" if kind == "head" else "README.md.txt",
        "LICENSE": f"licences/{licence}.txt",
        ".gitignore": "gitignore.txt",
        f"{source}/__init__.py": "init.py.txt",
        f"{source}/plugin.py": f"plugin{variant}.py.txt",
        f"tests/test_{package}.py": f"test{variant}.py.txt",
    } | {f"{source}/{module}.py": f"{module}.py.txt" for module in modules[kind]}
    return {path: _read(template) for path, template in names.items()}


def _read(template: str) -> str:
    folder = importlib.resources.files("medusa_core.workflows") / "scaffold"
    return folder.joinpath(template).read_text(encoding="utf-8")


def _filled(template: str, facts: dict[str, str]) -> str:
    return Template(template).substitute(facts)


def _write(folder: Path, files: dict[str, str]) -> None:
    """Write all files, or leave nothing behind.

    Raises:
        StoreError: the folder cannot be written.
    """
    scratch = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".medusa-new-", dir=folder.parent))
        scratch.chmod(0o755)
        for path, text in files.items():
            file = scratch / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        os.rename(scratch, folder)
    except OSError as err:
        raise StoreError(f"{folder}: cannot be written: {err.strerror}.") from err
    finally:
        if scratch is not None:
            with contextlib.suppress(OSError):  # renamed by now
                shutil.rmtree(scratch)
