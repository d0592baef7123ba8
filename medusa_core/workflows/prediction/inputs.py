"""What is to be predicted: image files, and frames of video files."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from medusa_core.data import video
from medusa_core.errors import DataError, UsageError
from medusa_core.model.images import as_image
from medusa_core.progress import Progress, SilentProgress
from medusa_core.workflows.prediction import naming

IMAGES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".avif", ".tif"}
IMAGES |= {".tiff", ".jp2", ".gif", ".ppm", ".pgm"}
"""Endings of what `data/images.py` reads."""


@dataclass(frozen=True)
class Picture:
    """An image file, or a frame of a video file.

    stem: of the names of its results; for a frame after the folder they are in.
    load: reads it, `(H, W, 3) uint8`; raises DataError.
    frame, seconds: which one of a video, from 0, and when it is shown.
    """

    file: Path
    stem: str
    load: Callable[[], np.ndarray]
    frame: int | None = None
    seconds: float | None = None

    @property
    def place(self) -> dict[str, str | int | float]:
        """What results and failures say of it."""
        known = {"image": str(self.file), "frame": self.frame, "seconds": self.seconds}
        return {key: value for key, value in known.items() if value is not None}

    def __str__(self) -> str:
        return f"{self.file}" if self.frame is None else f"{self.file}, frame {self.frame}"


def find_files(paths: Iterable[str | Path], progress: Progress | None = None) -> list[Path]:
    """The files named, the images of the folders named, and what patterns match of both kinds.

    Each once, however often and in whatever spelling it is named. Of folders and patterns, hidden
    files are left out, and results of earlier runs, as `inputs.json` beside them tells. `progress`
    is told what else is left out.

    Raises:
        UsageError: a path does not exist, a folder or pattern holds none, nothing is named, or
            videos cannot be read here.
    """
    progress = progress or SilentProgress()
    found = [file for path in paths for file in _files_of(path, progress)]
    if not found:
        raise UsageError("There are no images to predict.")
    if any(map(is_video, found)):
        video.require_av()
    unique: dict[str, Path] = {}
    for file in found:
        unique.setdefault(naming.whole_path(file), file)
    return list(unique.values())


def _files_of(named: str | Path, progress: Progress) -> list[Path]:
    """The files that one argument stands for."""
    if not isinstance(named, (str, os.PathLike)):
        raise UsageError(
            f"Images are files, folders or patterns, got {type(named).__name__}.",
            hint="Arrays are predicted by MedusaModel.predict, one by one.",
        )
    path = Path(named)
    if str(named).startswith("~/") and not path.exists():  # quoted: no shell has expanded it
        path = Path(os.path.expanduser(path))
    if not str(named):  # as of a variable that is not set; it would be the current folder
        raise UsageError("An image has an empty name.")
    if path.is_dir():
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        found = _of_kind(entries, IMAGES)
    elif path.exists():
        return [path]
    elif glob.has_magic(str(path)):
        entries = [match for match in _matches(_with_literal_start(path)) if not match.is_dir()]
        found = _of_kind(entries, IMAGES | video.EXTENSIONS)
    else:
        raise UsageError(f"{path}: no such file.")
    left_out = _left_out(entries, found)
    if not found:
        raise UsageError(
            f"{path}: no images to predict{f', but {left_out}' if left_out else ''}.",
            hint="Name image files or folders, or videos: 'clips/*.mp4'. Of folders inside, too: "
            "'photos/**/*'.",
        )
    if left_out:
        progress.message(f"{path}: {len(found)} to predict; left out: {left_out}.")
    return found


def _left_out(entries: Iterable[Path], found: Iterable[Path]) -> str:
    """What is not predicted of a folder or pattern: `.heic (2), folders (3)`; empty: nothing."""
    rest = sorted(set(entries) - set(found))
    kinds = Counter("folders" if path.is_dir() else _kind(path) for path in rest)
    kinds.pop(naming.RECORD, None)
    return ", ".join(f"{kind} ({number})" for kind, number in sorted(kinds.items()))


def _kind(path: Path) -> str:
    if path.name == naming.RECORD:
        return naming.RECORD
    suffix = path.suffix.lower()
    return "results of earlier runs" if suffix in IMAGES else suffix or "without an ending"


def _with_literal_start(pattern: Path) -> Path:
    """A pattern below a folder that is there: brackets in the names of such folders are names."""
    start = Path()
    for number, part in enumerate(pattern.parts):
        if not os.path.isdir(start / part):  # also where that cannot be told
            return Path(glob.escape(str(start)), *pattern.parts[number:])
        start /= part
    return pattern


def _matches(pattern: Path) -> Iterator[Path]:
    """What a pattern stands for; `**` for any folders, each once, however links lead there."""
    if "**" not in pattern.parts:
        yield from map(Path, glob.iglob(str(pattern)))
        return
    at = pattern.parts.index("**")
    after = pattern.parts[at + 1 :] or ("*",)
    for root in glob.iglob(str(Path(*pattern.parts[:at]))):
        for folder in _folders(root):
            yield from _matches(Path(glob.escape(folder), *after))


def _folders(root: str) -> Iterator[str]:
    """A folder and those inside, but for hidden ones."""
    seen = {os.path.realpath(root)}
    for place, inner, _ in os.walk(root, followlinks=True):
        yield place
        real = {name: os.path.realpath(os.path.join(place, name)) for name in sorted(inner)}
        inner[:] = [n for n, path in real.items() if not n.startswith(".") and path not in seen]
        seen.update(real.values())


def is_video(file: Path) -> bool:
    """Whether a file is called like a video."""
    return file.suffix.lower() in video.EXTENSIONS


def count(files: Iterable[Path]) -> int:
    """How many pictures there are, as far as videos tell; what cannot be read is one that fails."""
    return sum(video.count_frames(file) if is_video(file) else 1 for file in files)


def pictures(files: Iterable[tuple[Path, str]]) -> Iterator[Picture]:
    """The pictures of (file, stem) pairs, in order; frames are decoded as they are asked for."""
    for file, stem in files:
        if is_video(file):
            yield from _frames(file, stem)
        else:
            yield Picture(file, stem, partial(as_image, file))


def _frames(file: Path, stem: str) -> Iterator[Picture]:
    try:
        for frame in video.read_frames(file):
            name = f"{naming.frames_of(stem)}/{frame.number:06d}"
            load = partial(_image, frame.image)
            yield Picture(file, name, load, frame.number, frame.seconds)
    except DataError as err:
        yield Picture(file, stem, partial(_image, err))


def _image(found: np.ndarray | DataError) -> np.ndarray:
    if isinstance(found, DataError):
        raise found
    return as_image(found)


def _of_kind(paths: Iterable[Path], extensions: set[str]) -> list[Path]:
    found = (path for path in paths if path.suffix.lower() in extensions)
    return naming.without_results(sorted(path for path in found if not path.is_dir()))
