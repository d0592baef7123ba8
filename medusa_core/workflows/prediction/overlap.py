"""Pictures read, computed and written at the same time, each step in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from medusa_core.errors import ExecutionError, MedusaError, PluginError, UsageError
from medusa_core.model.memory import is_out_of_memory
from medusa_core.plugin_host.importing import FAILURES
from medusa_core.progress import Progress
from medusa_core.workflows.prediction.inputs import Picture

AHEAD = 4
"""So many images are read before they are needed, and so many results wait to be written."""

Views = list[tuple[list[str], Tensor]]
"""What networks read of one picture: heads, and the image `(1, 3, H, W)` at their scale."""
Item = TypeVar("Item")
Made = TypeVar("Made")


def overlapped(
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
