import copy
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from medusa_core.backbones import timm_backbone
from medusa_core.backbones.pretrained import load_weights
from medusa_core.backbones.unfold import has_folded_norms, unfold_norms

NETS = ["test_efficientnet", "test_resnet"]


def folded(net="test_efficientnet", seed=0):
    """A network as it comes with folded norms: mean 0, variance 1, scale and shift in the rest."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        backbone = timm_backbone.build(timm_backbone.describe(net)).eval()
        for norm in norms(backbone):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
    return backbone


def norms(backbone):
    return [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]


def images(count=6, size=64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=generator)


@torch.no_grad()
def relative_error(first, second, batch):
    pairs = zip(first(batch), second(batch), strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("net", [*NETS, "test_convnext"])
def test_fresh_networks_are_not_taken_for_folded_ones(net):
    assert not has_folded_norms(timm_backbone.build(timm_backbone.describe(net)))


def test_used_norms_are_not_folded_ones():
    backbone = timm_backbone.build(timm_backbone.describe("test_resnet"))
    backbone.train()(images())
    assert not has_folded_norms(backbone)


@pytest.mark.parametrize("net", NETS)
def test_unfolding_changes_no_output(net):
    before = folded(net)
    after = copy.deepcopy(before)
    assert has_folded_norms(before)
    assert unfold_norms(after, images().split(2)) == len(norms(after))
    assert not has_folded_norms(after)
    assert not after.training
    assert relative_error(after, before, images(seed=2)) < 1e-5


@pytest.mark.parametrize("net", NETS)
def test_training_mode_then_computes_the_same_on_these_images(net):
    """Without unfolding it computes something else: that is what unfolding is for."""
    before = folded(net)
    after = copy.deepcopy(before)
    unfold_norms(after, images().split(2))
    assert relative_error(after.train(), before, images()) < 1e-3
    assert relative_error(copy.deepcopy(before).train(), before, images()) > 0.1


def test_statistics_are_those_of_the_whole_set_however_it_is_split():
    whole, parts = folded(), folded()
    unfold_norms(whole, [images()])
    unfold_norms(parts, images().split(4))
    for a, b in zip(norms(whole), norms(parts), strict=True):
        torch.testing.assert_close(a.running_mean, b.running_mean)
        torch.testing.assert_close(a.running_var, b.running_var)
    first = []
    norms(whole)[0].register_forward_pre_hook(lambda m, inputs: first.append(inputs[0]))
    with torch.no_grad():
        whole.eval()(images())
    torch.testing.assert_close(norms(whole)[0].running_mean, first[0].mean(dim=(0, 2, 3)))
    wanted = first[0].var(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(norms(whole)[0].running_var, wanted)


def test_channels_that_never_vary_stay_what_they_are():
    """A dead channel has variance 0; its scale is then √eps, not a division by zero."""
    before = folded()
    norm = norms(before)[1]
    first = next(m for m in before.modules() if isinstance(m, nn.Conv2d))
    nn.init.zeros_(first.weight[0])
    after = copy.deepcopy(before)
    unfold_norms(after, [images()])
    assert relative_error(after, before, images(seed=3)) < 1e-5
    assert all(bool(torch.isfinite(v).all()) for v in after.state_dict().values())
    assert norm is not norms(after)[1]
    after.train()(images())[-1].sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in after.parameters() if p.grad is not None)


def test_without_images_nothing_changes():
    backbone = folded()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    assert unfold_norms(backbone, []) == 0
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.skipif("MEDUSA_REAL_DATA" not in os.environ, reason="needs the published weights")
def test_unfolding_published_weights_changes_no_output():
    from safetensors.torch import load_file

    file = Path(os.environ["MEDUSA_REAL_DATA"]) / "weights/mobilenetv2_100.features.safetensors"
    before = timm_backbone.build(timm_backbone.describe("mobilenetv2_100")).eval()
    load_weights(before, load_file(file), str(file))
    assert has_folded_norms(before)
    after = copy.deepcopy(before)
    unfold_norms(after, [images(8, 96)])
    assert relative_error(after, before, images(2, 96, seed=2)) < 1e-5
