"""What results in a folder were made with, so that `--resume` makes those out of date anew."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from medusa_core.data.files import read_bounded
from medusa_core.errors import DataError
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.progress import Progress
from medusa_core.store import files
from medusa_core.workflows.results import write_whole

RECORD = "made-with.json"
"""Beside the results: head → what its results were made with (`with`), and from when on (`since`,
the time of a file that was written then)."""

MAX_BYTES = 16 << 20

Makings = dict[str, dict[str, Any]]


def makings(
    model: MedusaModel, names: Sequence[str], long_side: int | None, tile: int | str | None
) -> Makings:
    """Head → what decides about its results, but for the image and the device."""
    options = {"size": long_side, "tile": tile, **asdict(model.execution)}
    return {name: {"head": _digest(model, name), **options} for name in names}


def current_since(folder: Path, new: Makings, progress: Progress, told: bool) -> float:
    """Note what results are made with from now on, and since when all of them have been.

    Args:
        folder: of the results.
        new: of the heads that will be run.
        progress: told of heads whose results were made with something else.
        told: whether it is.

    Returns:
        The time of a file, in seconds: older results of any of these heads are out of date.

    Raises:
        DataError: the record is damaged, or cannot be written.
    """
    with files.alone(folder):
        known = _recorded(folder)
        changed = [name for name, made in new.items() if known.get(name, {}).get("with") != made]
        if changed:

            def write(file: BinaryIO) -> None:
                now = os.fstat(file.fileno()).st_mtime
                for name in changed:
                    known[name] = {"with": new[name], "since": now}
                file.write((json.dumps(known, indent=1, sort_keys=True) + "\n").encode())

            others = [name for name in changed if name in known]
            write_whole(folder / RECORD, write)
            if others and told:
                progress.message(
                    f"Results of {', '.join(others)} are made anew: those there were made with "
                    "another head or other options."
                )
    return max(known[name]["since"] for name in new)


def _digest(model: MedusaModel, name: str) -> str:
    record = model.heads[name].model_dump_json()
    return hashlib.sha256(record.encode()).hexdigest()[:16]


def _recorded(folder: Path) -> Makings:
    path = folder / RECORD
    try:
        found = json.loads(read_bounded(path, MAX_BYTES))
        if all(isinstance(entry["since"], float) and "with" in entry for entry in found.values()):
            return dict(found)
    except FileNotFoundError:
        return {}
    except OSError as err:
        raise DataError(f"{path}: cannot be read: {err.strerror}.") from err
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        pass
    raise DataError(
        f"{path}: does not say what the results there were made with.",
        hint="Remove it, and all results are made anew. Or choose another folder: --out DIR",
    )


def is_current(file: Path, targets: Sequence[Path], since: float) -> bool:
    """Whether all results of an image are there, none older than it or `since`.

    A file that was put in the place of another may have an older time, but not of its change.
    """
    try:
        image = os.stat(file)
        changed = max(since, image.st_mtime, image.st_ctime)
        return all(os.stat(path).st_mtime >= changed for path in targets)
    except OSError:
        return False
