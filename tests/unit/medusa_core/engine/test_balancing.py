import json
import math

import pytest
import torch

from medusa_core.cli import _options
from medusa_core.engine.balancing import (
    BALANCES,
    DynamicAverage,
    Fixed,
    Uncertainty,
    make_balance,
)
from medusa_core.errors import UsageError

WEIGHTS = {"depth": 1.0, "edges": 50.0, "normals": 10.0}


def losses(*values):
    return {n: torch.tensor(v, requires_grad=True) for n, v in zip(WEIGHTS, values, strict=True)}


@pytest.mark.parametrize("name", BALANCES)
def test_weights_are_the_derivatives_of_the_sum(name):
    """So what is reported is what the networks feel."""
    balance = make_balance(name, WEIGHTS, 1)
    for step in range(4):
        balance.observe({n: 1.0 + step * i for i, n in enumerate(WEIGHTS)})
    given = losses(0.3, 0.2, 0.7)
    balance(given).backward()
    for task, weight in balance.weights().items():
        assert float(given[task].grad) == pytest.approx(weight)


@pytest.mark.parametrize("name", BALANCES)
def test_an_absent_task_changes_nothing_for_the_others(name):
    balance = make_balance(name, WEIGHTS, 2)
    whole, part = losses(0.3, 0.2, 0.7), losses(0.3, 0.2, 0.7)
    del part["edges"]
    balance(whole).backward()
    balance.zero_grad(set_to_none=True)
    balance(part).backward()
    for task, loss in part.items():
        assert torch.equal(loss.grad, whole[task].grad)
    absent = getattr(balance, "log_variances", [None, torch.zeros(())])[1]
    assert absent is None or absent.grad is None


def test_fixed_weights_are_those_of_the_specs():
    given = losses(0.3, 0.2, 0.7)
    total = Fixed(WEIGHTS)(given).detach()
    assert float(total) == pytest.approx(0.3 + 50 * 0.2 + 10 * 0.7)
    assert not list(Fixed(WEIGHTS).parameters())


def test_the_optimum_of_a_log_variance_is_the_log_of_the_loss():
    balance = Uncertainty(WEIGHTS)
    given = {"depth": 2.5, "edges": 0.04, "normals": 0.7}
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.1)
    for _ in range(600):
        optimizer.zero_grad()
        balance({n: torch.tensor(v) for n, v in given.items()}).backward()
        optimizer.step()
    found = balance.report()["log_variances"]
    for task, value in given.items():
        assert found[task] == pytest.approx(math.log(value), abs=1e-3)
        assert balance.weights()[task] == pytest.approx(0.5 / value, rel=1e-3)


def test_dwa_starts_equal_and_favours_what_falls_slower():
    balance = DynamicAverage(WEIGHTS, period=2)
    falls = {"depth": (4.0, 2.0, 2.0), "edges": (0.1, 0.09, 0.045), "normals": (3.0, 3.0, 6.0)}
    seen = []
    for epoch in range(3):
        for wobble in (-0.01, 0.01):
            seen.append(balance.multipliers())
            balance.observe({n: v[epoch] + wobble for n, v in falls.items()})
    seen.append(balance.multipliers())
    for multipliers in seen:
        assert sum(multipliers.values()) == pytest.approx(len(WEIGHTS))
    assert all(multipliers == dict.fromkeys(WEIGHTS, 1.0) for multipliers in seen[:4])
    ratios = {name: values[1] / values[0] for name, values in falls.items()}
    powers = {name: math.exp(ratio / 2) for name, ratio in ratios.items()}
    for name, value in seen[4].items():
        assert value == pytest.approx(3 * powers[name] / sum(powers.values()))
    assert seen[4]["depth"] < seen[4]["edges"] < seen[4]["normals"]
    assert seen[6]["edges"] < seen[6]["depth"] < seen[6]["normals"]
    assert balance.weights()["edges"] == pytest.approx(50 * seen[6]["edges"])


def test_dwa_averages_over_the_batches_that_have_a_task():
    balance = DynamicAverage({"depth": 1.0, "edges": 1.0}, period=3)
    for given in ({"depth": 1.0}, {"depth": 2.0, "edges": 8.0}, {"depth": 3.0}, {}, {}, {}):
        balance.observe(given)
    assert balance.past == {"depth": [2.0], "edges": [8.0]}


def test_losses_of_zero_or_beyond_exp_do_not_break_dwa():
    balance = DynamicAverage({"depth": 1.0, "edges": 1.0}, period=1)
    balance.observe({"depth": 0.0, "edges": 1e-12})
    balance.observe({"depth": 0.0, "edges": 1e6})
    assert all(math.isfinite(value) for value in balance.multipliers().values())


def test_dwa_goes_on_where_its_memory_was_taken():
    first, second = DynamicAverage(WEIGHTS, 3), DynamicAverage(WEIGHTS, 3)
    for step in range(11):
        if step == 7:
            second.restore(json.loads(json.dumps(first.state())))
        first.observe(dict.fromkeys(WEIGHTS, 1.0 / (1 + step)))
        if step >= 7:
            second.observe(dict.fromkeys(WEIGHTS, 1.0 / (1 + step)))
    assert first.state() == second.state()


def test_unknown_balances_are_refused():
    with pytest.raises(UsageError, match="fixed, uncertainty, dwa"):
        make_balance("gradnorm", WEIGHTS, 1)


def test_the_command_line_offers_them_all():
    assert _options.BALANCES == BALANCES
