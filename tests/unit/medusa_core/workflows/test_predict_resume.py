"""`predict --resume`: what is made again, and what is left as it is."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medusa_core.errors import DataError, ExecutionError, UsageError
from medusa_core.model import MedusaModel
from medusa_core.model.execution import Execution
from medusa_core.workflows.predict import predict
from medusa_core.workflows.prediction import results

from .conftest import Told

Predicting = Callable[..., list[str]]


@pytest.fixture
def again(model: MedusaModel, photos: Path, tmp_path: Path) -> Predicting:
    """Predicts depth of three photographs, as far as that is not done: names of what was made."""

    def run(**options: Any) -> list[str]:
        known = {"model": model, "out": tmp_path / "out", "tasks": ["depth"], "resume": True}
        done = predict([photos], **{**known, **options})
        assert len(done["skipped"]) + len(done["images"]) == 3
        return [Path(image["image"]).name for image in done["images"]]

    return run


ALL = ["p0.jpg", "p2.jpg", "p4.jpg"]


def test_an_image_is_known_by_any_of_its_names(
    model: MedusaModel, spellings: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for count, path in enumerate(spellings):
        done = predict([path], model=model, tasks=["depth"], out=out, resume=True)
        assert len(done["skipped"]) == (count > 0)
    assert sorted(os.listdir(out)) == ["inputs.json", "made-with-depth.json", "p1.depth.png"]


def test_what_is_missing_or_older_than_its_image_is_made(
    again: Predicting, photos: Path, tmp_path: Path
) -> None:
    assert again(raw=True) == ALL
    assert again(raw=True) == []
    (tmp_path / "out" / "p2.depth.npy").unlink()
    assert again(raw=True) == ["p2.jpg"]
    os.utime(photos / "p4.jpg", (2**32, 2**32))
    assert again(raw=True) == ["p4.jpg"]


def test_an_image_that_was_put_in_place_of_another_is_another(
    again: Predicting, photos: Path, tmp_path: Path
) -> None:
    """With an older time, as `mv` and `unzip` keep it, or by a link."""
    assert again() == ALL
    time.sleep(0.05)
    other = Path(shutil.copy(photos / "p0.jpg", tmp_path / "other.jpg"))
    os.utime(other, (1e9, 1e9))
    other.replace(photos / "p2.jpg")
    assert (again(), again()) == (["p2.jpg"], [])
    shutil.copy2(photos / "p2.jpg", tmp_path / "other.jpg")
    time.sleep(0.05)
    (photos / "p0.jpg").unlink()
    (photos / "p0.jpg").symlink_to(tmp_path / "other.jpg")
    assert (again(), again()) == (["p0.jpg"], [])


def test_another_head_makes_all_again(model: MedusaModel, again: Predicting) -> None:
    """Whenever it was made: models are moved and copied with their times."""
    assert (again(), again(), again(tasks=["normals"]), again()) == (ALL, [], ALL, [])
    other = model.heads["depth"].model_copy(update={"sha256": "0" * 64})
    model._manifests["depth"] = other
    assert (again(), again(), again(tasks=["normals"])) == (ALL, [], [])


@pytest.mark.parametrize(
    "options", [{"long_side": 80}, {"tile": 128}, {"execution": Execution("plain")}], ids=str
)
def test_other_options_make_all_again(
    model: MedusaModel, again: Predicting, options: dict[str, Any]
) -> None:
    told = Told()
    known = {"model": model.path, "progress": told}
    assert (again(**known), again(**known)) == (ALL, [])
    assert not any("made anew" in line for line in told.lines)
    found = [again(**known, **changes) for changes in (options, options, {})]
    assert found == [ALL, [], ALL]
    assert sum("Results of depth are made anew" in line for line in told.lines) == 2


@pytest.mark.parametrize(
    ("error", "place", "made"),
    [(KeyboardInterrupt(), results, ALL), (ExecutionError("not in this way"), None, [])],
    ids=["interrupted while it is written", "options that cannot be used"],
)
def test_results_are_out_of_date_once_one_is_to_be_written_with_other_options(
    again: Predicting,
    model: MedusaModel,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    place: Any,
    made: list[str],
) -> None:
    def fail(*args: object) -> None:
        raise error

    assert again() == ALL
    monkeypatch.setattr(place or model, "write" if place else "run", fail)
    with pytest.raises(type(error)):
        again(long_side=80)
    monkeypatch.undo()
    assert again() == made
    assert (again(long_side=80), again(long_side=80)) == (ALL, [])


@pytest.mark.skipif(os.name == "nt", reason="needs locks of files")
def test_runs_with_other_options_do_not_mix_their_results(
    again: Predicting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later one is refused until the first one ends, unless it runs other heads."""
    write = results.write
    refused: list[str] = []

    def meanwhile(*args: Any) -> Any:
        done = write(*args)
        monkeypatch.undo()
        for options in ({}, {"long_side": 80}, {"tasks": ["normals"], "long_side": 80}):
            try:
                again(**options, resume=False)
            except DataError as err:
                refused.append(err.message)
        return done

    monkeypatch.setattr(results, "write", meanwhile)
    assert again() == ALL
    [message] = refused
    assert "another run is making results of depth with another head or other options" in message
    assert again(long_side=80) == ALL


@pytest.mark.parametrize("content", ["", "[]", '{"since": 3.0}', '{"since": 3.0, "with": 1}'])
def test_a_record_of_makings_that_is_none(again: Predicting, tmp_path: Path, content: str) -> None:
    (tmp_path / "made-with-depth.json").write_text(content)
    with pytest.raises(DataError, match=r"made-with-depth\.json: does not say"):
        again(out=tmp_path)
    assert (tmp_path / "made-with-depth.json").read_text() == content


def test_results_of_unknown_images_are_not_trusted(again: Predicting, tmp_path: Path) -> None:
    assert again() == ALL
    (tmp_path / "out" / "inputs.json").unlink()
    with pytest.raises(UsageError, match="no result of an earlier run"):
        again()
