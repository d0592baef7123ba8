"""`medusa predict`: results for image files, read and written while the network computes."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from medusa_core.errors import DataError, ExecutionError, MedusaError, PluginError, UsageError
from medusa_core.model.execution import Execution
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.model.memory import is_out_of_memory
from medusa_core.model.tiles import MIN_TILE
from medusa_core.names import as_names
from medusa_core.plugin_host.host import Host
from medusa_core.plugin_host.importing import FAILURES
from medusa_core.progress import Progress, SilentProgress
from medusa_core.workflows import naming, preparation, results
from medusa_core.workflows.inputs import Picture, count, find_files, is_video, pictures
from medusa_core.workflows.made_with import Making, makings

AHEAD = 4
"""So many images are read before they are needed, and so many results wait to be written."""

Views = list[tuple[list[str], Tensor]]
Item = TypeVar("Item")
Made = TypeVar("Made")


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
    places, known = _Places(Path(out), names, formats), naming.recorded(Path(out))
    named = list(zip(files, naming.choose(files, known), strict=True))
    before = {file for file, stem in named if stem in known}
    places.prepare(named, known)
    making = Making(places.folder, makings(model, names, long_side, tile))
    skipped: list[str] = []
    frames: dict[str, int] = {}
    largest = 0

    def is_missing(file: Path, stem: str, name: object) -> bool:
        if resume and file in before and making.is_current(file, places.targets(stem)):
            skipped.append(str(name))
            return False
        return True

    def missing(todo: Iterable[tuple[Path, str]]) -> Iterator[Picture]:
        for picture in pictures(todo):
            if picture.frame is not None:
                frames[picture.stem.partition("/")[0]] = picture.frame + 1
            if picture.frame is None or is_missing(picture.file, picture.stem, picture):
                yield picture

    def read(picture: Picture) -> tuple[np.ndarray, Views]:
        image = picture.load()
        return image, model.scaled(image, names, long_side)

    @torch.inference_mode()
    def compute(views: Views) -> dict[str, Tensor]:
        nonlocal largest
        largest = max(largest, *(max(image.shape[-2:]) for _, image in views))
        return _run(model, views, tile, progress)

    def write(stem: str, image: np.ndarray, outputs: dict[str, Tensor]) -> list[dict[str, Any]]:
        making.begin()
        return [
            results.write(model.tasks[r.head], places.folder, stem, image, r, formats)
            for r in model.results(outputs, image.shape[:2], long_side).values()
        ]

    todo = [(file, stem) for file, stem in named if is_video(file) or is_missing(file, stem, file)]
    if resume and making.others:
        progress.message(
            f"Results of {', '.join(making.others)} are made anew: those there were made with "
            "another head or other options."
        )
    progress.start("Predicting", count(file for file, _ in todo))
    try:
        done, failed = _overlapped(missing(todo), read, compute, write, progress)
    finally:
        making.close()
    progress.finish()
    if not failed:
        places.remove_later_frames(frames)
    if skipped:
        progress.message(f"{len(skipped)} left out: their results are there.")
    if isinstance(tile, int) and 0 < largest <= tile:
        progress.message(
            f"--tile {tile} has cut nothing: the largest picture that heads looked at has "
            f"{largest} pixels on its longer side. More: --size PIXELS."
        )
    return {
        "schema_version": 1,
        "model": str(model.path),
        "out": str(places.folder),
        "images": done,
        "skipped": skipped,
        "failed": failed,
        "unusable": preparation.unusable(model, tasks),
        "ok": not failed,
    }


@dataclass(frozen=True)
class _Places:
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
            UsageError: what is there would be written over. DataError: see `predict`.
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


def _run(
    model: MedusaModel, views: Views, tile: int | Literal["auto"] | None, progress: Progress
) -> dict[str, Tensor]:
    """Raw predictions; with "auto", from tiles half as large until they fit into memory."""
    if tile != "auto":
        return model.run(views, tile)
    side, tile = max(max(image.shape[-2:]) for _, image in views), None
    while True:
        try:
            return model.run(views, tile)
        except FAILURES as err:
            if not is_out_of_memory(err) or side <= MIN_TILE:
                raise
        tile = side = max(MIN_TILE, side // 2)
        progress.message(f"Out of memory: trying tiles of {tile}.")


def _overlapped(
    todo: Iterable[Picture],
    read: Callable[[Picture], tuple[np.ndarray, Views]],
    compute: Callable[[Views], dict[str, Tensor]],
    write: Callable[[str, np.ndarray, dict[str, Tensor]], list[dict[str, Any]]],
    progress: Progress,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What was written for each picture, in order, and which could not be predicted.

    This thread computes, two others read and write; a few pictures are under way at a time.
    """
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    writing: deque[tuple[Picture, Future[list[dict[str, Any]]]]] = deque()

    def collect(waiting: int) -> None:
        while len(writing) > waiting:
            picture, written = writing.popleft()
            try:
                done.append({**picture.place, "results": written.result()})
            except FAILURES as err:  # what cannot be written ends all
                if not is_out_of_memory(err):
                    raise
                failed.append({**picture.place, "error": _reason(picture, err)})

    with ThreadPoolExecutor(2, "medusa-predict") as pool:
        try:
            for picture, loading in _ahead(pool, read, todo):
                try:
                    image, views = loading.result()
                    outputs = compute(views)
                except FAILURES as err:
                    failed.append({**picture.place, "error": _reason(picture, err)})
                else:
                    writing.append((picture, pool.submit(write, picture.stem, image, outputs)))
                    collect(AHEAD)
                progress.advance()
            collect(0)
        finally:
            pool.shutdown(cancel_futures=True)
    return done, failed


def _reason(picture: Picture, error: BaseException) -> str:
    """Why this picture could not be predicted; raises what is not a matter of this picture."""
    if is_out_of_memory(error):
        return (
            f"{picture}: out of memory. Cut it into tiles: --tile auto, or a smaller one than now."
        )
    of_all = isinstance(error, (ExecutionError, PluginError, UsageError))
    if of_all or not isinstance(error, MedusaError):
        raise error
    return error.message if str(picture) in error.message else f"{picture}: {error.message}"


def _ahead(
    pool: ThreadPoolExecutor, make: Callable[[Item], Made], items: Iterable[Item]
) -> Iterator[tuple[Item, Future[Made]]]:
    """Each item with what is made of it, in order, a few ahead of time."""
    waiting: deque[tuple[Item, Future[Made]]] = deque()
    for item in items:
        waiting.append((item, pool.submit(make, item)))
        if len(waiting) > AHEAD:
            yield waiting.popleft()
    yield from waiting


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
