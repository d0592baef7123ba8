"""Runs at the same time, into one folder, share its record of names."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medusa_core.errors import DataError
from medusa_core.workflows.prediction.naming import choose, record, recorded, without_results


def test_no_name_is_lost_where_many_runs_record_at_once(tmp_path: Path) -> None:
    files = [tmp_path / f"{index}.jpg" for index in range(60)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda file: record(tmp_path, [(file, file.stem)]), files))
    assert recorded(tmp_path) == {file.stem: str(file) for file in files}


def test_a_name_that_another_run_has_just_taken_is_not_taken_from_it(tmp_path: Path) -> None:
    first, second = tmp_path / "a" / "photo.jpg", tmp_path / "b" / "photo.jpg"
    names = choose([second], recorded(tmp_path))
    record(tmp_path, [(first, "photo")])
    before = (tmp_path / "inputs.json").read_bytes()
    with pytest.raises(DataError, match="another run has just taken the name photo"):
        record(tmp_path, zip([second], names, strict=True))
    assert (tmp_path / "inputs.json").read_bytes() == before
    again = choose([second], recorded(tmp_path))
    record(tmp_path, zip([second], again, strict=True))
    assert recorded(tmp_path) == {"photo": str(first), again[0]: str(second)}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_among_photographs_is_not_waited_for(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    os.mkfifo(tmp_path / "inputs.json")
    with pytest.raises(DataError, match=r"inputs\.json: not a plain file"):
        recorded(tmp_path)
    assert without_results([photo]) == [photo]
