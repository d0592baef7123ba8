"""Files from outside: what is no plain file, or too long, is never waited for or read whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from medusa_core.data.files import exists, read_bounded, require_plain
from medusa_core.data.images import open_image, read_npy
from medusa_core.errors import DataError
from medusa_tasks.datasets.matlab import read_variable


def _bounded(path: Path) -> bytes:
    return read_bounded(path, 10)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize(
    "read", [require_plain, open_image, read_npy, lambda path: read_variable(path, "x"), _bounded]
)
def test_a_pipe_is_refused_at_once(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: not a plain file"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("read", [exists, require_plain, open_image])
def test_a_folder_that_may_not_be_entered_is_an_error_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    def refused(_: Path) -> bool:  # as Python 3.11 does, unless it is root who asks
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refused)
    with pytest.raises(DataError, match="image.png: cannot be reached: Permission denied"):
        read(tmp_path / "image.png")


@pytest.mark.parametrize("length", [0, 9, 10, 11, 1000])
def test_no_more_than_the_limit_is_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * length)
    if length <= 10:
        assert read_bounded(path, 10) == path.read_bytes()
    else:
        with pytest.raises(DataError, match="larger than"):
            read_bounded(path, 10)


def test_what_is_missing_is_the_callers_to_tell(tmp_path: Path) -> None:
    require_plain(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "nothing", 10)
