"""The folder of cached features: where it lies, how large it may get, and what goes first.

A file that is mapped by anybody is locked (shared) and stays. The others go when room is needed,
those first that were not used for longest.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import IO

from medusa_core.errors import StoreError, UsageError
from medusa_core.settings import folder_setting, read_settings

try:
    import fcntl
except ImportError:  # Windows itself keeps mapped files from being deleted
    fcntl = None  # type: ignore[assignment]

LIMIT = "MEDUSA_CACHE_LIMIT"
DEFAULT_LIMIT = 50 * 10**9
PARTIAL = ".partial-"
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_ABANDONED = 60.0 if fcntl is not None else 24 * 3600.0
"""Seconds without a write after which an unfinished file may be one of a process that was killed;
whoever still writes it holds its lock, where there are locks."""
_FORGOTTEN = 7 * 24 * 3600.0
"""The same for one that can be gone on with."""


def cache_folder() -> Path:
    """Where features are kept: as the user has set, or `medusa` in the XDG cache folder.

    Raises:
        UsageError: as `folder_setting`.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return folder_setting("MEDUSA_CACHE", read_settings().cache, f"{base}/medusa") / "features"


def cache_limit() -> int:
    """Bytes the cache may hold: `MEDUSA_CACHE_LIMIT`, such as `200GB`; 50 GB by default.

    Raises:
        UsageError: it is not a size.
    """
    text = os.environ.get(LIMIT)
    if not text:
        return DEFAULT_LIMIT
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([KMGT]B)", text.strip().upper())
    if match is None:
        raise UsageError(f"{LIMIT}={text!r} is not a size.", hint=f"For example: {LIMIT}=200GB")
    return int(float(match[1]) * _UNITS[match[2]])


_OWN = re.compile(rf"[0-9a-f]{{32}}\.safetensors|{re.escape(PARTIAL)}[0-9a-f]{{32}}-\w*-\w+")
"""Names of cache files: what else lies there is somebody's, and is never deleted."""


@cache
def this_boot() -> str:
    """A name of the system's present run; empty where it has none, or no locks.

    Unfinished files are gone on with in the run they are of: who knows what a power cut left.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
    return re.sub(r"\W", "", boot) if fcntl is not None else ""


def partial_prefix(path: Path) -> str:
    """How names of unfinished files begin that are to become a file of the cache."""
    return f"{PARTIAL}{path.stem}-{this_boot()}-"


def partial_files(path: Path) -> list[Path]:
    """Unfinished files that are to become a file of the cache; some may be written now."""
    found = path.parent.glob(f"{partial_prefix(path)}*")
    return sorted(file for file in found if _stat(file) is not None)


def remove_partials(path: Path) -> None:
    """Delete what was left unfinished of a file that is there whole, unless it is being written."""
    for other in partial_files(path):
        remove_unused(other)


def make_room(folder: Path, needed: int, keep: Collection[Path] = ()) -> int:
    """Delete old files until `needed` bytes fit below the limit and on the disk.

    Args:
        folder: the cache; it exists.
        needed: bytes that are going to be written.
        keep: files that are about to be used.

    Returns:
        Bytes that are free on the disk now.

    Raises:
        StoreError: they cannot fit. Says how much is needed and what to do; where that is plain
            from the start, nothing was deleted.
    """
    remove_leftovers(folder, keep)
    check_room(folder, needed, keep)
    sizes, old = _held(folder, keep)
    limit, free, used = cache_limit(), free_space(folder), sum(sizes.values())
    for path in old:
        if needed <= free and used + needed <= limit:
            break
        if remove_unused(path):
            used -= sizes[path]
            free += sizes[path]
    _require(folder, needed, free, 0, used, limit)
    return free


def check_room(folder: Path, needed: int, keep: Collection[Path] = ()) -> None:
    """Refuse what `make_room` could not make room for, were no file in use by others.

    Raises:
        StoreError: as `make_room`.
    """
    sizes, old = _held(folder, keep)
    removable = sum(sizes[path] for path in old)
    _require(folder, needed, free_space(folder), removable, sum(sizes.values()), cache_limit())


def free_space(folder: Path) -> int:
    """Bytes that are free where the folder is, or would be."""
    return shutil.disk_usage(nearest(folder)).free


def nearest(folder: Path) -> Path:
    """The folder, or the one above it that it would be made in."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _held(folder: Path, keep: Collection[Path]) -> tuple[dict[Path, int], list[Path]]:
    """Size of every file, and those that may go, oldest first."""
    stats = {path: found for path in folder.glob("*") if (found := _stat(path)) is not None}
    old = [path for path in stats if path not in keep and _OWN.fullmatch(path.name)]
    old.sort(key=lambda path: stats[path].st_mtime)
    return {path: found.st_size for path, found in stats.items()}, old


def _require(folder: Path, needed: int, free: int, removable: int, used: int, limit: int) -> None:
    """Refuse work that would not fit; there is always room for nothing."""
    if needed == 0:
        return
    fewer = "use fewer --views or a smaller --size"
    if needed > free + removable:
        old = f", {shown_bytes(removable)} of old features can go" if removable else ""
        raise StoreError(
            f"{folder}: {shown_bytes(needed)} are needed, {shown_bytes(free)} are free{old}.",
            hint=f"Put the cache elsewhere (MEDUSA_CACHE=DIR), or {fewer}.",
        )
    if used - removable + needed > limit:
        taken = used - removable
        more = f", and {shown_bytes(taken)} in it cannot go" if taken else ""
        raise StoreError(
            f"{folder}: {shown_bytes(needed)} are needed, the cache may hold {shown_bytes(limit)}"
            f"{more}.",
            hint=f"Allow more ({LIMIT}={(taken + needed) // 10**9 + 1}GB), or {fewer}.",
        )


def shown_bytes(size: int) -> str:
    """A number of bytes as people read it."""
    return f"{size / 1e9:.1f} GB" if size >= 10**9 else f"{size / 1e6:.1f} MB"


def remove_leftovers(folder: Path, keep: Collection[Path] = ()) -> None:
    """Delete unfinished files that nobody will go on with: they may be large."""
    for path in set(folder.glob(f"{PARTIAL}*")).difference(keep):
        found = _stat(path)
        known = this_boot() and f"-{this_boot()}-" in path.name
        limit = _FORGOTTEN if known else _ABANDONED
        if found is not None and time.time() - found.st_mtime > limit:
            remove_unused(path)


def touch(path: Path) -> None:
    """Note that a file was used now."""
    with contextlib.suppress(OSError):  # a cache that may only be read
        os.utime(path)


def remove_unused(path: Path) -> bool:
    """Delete a file; False where somebody uses it, or it cannot be deleted."""
    try:
        with path.open("rb") as file:
            if fcntl is not None:
                if claimed := claim(file):
                    path.unlink()
                return claimed
        path.unlink()
    except OSError:
        return False
    return True


def claim(file: IO[bytes]) -> bool:
    """Lock an open file for oneself alone; False where others use it, or nobody can know."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _stat(path: Path) -> os.stat_result | None:
    """None for what is not a file, or not there any more."""
    with contextlib.suppress(OSError):
        if path.is_file() and not path.is_symlink():
            return path.stat()
    return None
