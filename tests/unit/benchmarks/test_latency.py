"""The latency benchmark: its rows, and ratios that are of the round."""

from __future__ import annotations

import pytest
import torch

from benchmarks import latency, profile_ops


def test_quartiles() -> None:
    assert latency.spread([5.0, 1.0, 3.0, 2.0, 4.0, 6.0, 8.0, 7.0]) == [3.0, 6.0]
    assert latency.spread([2.0]) == [2.0, 2.0]


def test_the_table_has_a_row_a_network() -> None:
    row = {"network": "n", "ms": 10.0, "of_backbone": 1.5, "spread": [1.4, 1.6], "lowest": 1.45}
    result = {
        "command": "c",
        "backbone": "b",
        "size": [2, 3],
        "rounds": 4,
        "machine": "m",
        "versions": {"torch": "2"},
        "rows": [row],
    }
    assert "| n | 10.0 | 1.50 | 1.40–1.60 | 1.45 |" in latency.table(result)


def test_operations_are_told_apart_by_shape() -> None:
    x, y = torch.ones(2, 3), torch.ones(4)
    rows = profile_ops.profile(lambda: (x + x, x + x, y + y, y.relu()), lambda: None)
    found = {(name, shapes): calls for name, shapes, calls, *_ in rows}
    assert found["add", "2×3 2×3"] == 2
    assert found["add", "4 4"] == 1
    assert found["relu", "4"] == 1
    assert [row[3] for row in rows] == sorted((row[3] for row in rows), reverse=True)


def test_bytes_are_those_of_the_tensors_that_are_read_and_written() -> None:
    x = torch.ones(10, 8)
    steps = {"add": lambda: x + x[:, :1], "t": x.t, "mm": lambda: x @ x.T, "relu_": x.relu_}
    found: dict[str, int] = {}
    for step in steps.values():
        for name, _, _, _, moved in profile_ops.profile(step, lambda: None):
            found[name] = found.get(name, 0) + moved
    assert {name: found[name] for name in steps} == {
        "add": 4 * (80 + 10 + 80),
        "t": 0,
        "mm": 4 * (80 + 80 + 100),
        "relu_": 4 * 2 * 80,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_the_quick_form_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small backbone and a small image; `.ci/run` runs the real one."""
    from click.testing import CliRunner

    monkeypatch.setattr(latency, "BACKBONE", "test_resnet")
    monkeypatch.setattr(latency, "TIMED_SIZE", (64, 64))
    monkeypatch.setattr(latency, "MANY", 2)
    flushed = torch.get_num_threads()
    done = CliRunner().invoke(latency.main, ["--quick", "--backbone", name])
    torch.set_flush_denormal(False)
    assert done.exit_code == 0, done.output
    assert "| Medusa, 6 tasks |" in done.output
    assert ("| MTI-Net, 6 tasks |" in done.output) == (name == "test_resnet")
    assert torch.get_num_threads() == flushed
