"""Where `predict` writes what: never over an image, nor over what no earlier run has recorded."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medusa_core.errors import DataError, UsageError
from medusa_core.workflows.prediction import naming, results
from medusa_core.workflows.prediction.inputs import is_video


@dataclass(frozen=True)
class Places:
    """Where results go: of these heads, in these formats."""

    folder: Path
    heads: Sequence[str]
    formats: Sequence[str]

    def targets(self, stem: str) -> list[Path]:
        """The files of one picture."""
        kinds = itertools.product(self.heads, self.formats)
        return [results.path_of(self.folder, stem, head, form) for head, form in kinds]

    def of(self, file: Path, stem: str) -> list[Path]:
        """What is written for a file: files, or the folder of its frames."""
        return [self.folder / naming.frames_of(stem)] if is_video(file) else self.targets(stem)

    def prepare(self, named: Sequence[tuple[Path, str]], known: Mapping[str, str]) -> None:
        """Make folders, and note which name is whose.

        Raises:
            UsageError: what is there would be written over. DataError: a folder cannot be
                made, or the record of names not be written.
        """
        every = [path for file, stem in named for path in self.of(file, stem)]
        _spare_inputs([file for file, _ in named], every)
        new = ((file, stem) for file, stem in named if stem not in known)
        _spare_others(path for file, stem in new for path in self.of(file, stem))
        videos = ((file, stem) for file, stem in named if is_video(file))
        for place in (self.folder, *(path for video in videos for path in self.of(*video))):
            _make_folder(place)
        naming.record(self.folder, named)

    def remove_later_frames(self, frames: Mapping[str, int]) -> None:
        """Take away what an earlier, longer video of that name has left of these results.

        Args:
            frames: folder of frames → how many the video has.
        """
        for place, number in frames.items():
            for head, form in itertools.product(self.heads, self.formats):
                later = (
                    results.path_of(self.folder, f"{place}/{index:06d}", head, form)
                    for index in itertools.count(number)
                )
                for path in itertools.takewhile(Path.exists, later):
                    path.unlink()


def _spare_inputs(files: Iterable[Path], targets: Iterable[Path]) -> None:
    """Refuse to write over an image that is to be read."""
    real = [os.path.realpath(file) for file in files]
    inputs = {place for file in real for place in (file, os.path.dirname(file))}
    for path in targets:
        if os.path.realpath(path) in inputs:
            raise UsageError(
                f"{path}: is one of the images, or holds one: results would be written there.",
                hint="Choose another folder: --out DIR",
            )


def _spare_others(targets: Iterable[Path]) -> None:
    """Refuse to write over what no run has recorded as its own."""
    for path in targets:
        if os.path.lexists(path):
            raise UsageError(
                f"{path}: is there, and no result of an earlier run, as {naming.RECORD} beside it "
                "would tell.",
                hint="Choose another folder: --out DIR",
            )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise DataError(f"{folder}: cannot be made: {err.strerror}.") from err
