from itertools import islice

import pytest

from medusa_core.engine.schedule import WARM_UP, batches, one_cycle


@pytest.mark.parametrize("steps", [1, 2, 5, 100, 1001])
def test_one_cycle_rises_then_falls(steps):
    rates = [one_cycle(step, steps, 0.5) for step in range(steps)]
    assert all(0 < rate <= 0.5 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    if steps >= 100:
        assert abs(top / steps - WARM_UP) < 0.02
        assert max(rates) > 0.499
        assert rates[0] < 0.03
        assert rates[-1] < 0.001


def test_every_sample_once_an_epoch_in_any_view():
    samples, views = [3, 5, 6, 11], 3
    rows = [row for batch in islice(batches(samples, views, 2, 0), 60) for row in batch]
    for epoch in range(0, len(rows), 4):
        assert sorted(row // views for row in rows[epoch : epoch + 4]) == samples
    assert {row % views for row in rows} == {0, 1, 2}
    assert len({tuple(rows[i : i + 4]) for i in range(0, len(rows), 4)}) > 20


@pytest.mark.parametrize("batch", [1, 3, 4, 9])
def test_batches_are_full_and_depend_on_the_arguments_alone(batch):
    first = list(islice(batches([0, 1, 2, 3], 2, batch, 7), 12))
    assert all(len(rows) == batch for rows in first)
    assert first == list(islice(batches([0, 1, 2, 3], 2, batch, 7), 12))
    assert first != list(islice(batches([0, 1, 2, 3], 2, batch, 8), 12))
    late = batches([0, 1, 2, 3], 2, batch, 7)
    for _ in range(5):
        next(late)
    assert list(islice(late, 7)) == first[5:]
