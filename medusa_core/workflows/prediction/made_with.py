"""What results in a folder were made with, so that `--resume` makes those out of date anew.

Beside the results, `made-with-HEAD.json` says of a head what its results were made with (`with`),
and from when on (`since`, the time of a file that was written then).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from medusa_core.data.files import read_json
from medusa_core.errors import DataError
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.store import files
from medusa_core.workflows.prediction.results import write_whole

MAX_BYTES = 1 << 16
TICK = 0.02
"""Seconds after which files have later times, on a local disk."""

Record = dict[str, Any]


def makings(
    model: MedusaModel, names: Sequence[str], long_side: int | None, tile: int | str | None
) -> dict[str, Record]:
    """Head → what decides about its results, but for the image and the device."""
    options = {"size": long_side, "tile": tile, **asdict(model.execution)}
    return {name: {"head": _digest(model, name), **options} for name in names}


class Making:
    """One run that makes results of some heads in a folder.

    since: the time of a file, in seconds; results that are not newer are out of date.
    others: heads whose results there were made with something else.
    """

    def __init__(self, folder: Path, new: dict[str, Record]) -> None:
        self.folder, self.new = folder, new
        known, changed = self._known()
        self.since = math.inf if changed else max(record["since"] for record in known.values())
        self.others = [name for name in changed if name in known]
        self._begun, self._lock = False, threading.Lock()
        self._in_use = ExitStack()

    def begin(self) -> None:
        """Note what results are made with from now on, before the first of them is written.

        Raises:
            DataError: another run makes results of one of these heads with something else, or what
                is noted cannot be written.
        """
        with self._lock:
            if not self._begun:
                with files.alone(self.folder):
                    self._note()
                self._begun = True

    def close(self) -> None:
        """Other runs may make results with something else now."""
        self._in_use.close()

    def is_current(self, image: Path, targets: Sequence[Path]) -> bool:
        """Whether all results of an image are there, newer than it and what they are made with.

        An image, or a link to one, that was put in the place of another may have an older time, but
        not of its change.
        """
        try:
            found = os.stat(image), os.lstat(image)
            changed = max(moment for each in found for moment in (each.st_mtime, each.st_ctime))
            made = min(os.stat(path).st_mtime for path in targets)
        except OSError:
            return False
        return made >= changed and made > self.since

    def _path(self, name: str) -> Path:
        return self.folder / f"made-with-{name}.json"

    def _known(self) -> tuple[dict[str, Record], list[str]]:
        """The records that are there, and the heads whose record is another, or is not."""
        found = {name: _read(self._path(name)) for name in self.new}
        known = {name: record for name, record in found.items() if record is not None}
        return known, [n for n, made in self.new.items() if known.get(n, {}).get("with") != made]

    def _note(self) -> None:
        _, changed = self._known()
        busy = [name for name in changed if _in_use(self._path(name))]
        if busy:
            raise DataError(
                f"{self.folder}: another run is making results of {', '.join(busy)} with another "
                "head or other options.",
                hint="Wait for it, or choose another folder: --out DIR",
            )
        for name in changed:
            made = self.new[name]

            def write(file: BinaryIO, made: Record = made) -> None:
                record = {"with": made, "since": os.fstat(file.fileno()).st_mtime}
                file.write((json.dumps(record, indent=1, sort_keys=True) + "\n").encode())

            write_whole(self._path(name), write)
        if changed:
            time.sleep(TICK)
        for name in self.new:
            files.lock(self._in_use.enter_context(self._path(name).open("rb")), shared=True)


def _in_use(record: Path) -> bool:
    """Whether a run makes results by this record."""
    if not record.exists():
        return False
    with record.open("rb") as file:
        return not files.lock(file, shared=False, wait=False)


def _digest(model: MedusaModel, name: str) -> str:
    record = model.heads[name].model_dump_json()
    return hashlib.sha256(record.encode()).hexdigest()[:16]


def _read(path: Path) -> Record | None:
    """A record; None where there is none.

    Raises:
        DataError: something else is there.
    """
    try:
        found = read_json(path, MAX_BYTES)
    except FileNotFoundError:
        return None
    record = found if isinstance(found, dict) else {}
    if isinstance(record.get("since"), float) and isinstance(record.get("with"), dict):
        return record
    raise DataError(
        f"{path}: does not say what the results there were made with.",
        hint="Remove it, and they are made anew. Or choose another folder: --out DIR",
    )
