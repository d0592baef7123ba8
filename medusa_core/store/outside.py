"""Files that are made of a model folder and leave it: exported heads and networks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from medusa_core.errors import StoreError
from medusa_core.store import files
from medusa_core.store.transaction import best_effort


def write(path: Path, data: bytes, check: Callable[[Path], None]) -> None:
    """Write a file whole, or not at all, and only where `check` has no objection.

    Args:
        path: where it appears.
        data: all of it.
        check: raises StoreError if nothing may be written there. It is asked again when no other
            process writes to the folder.

    Raises:
        StoreError: it may not, or cannot, be written.
    """
    check(path)
    with files.alone(path.parent):
        check(path)  # still
        files.rewrite(path, data, through=path.with_name(f".{path.name}.medusa-part"))
    with best_effort(f"{path} was written, but a power failure may still undo it"):
        files.sync_folder(path.parent)


def require_free(path: Path, model: Path, replace: bool) -> None:
    """A file may be written there: outside of the model folder, and free or to be replaced.

    Raises:
        StoreError: it may not.
    """
    if not path.parent.is_dir():
        raise StoreError(
            f"{path.parent}: no such folder.", hint="Make the folder first, or name another place."
        )
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(model)):
        raise StoreError(f"{path} lies in the model folder.", hint="Name another place with -o.")
    if os.path.exists(path) and not os.path.isfile(path):  # where a link leads to counts
        raise StoreError(f"{path} is there, and is not a file.", hint="Name another place with -o.")
    if files.exists(path) and not replace:
        raise StoreError(
            f"{path} is there already.", hint="Choose another file with -o, or add --replace."
        )
