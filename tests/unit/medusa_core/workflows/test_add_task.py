"""Several heads from one cache, trainings that stop early or run out of memory."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

import medusa_core
from medusa_core.cli import main
from medusa_core.engine.head_training import HeadTraining
from medusa_core.errors import DataError, MedusaWarning, StoreError, TrainingError, UsageError
from medusa_core.plugin_host.host import Host
from medusa_core.store.folder import ModelFolder
from medusa_core.workflows.training import head_run

TINY = {"width": 4, "fused_width": 8}
QUICK = {"settings": TINY, "steps": 3, "batch": 2, "limit": 6, "size": (64, 64), "views": 2}
ROOMS = ["rooms:64x64"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDUSA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def weights(model: Path) -> dict[str, str]:
    with ModelFolder.open(model) as folder:
        return {n: hashlib.sha256(folder.read_head_bytes(n)).hexdigest() for n in folder.heads}


def test_heads_added_together_are_those_added_apart(make_model, own_cache, monkeypatch):
    """Bit for bit, and with one pass over the images instead of three."""
    from medusa_core.engine import cache_pass

    names, passes = ["depth", "normals", "edges"], []
    real = cache_pass.fill
    monkeypatch.setattr(
        "medusa_core.engine.feature_cache.fill", lambda *args: passes.append(1) or real(*args)
    )
    together = make_model(folder="together")
    done = medusa_core.add_task(names, model=together, data=ROOMS, **QUICK)
    assert list(done["heads"]) == names
    assert done["failed"] == {}
    assert passes == [1]
    for file in own_cache.iterdir():
        file.unlink()
    apart = make_model(folder="apart")
    for name in reversed(names):
        medusa_core.add_task(name, model=apart, data=ROOMS, **QUICK)
    assert weights(together) == weights(apart)
    assert len(weights(apart)) == 3


@pytest.mark.parametrize(("head", "whole"), [("constant", True), ("linear", False)])
def test_a_head_that_sees_nothing_learns_from_whole_pictures(make_model, monkeypatch, head, whole):
    """What is shown enlarged seems nearer: a constant would learn half of that."""
    sources, real = [], head_run.Source
    monkeypatch.setattr(head_run, "Source", lambda *a: sources.append(real(*a)) or sources[-1])
    options = {"steps": 3, "batch": 2, "limit": 6, "size": (64, 64), "head": head}
    medusa_core.add_task("depth", model=make_model(), data=ROOMS, **options)
    for source in sources:
        whole_pictures = [view.zoom == 1 for view in source.views]
        assert whole_pictures == [True, True] + [False, False] * (not whole)
    assert sources


@pytest.mark.parametrize(
    ("decode", "told"),
    [
        (None, False),
        (lambda self, raw: raw.squeeze(1) * 1e-3, True),
        (lambda self, raw: raw.squeeze(1) ** 2, False),
        (lambda self, raw: raw.squeeze(1).where(raw.squeeze(1) < 9, torch.nan), False),
    ],
)
def test_a_decode_without_a_scale_is_told(make_model, monkeypatch, capfd, decode, told):
    """As of a number from 0 to 255 that is predicted as it is."""
    from medusa_tasks.depth.task import Depth

    if decode is not None:
        monkeypatch.setattr(Depth, "decode", decode)
    line = ["add-task", "depth", "-m", str(make_model()), "--data", *ROOMS, "--steps", "2"]
    assert main([*line, "--batch", "2", "--limit", "6", "--size", "64x64", "--views", "1"]) == 0
    said = capfd.readouterr().err
    assert "depth of 5 images: " in said
    assert ("Raw predictions from -10 to 10 are -0.01 to 0.01 m" in said) == told
    assert ("Raw predictions" in said) == told


def test_what_the_range_is_told_by_ends_no_training(make_model, monkeypatch):
    """Whole numbers have no mean, and a plugin's decode may want maps of one size."""
    from medusa_core.workflows.training import target_range
    from medusa_tasks.depth.task import Depth

    real, seen = target_range._tell_reach, []

    def broken(self, raw):
        seen.append(1)
        raise RuntimeError("maps of 64×64 only")

    def tell(*args):
        with monkeypatch.context() as patch:
            patch.setattr(Depth, "decode", broken)
            real(*args)
            patch.setattr(Depth, "decode", lambda self, raw: raw.squeeze(1).round().long())
            real(*args)

    monkeypatch.setattr(target_range, "_tell_reach", tell)
    done = medusa_core.add_task("depth", model=make_model(), data=ROOMS, **QUICK)
    assert set(done["heads"]) == {"depth"}
    assert seen == [1]


def break_depth(monkeypatch, how):
    losses = HeadTraining.losses

    def diverging(self):
        found = losses(self)
        if self.task.spec.name == "depth":
            return {name: loss * float("nan") for name, loss in found.items()}
        return found

    def crashing(self):
        if self.task.spec.name == "depth":
            raise ZeroDivisionError("a plugin's own mistake")
        return losses(self)

    if how in ("diverges", "crashes"):
        changed = {"diverges": diverging, "crashes": crashing}[how]
        monkeypatch.setattr(HeadTraining, "losses", changed)
    else:
        from medusa_tasks.datasets.rooms.dataset import Rooms

        load = Rooms.load

        def torn(self, index, targets=None):
            if "depth" in (targets or ()):
                raise DataError("depth is torn")
            return load(self, index, targets)

        monkeypatch.setattr(Rooms, "load", torn)


@pytest.mark.parametrize("how", ["diverges", "crashes", "torn target"])
def test_one_that_fails_is_not_in_the_way_of_the_others(make_model, monkeypatch, how):
    whole = make_model(folder="whole")
    medusa_core.add_task(["normals", "edges"], model=whole, data=ROOMS, **QUICK)
    model = make_model()
    break_depth(monkeypatch, how)
    done = medusa_core.add_task(["normals", "depth", "edges"], model=model, data=ROOMS, **QUICK)
    assert list(done["heads"]) == ["normals", "edges"]
    said = {"diverges": "diverged", "crashes": "own mistake", "torn target": "torn"}[how]
    assert said in done["failed"]["depth"]["error"]
    assert weights(model) == weights(whole)
    with pytest.raises((TrainingError, ZeroDivisionError, DataError), match=said):
        medusa_core.add_task("depth", model=model, data=ROOMS, **QUICK)


def test_dry_run_tells_the_room_and_refuses_what_has_none(make_model, own_cache, monkeypatch):
    model, names = make_model(), ["depth", "normals"]
    planned = medusa_core.add_task(names, model=model, data=ROOMS, dry_run=True, **QUICK)
    assert list(planned["heads"]) == names
    assert not own_cache.exists()
    medusa_core.add_task(names, model=model, data=ROOMS, **QUICK)
    written = sum(path.stat().st_size for path in own_cache.iterdir())
    assert planned["cache"]["bytes"] <= written < planned["cache"]["bytes"] + 100_000
    again = medusa_core.add_task(
        names, model=model, data=ROOMS, dry_run=True, replace=True, **QUICK
    )
    assert again["cache"]["bytes"] == 0
    monkeypatch.setenv("MEDUSA_CACHE_LIMIT", "1KB")
    with pytest.raises(StoreError, match="the cache may hold"):
        medusa_core.add_task("edges", model=model, data=ROOMS, dry_run=True, **QUICK)


def test_a_dry_run_without_a_folder_tells_of_the_one_that_would_be_made(tmp_path):
    model = tmp_path / "none-yet"
    planned = medusa_core.add_task("edges", model=model, data=ROOMS, dry_run=True, **QUICK)
    assert not model.exists()
    medusa_core.init(model)
    there = medusa_core.add_task("edges", model=model, data=ROOMS, dry_run=True, **QUICK)
    for told in (planned, there):
        del told["cache"]["free"]  # changes meanwhile
    assert planned == there


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_that_leaves_nothing_is_refused(make_model, limit):
    model = make_model("depth")
    with pytest.raises(UsageError, match=f"--limit {limit}: a positive number"):
        medusa_core.evaluate(model, data=ROOMS, limit=limit)


def scores(values, monkeypatch):
    """Evaluations that come out as these."""
    left = iter(values)
    monkeypatch.setattr(HeadTraining, "figures", lambda self: {"rmse": next(left), "absrel": 0.0})


OPTIONS = {**QUICK, "steps": 20, "patience": 2}


def test_patience_ends_a_training_and_the_best_weights_are_kept(make_model, monkeypatch):
    model = make_model()
    with monkeypatch.context() as patch:
        scores([5.0, 4.0, 3.0, 3.5, 3.0, 1.0], patch)
        done = medusa_core.add_task("depth", model=model, data=ROOMS, **OPTIONS)["heads"]["depth"]
    assert done["stopped_at"] == 5
    assert done["metrics"]["rmse"] == 3.0
    with ModelFolder.open(model) as folder:
        provenance = folder.heads["depth"].provenance
    assert (provenance["stopped_at"], provenance["best_step"], provenance["patience"]) == (5, 3, 2)


def test_patience_that_lasts_changes_nothing(make_model, monkeypatch):
    scores(map(float, range(200, 0, -1)), monkeypatch)
    ends = {}
    for patience in (1, 30):
        model = make_model(folder=str(patience))
        options = {**OPTIONS, "patience": patience}
        done = medusa_core.add_task("depth", model=model, data=ROOMS, **options)
        assert done["heads"]["depth"]["stopped_at"] is None
        ends[patience] = weights(model)
    assert ends[1] == ends[30]


def test_a_resumed_training_stops_where_the_uninterrupted_one_does(make_model, monkeypatch):
    straight, resumed = make_model(folder="straight"), make_model(folder="resumed")
    values = [5.0, 4.0, 3.0, 3.5, 3.0, 1.0]
    with monkeypatch.context() as patch:
        scores(values, patch)
        medusa_core.add_task("depth", model=straight, data=ROOMS, **OPTIONS)
    real = HeadTraining.losses

    def pressed(self):
        if self.step == 4:
            raise KeyboardInterrupt
        return real(self)

    with monkeypatch.context() as patch:
        scores(values, patch)
        patch.setattr(HeadTraining, "losses", pressed)
        patch.setattr("medusa_core.engine.training.SAVE_SECONDS", -1.0)
        with pytest.raises(KeyboardInterrupt):
            medusa_core.add_task("depth", model=resumed, data=ROOMS, **OPTIONS)
        patch.setattr(HeadTraining, "losses", real)
        done = medusa_core.add_task("depth", model=resumed, data=ROOMS, resume=True, **OPTIONS)
    assert done["heads"]["depth"]["stopped_at"] == 5
    assert weights(straight) == weights(resumed)


def short_of_memory(monkeypatch, fits: int, error: type[Exception]):
    real = HeadTraining.losses

    def losses(self):
        if self.settings.batch > fits:
            raise error("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return real(self)

    monkeypatch.setattr(HeadTraining, "losses", losses)


ERRORS = [MemoryError, RuntimeError, torch.OutOfMemoryError]


@pytest.mark.parametrize("error", ERRORS)
def test_out_of_memory_names_the_batch(make_model, monkeypatch, error):
    short_of_memory(monkeypatch, 2, error)
    options = {**QUICK, "batch": 6}
    with pytest.raises(TrainingError, match=r"out of memory with --batch 6 at 64x64") as caught:
        medusa_core.add_task("depth", model=make_model(), data=ROOMS, **options)
    assert "--batch 3" in caught.value.hint
    assert "--batch auto" in caught.value.hint


@pytest.mark.parametrize("error", ERRORS)
def test_smaller_batches_are_tried_where_that_is_wanted(make_model, monkeypatch, error):
    small = make_model(folder="small")
    medusa_core.add_task("depth", model=small, data=ROOMS, **{**QUICK, "batch": 2})
    short_of_memory(monkeypatch, 2, error)
    model, options = make_model(), {**QUICK, "batch": 8, "smaller_batches": True}
    done = medusa_core.add_task("depth", model=model, data=ROOMS, **options)
    assert done["heads"]["depth"]["batch"] == 2
    assert weights(model) == weights(small)


def test_epochs_of_smaller_batches_are_as_long(make_model, monkeypatch):
    short_of_memory(monkeypatch, 2, MemoryError)
    options = {**QUICK, "batch": 8, "smaller_batches": True, "steps": None, "epochs": 4}
    options["limit"] = 24
    done = medusa_core.add_task("depth", model=make_model(), data=ROOMS, **options)
    head = done["heads"]["depth"]
    with ModelFolder.open(done["model"]) as folder:
        provenance = folder.heads["depth"].provenance
    assert head["batch"] == 2
    assert head["steps"] == provenance["steps"] == round(4 * provenance["images"] / 2)


def test_a_head_without_a_score_replaces_none(make_model, monkeypatch):
    model = make_model("depth")
    before = weights(model)
    with ModelFolder.open(model) as folder:
        old = folder.heads["depth"].metrics
    told = medusa_core.add_task("depth", model=model, data=ROOMS, replace=True, **QUICK)
    assert told["heads"]["depth"]["before"] == old
    now = weights(model)
    assert now != before
    figures = HeadTraining.figures
    monkeypatch.setattr(
        HeadTraining, "figures", lambda self: dict.fromkeys(figures(self), float("nan"))
    )
    with pytest.warns(MedusaWarning), pytest.raises(TrainingError, match="the one that is there"):
        medusa_core.add_task("depth", model=model, data=ROOMS, replace=True, seed=1, **QUICK)
    assert weights(model) == now


def test_a_folder_that_is_named_must_be_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for line in (["add-task", "depth", "--dry-run"], ["estimate", "depth"]):
        assert main([*line, "-m", "typing-error", "--data", ROOMS[0]]) == 1
        said = capsys.readouterr().err
        assert "There is no model folder at typing-error." in said
        assert "medusa init typing-error" in said
    assert list(tmp_path.iterdir()) == []


LINE = ["--data", ROOMS[0], "--limit", "6", "--size", "64x64", "--steps", "3", "--views", "2"]
LINE += ["--set", "head.width=4", "--set", "head.fused_width=8"]


def test_the_command_reports_what_failed_beside_what_was_added(make_model, monkeypatch, capsys):
    model = make_model()
    break_depth(monkeypatch, "crashes")
    line = ["add-task", "depth,edges", "-m", str(model), *LINE, "--batch", "2"]
    assert main([*line, "--json"]) == 1
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert list(document["heads"]) == ["edges"]
    assert "own mistake" in document["failed"]["depth"]["error"]
    assert "Error: Not added: depth: ZeroDivisionError" in captured.err
    assert main([*line, "--replace"]) == 1
    shown = capsys.readouterr().out
    assert "Next: medusa eval --tasks edges" in shown


def test_the_command_shrinks_batches_and_tells_the_room(make_model, monkeypatch, capsys):
    model = make_model()
    line = ["add-task", "depth,edges", "-m", str(model), *LINE, "--batch", "auto"]
    assert main(["--quiet", *line, "--dry-run"]) == 0
    assert "Features to be cached: " in capsys.readouterr().out
    short_of_memory(monkeypatch, 2, MemoryError)
    assert main([*line, "--json"]) == 0
    captured = capsys.readouterr()
    assert [head["batch"] for head in json.loads(captured.out)["heads"].values()] == [2, 2]
    assert "out of memory with --batch 8; starting again with 4" in captured.err
    assert main([*line[:-1], "none"]) == 2
    assert "neither auto nor a number from 1" in capsys.readouterr().err


def test_room_for_all_is_asked_for_before_any_work(make_model, monkeypatch, own_cache):
    """The second task has a larger data set, which cannot fit; the first would."""
    model, data = make_model(), ["depth=rooms:64x64", "edges=rooms:128x128"]
    options = {name: value for name, value in QUICK.items() if name != "size"}
    needed = [
        medusa_core.add_task(task, model=model, data=[bound], dry_run=True, **options)
        for task, bound in zip(("depth", "edges"), data, strict=True)
    ]
    small, large = (plan["cache"]["bytes"] for plan in needed)
    assert small < large
    monkeypatch.setenv("MEDUSA_CACHE_LIMIT", f"{(small + large) / 2e9:.9f}GB")
    with pytest.raises(StoreError, match="the cache may hold"):
        medusa_core.add_task(["depth", "edges"], model=model, data=data, **options)
    assert weights(model) == {}
    assert not own_cache.exists()


@pytest.mark.parametrize("damaged", [False, True])
def test_observers_are_told_that_a_head_was_replaced(make_model, monkeypatch, damaged):
    model, events = make_model("depth"), []
    if damaged:
        next((model / "heads" / "depth").glob("*/head.json")).write_bytes(b"damaged")
    monkeypatch.setattr(Host, "tell", lambda self, event: events.append(event))
    for options in ({"replace": True}, {"name": "other"}):
        medusa_core.add_task("depth", model=model, data=ROOMS, **options, **QUICK)
    assert [(event.name, event.replaced) for event in events] == [("depth", True), ("other", False)]


def test_data_that_are_named_twice_are_read_once(make_model):
    model = make_model()
    once, twice = (
        medusa_core.add_task("depth", model=model, data=data, dry_run=True, **QUICK)
        for data in (ROOMS, ROOMS * 2)
    )
    assert once["heads"] == twice["heads"]
