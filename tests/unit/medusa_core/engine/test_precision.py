import pytest
import torch
from torch import nn

from medusa_core.cli import _options
from medusa_core.engine.precision import (
    MAX_GRADIENT,
    TRAINING_PRECISIONS,
    Precision,
    check_cuda_graphs,
    check_precision,
)
from medusa_core.errors import UsageError


def test_fp16_is_refused_off_cuda():
    with pytest.raises(UsageError, match="fp16 on cpu: float16 gradients underflow") as caught:
        check_precision("fp16", "cpu")
    assert "bf16" in caught.value.hint


def test_unknown_precisions_are_refused():
    with pytest.raises(UsageError, match="fp32, bf16, fp16"):
        check_precision("fp8", "cpu")


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_networks_run_in_the_chosen_format(name, dtype):
    layer = nn.Linear(3, 2)
    with Precision(name, torch.device("cpu")).predicting():
        assert layer(torch.ones(1, 3)).dtype == dtype
    assert layer.weight.dtype == torch.float32


def test_gradients_are_clipped():
    weight = nn.Parameter(torch.zeros(4))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    Precision("fp32", torch.device("cpu")).backward_and_step(
        (100 * weight).sum(), optimizer, [weight]
    )
    assert float(weight.detach().norm()) == pytest.approx(MAX_GRADIENT, rel=1e-4)


@pytest.mark.parametrize(
    ("device", "precision"),
    [("cpu", "fp32"), ("mps", "fp32"), ("cuda", "bf16"), ("cuda:1", "fp16")],
)
def test_recording_is_refused_where_there_is_nothing_to_record(device, precision):
    with pytest.raises(UsageError, match="--cuda-graphs with --device"):
        check_cuda_graphs(device, precision)
    check_cuda_graphs("cuda:1", "fp32")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_float16_step_is_that_of_float32():
    weights = []
    for name in ("fp32", "fp16"):
        weight = nn.Parameter(torch.ones(4, device="cuda"))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        precision = Precision(name, torch.device("cuda"))
        precision.backward_and_step((0.25 * weight).sum(), optimizer, [weight])
        weights.append(weight.detach().cpu())
    torch.testing.assert_close(*weights)
    assert precision.state()["scale"] > 0


def test_the_command_line_offers_them_all():
    assert _options.TRAINING_PRECISIONS == TRAINING_PRECISIONS
