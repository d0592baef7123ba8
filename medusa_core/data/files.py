"""Files from outside: plain ones only, and no more of them than fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medusa_core.errors import DataError


def exists(path: Path) -> bool:
    """Whether there is such a file or folder.

    Raises:
        DataError: that cannot be told, since a folder may not be entered.
    """
    try:
        return path.exists()
    except OSError as err:
        raise DataError(f"{path}: cannot be reached: {err.strerror}.") from err


def require_plain(path: Path) -> None:
    """Refuse what is there and is no plain file: a pipe would keep us waiting.

    Raises:
        DataError: it is a pipe, a folder, a device; or cannot be reached.
    """
    if exists(path) and not path.is_file():
        raise DataError(f"{path}: not a plain file.")


def read_bounded(path: Path, limit: int) -> bytes:
    """A whole file of at most `limit` bytes.

    Raises:
        DataError: it is longer, or no plain file. OSError: it cannot be read.
    """
    require_plain(path)
    with path.open("rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DataError(f"{path}: larger than {limit // 10**6} MB.")
    return content


def read_json(path: Path, limit: int) -> Any:
    """What a JSON file of at most `limit` bytes holds; None where it holds no JSON.

    Raises:
        FileNotFoundError: there is none. DataError: it is longer, no plain file, or unreadable.
    """
    try:
        return json.loads(read_bounded(path, limit))
    except NotADirectoryError as err:
        raise FileNotFoundError(str(path)) from err
    except FileNotFoundError:
        raise
    except OSError as err:
        raise DataError(f"{path}: cannot be read: {err.strerror}.") from err
    except (ValueError, RecursionError):
        return None
