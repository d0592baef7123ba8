"""How a model folder changes, and why a crash cannot lose a head.

1. New content is written under names that `model.json` does not mention, and synced.
2. `commit` replaces `model.json` in one step and syncs it. Before it the folder is in the old
   state, after it in the new one.
3. Only `tidy` deletes, and only what the `model.json` *on the disk* does not mention. It runs
   before a change (the remains of a crash), and after it, be it done or failed.

Writers hold the lock throughout; nobody holds it while training. Readers need none.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from medusa_core.errors import StoreError
from medusa_core.store import files, records
from medusa_core.store.layout import JOINT, Layout
from medusa_core.store.manifest import ModelManifest

LOCK_SECONDS = 30.0
"""How long a writer waits for another one."""
LOOK_SECONDS = 0.3
"""How long a training waits for others that look for the same rival, too."""

_log = logging.getLogger(__name__)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[tuple[Layout, ModelManifest]]:
    """The frame of every change: lock, clean up, change, clean up."""
    layout = Layout(Path(path))
    records.read_model(layout)  # so that no lock file is made where there is no model folder
    with locked(layout):
        tidy(layout)
        try:
            yield layout, records.read_model(layout)
        finally:
            with best_effort(f"{path} holds files that the next change deletes"):
                tidy(layout)


def write_revisions(layout: Layout, heads: Mapping[str, tuple[bytes, bytes]]) -> dict[str, str]:
    """Write new revisions and sync everything that leads to them.

    Args:
        layout: the model folder.
        heads: name → content of `head.json` and of `head.safetensors`.

    Returns:
        Name → revision.
    """
    files.make_folder(layout.heads)
    revisions = {name: _write_revision(layout, name, *content) for name, content in heads.items()}
    files.sync_folder(layout.root)
    return revisions


def commit(layout: Layout, manifest: ModelManifest, finished: Iterable[Path] = ()) -> None:
    """Make `manifest` the state of the folder; all that it mentions is on the disk by now.

    Args:
        layout: the model folder.
        manifest: its new state.
        finished: what goes with it: resume state of trainings that are over, reports.
    """
    files.write(layout.model, records.dump(manifest, layout.model))  # this is the commit
    with best_effort(f"{layout.root} was changed, but a power failure may still undo it"):
        files.sync_folder(layout.root)
        for path in finished:
            if files.is_folder(path.parent) and files.exists(path):
                files.remove(path)


def tidy(layout: Layout) -> list[Path]:
    """Delete what `model.json` does not mention, once this one is sure to stay.

    The caller holds the lock. What is not Medusa's own is left alone.

    Returns:
        What was deleted.
    """
    files.sync_folder(layout.root)
    manifest = records.read_model(layout)
    _settle_backbone(layout, manifest)
    removed = []
    for path, ours in layout.strays(manifest.heads):
        if ours:
            files.remove(path)
            removed.append(path)
    return removed


def _settle_backbone(layout: Layout, manifest: ModelManifest) -> None:
    """Give a waiting backbone that `model.json` names by its hash the name of the backbone.

    Until then a reader opens both files and takes the one with the right hash. A waiting one
    that `model.json` does not name was never committed: it is a stray.
    """
    waiting = layout.next_backbone
    if not files.exists(waiting):
        return
    if files.sha256(waiting, layout.root) == manifest.backbone.weights_sha256:
        files.move(waiting, layout.backbone)
        files.sync_folder(layout.root)


def _write_revision(layout: Layout, name: str, head_json: bytes, weights: bytes) -> str:
    """Write one revision. One of the same content is the same revision: it is made anew."""
    rev = records.revision(head_json, weights)
    folders = (layout.heads, layout.head(name), layout.revision(name, rev))
    for folder in folders[1:]:
        files.make_folder(folder)
    files.write(layout.head_json(name, rev), head_json)
    files.write(layout.head_weights(name, rev), weights)
    for folder in reversed(folders):
        files.sync_folder(folder)
    return rev


@contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Keep other writers out.

    Raises:
        StoreError: another one does not end, or the lock file cannot be made.
    """
    busy = StoreError(
        f"Another medusa process has been writing to {layout.root} for {LOCK_SECONDS:.0f} seconds.",
        hint="Wait for it to end, then run the command again.",
    )
    with _holding(layout.lock, LOCK_SECONDS, busy):
        yield


@contextmanager
def training(path: str | os.PathLike[str], name: str) -> Iterator[None]:
    """Keep other trainings of a head, or `JOINT`, out; writers are not kept waiting.

    Raises:
        StoreError: one is under way, or the lock file cannot be made.
    """
    layout = Layout(Path(path))
    files.make_folder(layout.all_work)
    with _holding(layout.work_lock(name), 0, _training_error(layout, name)):
        _refuse_rivals(layout, name)
        try:
            yield
        finally:
            with best_effort(f"{layout.work_lock(name)} is left"):
                # In use, so Windows would not have it. A new backbone may have cleared it away.
                if os.name != "nt" and files.exists(layout.work_lock(name)):
                    files.remove(layout.work_lock(name))


def _refuse_rivals(layout: Layout, name: str) -> None:
    """Heads and their backbone cannot be trained at once: what ends last could not be committed.

    Of two that start at the same moment, both may be refused. Several that look for one rival at
    once hold its lock for a moment, which is waited for.
    """
    locks = layout.work_locks() if name == JOINT else [layout.work_lock(JOINT)]
    for lock in locks:
        if lock != layout.work_lock(name) and files.exists(lock):
            with _holding(lock, LOOK_SECONDS, _training_error(layout, lock.stem)):
                pass


def _training_error(layout: Layout, name: str) -> StoreError:
    what = "the backbone" if name == JOINT else f"a head {name!r}"
    return StoreError(
        f"Another medusa process is training {what} of {layout.root}.",
        hint="Wait for it to end. A head can have another name (--name), a backbone another folder "
        "(medusa init NEW).",
    )


@contextmanager
def _holding(path: Path, seconds: float, busy: StoreError) -> Iterator[None]:
    """Hold a lock that the operating system takes back when its owner is killed."""
    lock = FileLock(path, timeout=seconds)
    with files.reported("write", path):
        try:
            lock.acquire()
        except Timeout as err:
            raise busy from err
    try:
        yield
    finally:
        lock.release()


@contextmanager
def best_effort(consequence: str) -> Iterator[None]:
    """For what follows a commit or a failure: its own errors are logged, they decide nothing."""
    try:
        yield
    except StoreError as err:
        _log.warning("%s: %s", consequence, err)
