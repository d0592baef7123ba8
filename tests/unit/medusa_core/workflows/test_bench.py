"""What `bench` reports: every part once, and figures that fit together."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medusa_core.errors import UnknownNameError, UsageError
from medusa_core.model.execution import Execution
from medusa_core.workflows.bench import bench, interleaved, peak_memory


@pytest.mark.parametrize("execution", [Execution(), Execution("plain")], ids=str)
def test_every_part_is_timed(make_model: Callable[..., Path], execution: Execution) -> None:
    """Heads may be called like the other rows."""
    path = make_model(backbone="depth", normals="normals")
    threads = torch.get_num_threads()
    found = bench(path, size=(64, 96), batch=2, rounds=3, threads=1, execution=execution)
    assert torch.get_num_threads() == threads
    assert [(row["kind"], row["part"]) for row in found["rows"]] == [
        ("backbone", "backbone"),
        ("head", "backbone"),
        ("head", "normals"),
        ("all", "backbone and heads"),
        ("all", "with resampling"),
    ]
    for row in found["rows"]:
        assert 0 < row["lowest_ms"] <= row["ms"] <= row["highest_ms"]
        assert row["images_per_second"] == pytest.approx(2000 / row["ms"])
    assert found["rows"][0]["of_backbone"] == 1
    assert found["size"] == [64, 96]
    assert found["execution"] == str(execution)


@pytest.mark.skipif(sys.platform != "linux", reason="counted in other units there")
def test_a_megabyte_of_memory_is_a_million_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(ru_maxrss=2_000_000)  # KiB
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    assert peak_memory(torch.device("cpu")) == pytest.approx(2048)


def test_only_what_is_asked_for_is_timed(make_model: Callable[..., Path]) -> None:
    found = bench(make_model("depth", "normals"), tasks=["normals"], rounds=1)
    assert [row["part"] for row in found["rows"] if row["kind"] == "head"] == ["normals"]
    assert found["size"] == [64, 96]  # of its training


def test_what_is_not_there_cannot_be_timed(make_model: Callable[..., Path]) -> None:
    with pytest.raises(UnknownNameError):
        bench(make_model("depth"), tasks=["normals"])
    with pytest.raises(UsageError, match="no heads"):
        bench(make_model(folder="empty"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"batch": 0}, "--batch 0"),
        ({"rounds": 0}, "--rounds 0"),
        ({"threads": 0}, "--threads 0"),
        ({"size": (64, 5)}, "--size 64x5"),
    ],
)
def test_nothing_is_no_measurement(
    make_model: Callable[..., Path], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        bench(make_model("depth"), **options)


def test_runs_take_turns_and_warm_up_before_each() -> None:
    calls: list[str] = []
    runs = {name: (lambda name=name: calls.append(name)) for name in ("a", "b")}
    ticks = iter(range(1000))
    found = interleaved(runs, 3, lambda: float(next(ticks)))
    assert calls == ["a", "a", "b", "b"] * 5  # two rounds to warm up
    assert found == {"a": [1.0] * 3, "b": [1.0] * 3}
