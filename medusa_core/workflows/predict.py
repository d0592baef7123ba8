"""`medusa predict`: results for image files, read and written while the network computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from medusa_core.model.execution import Execution
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.model.memory import is_out_of_memory
from medusa_core.model.tiles import MIN_TILE
from medusa_core.names import as_names
from medusa_core.plugin_host.host import Host
from medusa_core.plugin_host.importing import FAILURES
from medusa_core.progress import Progress, SilentProgress
from medusa_core.workflows import preparation
from medusa_core.workflows.prediction import naming, results
from medusa_core.workflows.prediction.inputs import Picture, count, find_files, is_video, pictures
from medusa_core.workflows.prediction.made_with import Making, makings
from medusa_core.workflows.prediction.overlap import Views, overlapped
from medusa_core.workflows.prediction.places import Places


def predict(
    images: str | Path | Sequence[str | Path],
    *,
    model: str | Path | MedusaModel = "medusa-model",
    tasks: Sequence[str] | None = None,
    out: str | Path = "out",
    raw: bool = False,
    formats: str | Sequence[str] = ("png",),
    long_side: int | None = None,
    tile: int | Literal["auto"] | None = None,
    resume: bool = False,
    device: str | None = None,
    execution: Execution | None = None,
    host: Host | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write results for images: `<stem>.<head>.png` renderings, and other formats.

    Those of frame 7 of a video are called `<stem>.frames/000007.<head>.png`. Where images have one
    stem, in this run or an earlier one, a hash of the path follows it: no image takes the place of
    another. `inputs.json` in the folder tells which image a name belongs to.

    Args:
        images: image and video files, folders (their images, not those of folders inside), or
            patterns such as `photos/**/*.jpg`. Of the latter two, what earlier runs wrote beside
            an `inputs.json` is left out.
        model: model folder, or an open model.
        tasks: head names; None: all.
        out: folder for the results; made where it does not exist.
        raw: "npy" beside the other formats.
        formats: "png" renderings, "npy" decoded values in their unit, "png16" values as 16-bit
            integers, "json" a summary.
        long_side: as in `MedusaModel.predict`.
        tile: as in `MedusaModel.predict`; "auto": as large ones as fit into memory.
        resume: leave out images whose own results are there, newer than the image, and made with
            these heads and options (`made-with-HEAD.json` in the folder); results are not opened.
        device: where to compute.
        execution: how networks are run; None: prepared for inference, in float32.
        host: None: the installed plugins.
        progress: counts images.

    Returns:
        `images`: the files written for each, and for frames of videos their number and time;
        `skipped`: what was done before; `failed`: what could not be read or was too large for
        memory, with the reason; the others are done all the same; `unusable`: heads that cannot be
        run, and why (where `tasks` names none).

    Raises:
        UsageError: no images, a result would replace one or a file that is no result, a format
            that does not fit, or `long_side` or `tile` is too small.
        DataError: `out` cannot be written, or its record of images is damaged.
        ExecutionError: the networks cannot be run as asked.
        PluginError: the plugin of a head failed.
    """
    progress = progress or SilentProgress()
    files = find_files([images] if isinstance(images, (str, Path)) else images, progress)
    model = preparation.opened(model, tasks, device, host, execution)
    names = model.require_some(tasks)
    specs = [model.tasks[name].spec for name in names]
    formats = results.check_formats((*as_names(formats), *(["npy"] if raw else [])), specs)
    places, known = Places(Path(out), names, formats), naming.recorded(Path(out))
    named = list(zip(files, naming.choose(files, known), strict=True))
    before = {file for file, stem in named if stem in known}
    places.prepare(named, known)
    making = Making(places.folder, makings(model, names, long_side, tile))

    def is_done(file: Path, stem: str) -> bool:
        return resume and file in before and making.is_current(file, places.targets(stem))

    def write(stem: str, image: np.ndarray, outputs: dict[str, Tensor]) -> list[dict[str, Any]]:
        making.begin()
        return [
            results.write(model.tasks[r.head], places.folder, stem, image, r, formats)
            for r in model.results(outputs, image.shape[:2], long_side).values()
        ]

    if resume and making.others:
        progress.message(
            f"Results of {', '.join(making.others)} are made anew: those there were made with "
            "another head or other options."
        )
    todo, networks = _Todo(named, is_done), _Networks(model, names, long_side, tile, progress)
    progress.start("Predicting", count(file for file, _ in todo.files))
    try:
        done, failed = overlapped(todo, networks.read, networks.compute, write, progress)
    finally:
        making.close()
    progress.finish()
    if not failed:
        places.remove_later_frames(todo.frames)
    if todo.skipped:
        progress.message(f"{len(todo.skipped)} left out: their results are there.")
    networks.tell_unused_tile()
    return {
        "model": str(model.path),
        "out": str(places.folder),
        "images": done,
        "skipped": todo.skipped,
        "failed": failed,
        "unusable": preparation.unusable(model, tasks),
        "ok": not failed,
    }


class _Todo:
    """The pictures that have no results yet, in order.

    Attributes:
        files: those and all videos, with the names of their results.
        skipped: names of pictures that are left out; those of videos as they come.
        frames: folder of frames → how many its video was seen to have.
    """

    def __init__(
        self, named: Sequence[tuple[Path, str]], is_done: Callable[[Path, str], bool]
    ) -> None:
        self.skipped: list[str] = []
        self.frames: dict[str, int] = {}
        self._is_done = is_done
        self.files = [
            (file, stem)
            for file, stem in named
            if is_video(file) or self._is_left(file, stem, file)
        ]

    def __iter__(self) -> Iterator[Picture]:
        for picture in pictures(self.files):
            if picture.frame is not None:
                self.frames[picture.stem.partition("/")[0]] = picture.frame + 1
            if picture.frame is None or self._is_left(picture.file, picture.stem, picture):
                yield picture

    def _is_left(self, file: Path, stem: str, name: object) -> bool:
        if self._is_done(file, stem):
            self.skipped.append(str(name))
            return False
        return True


class _Networks:
    """What is computed of a picture: at the scales of these heads, in tiles where asked for."""

    def __init__(
        self,
        model: MedusaModel,
        names: Sequence[str],
        long_side: int | None,
        tile: int | Literal["auto"] | None,
        progress: Progress,
    ) -> None:
        self.model, self.names, self.progress = model, names, progress
        self.long_side, self.tile = long_side, tile
        self._largest = 0

    def read(self, picture: Picture) -> tuple[np.ndarray, Views]:
        """The image `(H, W, 3) uint8`, and what heads look at."""
        image = picture.load()
        return image, self.model.scaled(image, self.names, self.long_side)

    @torch.inference_mode()
    def compute(self, views: Views) -> dict[str, Tensor]:
        """Raw predictions by head; with "auto", from tiles half as large until they fit."""
        side = max(max(image.shape[-2:]) for _, image in views)
        self._largest = max(self._largest, side)
        if self.tile != "auto":
            return self.model.run(views, self.tile)
        tile = None
        while True:
            try:
                return self.model.run(views, tile)
            except FAILURES as err:
                if not is_out_of_memory(err) or side <= MIN_TILE:
                    raise
            tile = side = max(MIN_TILE, side // 2)
            self.progress.message(f"Out of memory: trying tiles of {tile}.")

    def tell_unused_tile(self) -> None:
        """Say so where `tile` has cut no picture."""
        if isinstance(self.tile, int) and 0 < self._largest <= self.tile:
            self.progress.message(
                f"--tile {self.tile} has cut nothing: the largest picture that heads looked at has "
                f"{self._largest} pixels on its longer side. More: --size PIXELS."
            )
