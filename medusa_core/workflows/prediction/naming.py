"""What the results of an image are called: a name that is its alone in the folder, in all runs."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from medusa_core.data.files import read_json
from medusa_core.errors import DataError
from medusa_core.store import files
from medusa_core.workflows.prediction.results import FORMATS, write_whole

RECORD = "inputs.json"
"""Beside the results: which image each name belongs to."""

MAX_BYTES = 1 << 30
"""Of that record."""

LONGEST_STEM = 200
"""Bytes; with the name of a head and an extension it stays below the 255 of a file's name."""

_MARK = 16
_FRAMES = ".frames"


def recorded(folder: Path) -> dict[str, str]:
    """Name → path of the image it belongs to, as of earlier runs.

    Raises:
        DataError: the record cannot be read.
    """
    path = folder / RECORD
    try:
        found = read_json(path, MAX_BYTES)
    except FileNotFoundError:
        return {}
    if not (isinstance(found, dict) and all(isinstance(image, str) for image in found.values())):
        raise DataError(
            f"{path}: does not say which images the results there belong to.",
            hint="Choose another folder: --out DIR",
        )
    return found


def whole_path(file: Path) -> str:
    """What a file is recorded as: the same however it was named, through whatever folders."""
    return os.path.join(os.path.realpath(file.parent), file.name)


def choose(files: Sequence[Path], known: Mapping[str, str]) -> list[str]:
    """The stem of each file, with a hash of its path where another image has that name.

    Names that differ in case only are the same, since some file systems do not tell them apart. A
    stem so long that no file could be called like its results is cut, and marked in the same way.

    Args:
        files: the images.
        known: as `recorded`; what an image is called there it is called again.
    """
    owners = {stem.casefold(): path for stem, path in known.items()}
    stems = Counter(file.stem.casefold() for file in files)

    def name(file: Path) -> str:
        stem, marked = file.stem, _marked(file)
        if owner := owners.get(stem.casefold()):
            return stem if owner == whole_path(file) else marked
        alone = stems[stem.casefold()] == 1 and len(os.fsencode(stem)) <= LONGEST_STEM
        return stem if alone and marked not in known else marked

    return [name(file) for file in files]


def frames_of(stem: str) -> str:
    """The folder for results of a video."""
    return f"{stem}{_FRAMES}"


def without_results(files: Sequence[Path]) -> list[Path]:
    """Those that are no results of earlier runs, as far as the records in their folders tell."""
    names_in = functools.cache(_names_in)
    return [f for f in files if not _is_result(f, names_in(f.parent), names_in(f.parent.parent))]


def _names_in(folder: Path) -> dict[str, str]:
    with contextlib.suppress(DataError):  # not a record of ours
        return recorded(folder)
    return {}


def _is_result(file: Path, known: Mapping[str, str], above: Mapping[str, str]) -> bool:
    """Of any head. What is recorded as an image is none, whatever it is called.

    Args:
        file: that may be one.
        known: the record in its folder.
        above: the record in the folder of that, which names the video where it is of a frame.
    """
    if whole_path(file) in (known.get(file.stem), known.get(_marked(file))):
        return False
    video = file.parent.name.removesuffix(_FRAMES)
    of_frames = video in above and file.parent.name == frames_of(video)
    endings = (ending for ending in FORMATS.values() if file.name.endswith(ending))
    names = (file.name.removesuffix(ending).rpartition(".")[0] for ending in endings)
    return any(name in known or (of_frames and name.isdecimal()) for name in names)


def record(folder: Path, named: Iterable[tuple[Path, str]]) -> None:
    """Note which file each name belongs to, before there are results.

    Raises:
        DataError: it cannot be written, or another run, at the same time, has taken a name.
    """
    new = {stem: whole_path(file) for file, stem in named}
    with files.alone(folder):
        known = recorded(folder)
        taken = [stem for stem, path in new.items() if known.get(stem, path) != path]
        if taken:
            raise DataError(
                f"{folder}: another run has just taken the name {taken[0]} for {known[taken[0]]}.",
                hint="Run it again: these images get other names then.",
            )
        if not new.keys() <= known.keys():
            text = json.dumps({**new, **known}, indent=0, sort_keys=True) + "\n"
            write_whole(folder / RECORD, lambda file: file.write(text.encode()))


def _marked(file: Path) -> str:
    cut = os.fsencode(file.stem)[: LONGEST_STEM - _MARK - 1].decode(errors="ignore")
    return f"{cut}-{hashlib.sha256(os.fsencode(whole_path(file))).hexdigest()[:_MARK]}"
