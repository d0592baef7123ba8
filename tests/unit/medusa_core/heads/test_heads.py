"""Every head architecture, through the host, as a plugin's would be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from medusa_core.api import FeatureInfo, HeadRef
from medusa_core.errors import UnknownNameError, UsageError
from medusa_core.heads.base import Head
from medusa_core.heads.blocks import (
    FeatureAttention,
    ScaleFusion,
    _weighted_sum,
    _WeightedSum,
    resample,
)
from medusa_core.heads.medusa import MedusaHead, level_widths
from medusa_core.model.assembly import complete_head_ref, make_head
from medusa_core.plugin_host import default_host

HEADS = ("constant", "hypercolumn", "linear", "medusa")
INFOS = {
    "cnn": FeatureInfo((24, 32, 96, 320), (4, 8, 16, 32)),
    "odd": FeatureInfo((3, 7, 5, 11), (4, 8, 16, 32)),
    "one": FeatureInfo((1, 1, 1, 1), (4, 8, 16, 32)),
    "vit": FeatureInfo((64, 64, 64, 64), (4, 8, 16, 32)),
    "two": FeatureInfo((9, 13), (8, 16)),
}
SIZES = ((64, 96), (32, 32), (160, 224))
ODD = FeatureInfo((6, 10, 14, 18), (4, 8, 16, 32))


def _head(
    name: str, info: FeatureInfo = ODD, channels: int = 3, seed: int = 0, **config: Any
) -> Head:
    torch.manual_seed(seed)
    return make_head(default_host(), HeadRef(name=name, config=config), info, channels)


def _features(
    info: FeatureInfo = ODD, size: tuple[int, int] = (64, 96), batch: int = 2, seed: int = 0
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, c, size[0] // s, size[1] // s, generator=generator)
        for c, s in zip(info.channels, info.strides, strict=True)
    ]


def _woken(head: Head) -> Head:
    """Parameters that start at zero moved away from it, as training would."""
    torch.manual_seed(99)
    with torch.no_grad():
        for parameter in head.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return head


def _settled(head: Head) -> Head:
    """In eval mode, with parameters and BatchNorm statistics of some training."""
    _woken(head).train()
    for seed in range(3):
        head.training_outputs(_features(seed=seed))
    return head.eval()


def test_these_are_the_registered_ones() -> None:
    provided = [e for e in default_host().heads if e.provider.distribution == "medusa-heads"]
    assert tuple(entry.spec.name for entry in provided) == HEADS


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("info", INFOS.values(), ids=INFOS)
@pytest.mark.parametrize("size", SIZES)
def test_shapes(name: str, info: FeatureInfo, size: tuple[int, int]) -> None:
    head = _head(name, info, 5).eval()
    level = -1 if name in {"constant", "linear"} else 0
    stride = info.strides[level]
    output = head(_features(info, size))
    assert tuple(output.shape) == (2, 5, size[0] // stride, size[1] // stride)
    assert output.dtype == torch.float32
    assert output.isfinite().all()


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("maps", [[(9, 12), (5, 6), (3, 3), (2, 2)], [(1, 1)] * 4])
def test_maps_of_odd_sizes(name: str, maps: Sequence[tuple[int, int]]) -> None:
    features = [torch.randn(2, c, *m) for c, m in zip(ODD.channels, maps, strict=True)]
    head = _head(name).train()
    assert tuple(head(features).shape[-2:]) in maps


@pytest.mark.parametrize("name", HEADS)
def test_the_same_seed_gives_the_same_head(name: str) -> None:
    one, same, other = _head(name, seed=1), _head(name, seed=1), _head(name, seed=2)
    assert all(torch.equal(t, same.state_dict()[k]) for k, t in one.state_dict().items())
    features = _features()
    assert torch.equal(one.eval()(features), same.eval()(features))
    assert torch.equal(one(features), one(features))
    if name != "constant":
        assert not torch.equal(one(features), other.eval()(features))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        *((name, {}) for name in HEADS),
        ("medusa", {"deep_supervision": 0.5}),
        ("medusa", {"context": True, "fused_refinement": 2}),
    ],
    ids=str,
)
def test_every_parameter_gets_a_gradient(name: str, config: dict[str, Any]) -> None:
    head = _woken(_head(name, **config)).train()
    outputs = head.training_outputs(_features())
    sum(weight * output.square().mean() for weight, output in outputs).backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0, key


@pytest.mark.parametrize("name", HEADS)
def test_the_shared_features_are_left_alone(name: str) -> None:
    features = [level.requires_grad_() for level in _features()]
    copies = [level.detach().clone() for level in features]
    head = _head(name).train()
    head.training_outputs(features)
    head.eval()(features)
    assert all(torch.equal(a, b) for a, b in zip(features, copies, strict=True))
    assert all(level._version == 0 for level in features)


@pytest.mark.parametrize("name", HEADS)
def test_in_evaluation_an_image_does_not_see_its_batch(name: str) -> None:
    head = _settled(_head(name))
    features = _features(batch=3)
    together = head(features)
    for i in range(3):
        alone = head([level[i : i + 1] for level in features])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)
    before = {k: t.clone() for k, t in head.state_dict().items()}
    head(features)
    assert all(torch.equal(t, before[k]) for k, t in head.state_dict().items())


@pytest.mark.parametrize("name", HEADS)
def test_a_state_dict_comes_back_bit_by_bit(name: str) -> None:
    head = _settled(_head(name))
    other = _head(name, seed=5).eval()
    other.load_state_dict(head.state_dict())
    assert torch.equal(head(_features()), other(_features()))


@pytest.mark.parametrize("name", HEADS)
def test_the_main_prediction_is_the_one_that_forward_gives(name: str) -> None:
    config = {"deep_supervision": 0.5} if name == "medusa" else {}
    head = _settled(_head(name, **config))
    outputs = head.training_outputs(_features())
    assert outputs[0][0] == 1.0
    assert torch.equal(outputs[0][1], head(_features()))
    assert all(output.shape[:2] == (2, 3) for _, output in outputs)


# ---- against the equations -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["attention", "sum"])
def test_scale_fusion_is_the_formula(kind: str) -> None:
    """`G = Σ_s softmax_s(w_s · up(F_s)) ⊙ P_s up(F_s)`, upsampled first, no shortcuts."""
    torch.manual_seed(0)
    widths = (4, 6, 9, 5)
    fuse = ScaleFusion(widths, 7, kind)
    features, raised = _levels_of(widths)
    projected = [project(x) for project, x in zip(fuse.project, raised, strict=True)]
    total = sum(x[:, 6:].exp() for x in projected)
    weights = [x[:, 6:].exp() / total if kind == "attention" else 1.0 for x in projected]
    expected = sum(w * x for w, x in zip(weights, projected, strict=True))
    torch.testing.assert_close(fuse(features), expected, rtol=1e-5, atol=1e-5)


def test_weighting_levels_has_the_gradient_of_its_formula() -> None:
    torch.manual_seed(0)
    levels = [torch.randn(2, 5, 3, 4, dtype=torch.double, requires_grad=True) for _ in range(4)]
    assert torch.autograd.gradcheck(_WeightedSum.apply, tuple(levels))
    assert torch.equal(_WeightedSum.apply(*levels), _weighted_sum(levels)[0])


def test_summing_levels_is_a_convolution_of_their_concatenation() -> None:
    torch.manual_seed(0)
    widths = (4, 6, 9, 5)
    features, raised = _levels_of(widths)
    fuse = ScaleFusion(widths, 7, "sum")
    whole = ScaleFusion(widths, 7, "concatenation")
    assert whole.outputs == sum(widths)
    assert torch.equal(whole(features), torch.cat(raised, dim=1))
    weight = torch.cat([p.weight for p in fuse.project], dim=1)
    bias = sum(p.bias for p in fuse.project)
    torch.testing.assert_close(
        fuse(features), F.conv2d(whole(features), weight, bias), rtol=1e-5, atol=1e-5
    )


def _levels_of(widths: tuple[int, ...]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    maps = [(12, 20), (6, 10), (3, 5), (2, 3)]
    features = [torch.randn(2, w, *m) for w, m in zip(widths, maps, strict=True)]
    raised = [
        F.interpolate(f, size=maps[0], mode="bilinear", align_corners=False) for f in features
    ]
    return features, raised


@pytest.mark.parametrize("kind", ["both", "spatial", "channel"])
def test_feature_attention_is_the_formula(kind: str) -> None:
    torch.manual_seed(0)
    attend = FeatureAttention(5, 8, kind)
    for _ in range(3):
        attend(torch.randn(4, 5, 6, 7))
    attend.eval()
    x = torch.randn(2, 5, 6, 7)
    assert attend.mask is not None
    mask = attend.mask(x)
    shapes = {"both": (2, 8, 6, 7), "spatial": (2, 1, 6, 7), "channel": (2, 8, 1, 1)}
    assert mask.shape == shapes[kind]
    torch.testing.assert_close(attend(x), torch.sigmoid(mask) * F.relu(attend.value(x)))
    plain = FeatureAttention(5, 8, "none").eval()
    torch.testing.assert_close(plain(x), F.relu(plain.value(x)))


def test_the_top_down_path_carries_coarse_levels_to_fine_ones() -> None:
    """A change of the coarsest level reaches the finest refined level with it, not without."""
    features = _features()
    changed = [*features[:-1], features[-1] + 1]
    for top_down in (True, False):
        head = _settled(_head("medusa", top_down=top_down))
        with torch.no_grad():
            before, after = head._levels(features), head._levels(changed)
        assert torch.equal(before[0], after[0]) is not top_down
        assert not torch.equal(before[-1], after[-1])


def test_context_adds_a_projection_of_the_mean_of_the_coarsest_level() -> None:
    features = _features()
    head = _settled(_head("medusa", context=True))
    assert isinstance(head, MedusaHead)
    assert head.context is not None
    levels = head._levels(features)
    mean = levels[-1].flatten(2).mean(dim=2)
    everywhere = (mean @ head.context.weight.flatten(1).T)[..., None, None]
    expected = head.predict(F.relu(head.norm(head.fuse(levels)) + everywhere))
    torch.testing.assert_close(head(features), expected, rtol=1e-4, atol=1e-5)


def test_context_carries_a_change_to_every_place_of_the_prediction() -> None:
    """A cell of the coarsest level moves the opposite corner with it, and not without."""
    features = _features(size=(256, 320))
    changed = [*features[:-1], features[-1].clone()]
    changed[-1][..., 0, 0] += 1
    for context in (True, False):
        head = _settled(_head("medusa", context=context))
        with torch.no_grad():
            moved = head(changed) - head(features)
        assert bool(moved[..., -8:, -8:].any()) == context


def test_the_fused_feature_is_refined() -> None:
    """Two separable 3×3 convolutions see what is two cells away, a 1×1 does not."""
    for convolutions, reach in ((0, 0), (1, 1), (2, 2)):
        head = _settled(_head("medusa", fused_refinement=convolutions))
        assert isinstance(head, MedusaHead)
        fused = torch.rand(1, head.fuse.outputs, 9, 9, requires_grad=True)
        refined = fused if head.refine_fused is None else head.refine_fused(fused)
        head.predict(refined)[..., 4, 4].sum().backward()
        assert fused.grad is not None
        rows = fused.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
        assert (rows.min(), rows.max()) == (4 - reach, 4 + reach)


def test_a_new_head_refines_nothing_and_passes_nothing_down() -> None:
    """Residuals, top-down path and context start at zero; so one step from there moves them."""
    head = _head("medusa", fused_refinement=2, context=True).eval()
    assert isinstance(head, MedusaHead)
    assert head.refine_fused is not None
    assert head.context is not None
    assert not head.context.weight.any()
    fused = torch.rand(1, head.fuse.outputs, 4, 5)
    assert torch.equal(head.refine_fused(fused), fused)
    features = _features()
    attended = [attend(x) for attend, x in zip(head.attend, features, strict=True)]
    for level, feature in zip(head._levels(features), attended, strict=True):
        assert torch.equal(level, feature)
    head(features).square().mean().backward()
    starts = [p for p in head.parameters() if not p.any()]
    assert any(p.grad is not None and p.grad.any() for p in starts)


def test_the_shortcut_adds_a_linear_probe_of_all_levels() -> None:
    """With it, prediction = prediction without + linear maps, resampled from level to level."""
    features = _features()
    both = _settled(_head("medusa", shortcut=True))
    assert isinstance(both, MedusaHead)
    assert both.shortcut is not None
    alone = _head("medusa")
    alone.load_state_dict(
        {k: t for k, t in both.state_dict().items() if not k.startswith("shortcut")}
    )
    linear = torch.zeros(())
    for x, read in reversed(list(zip(features, both.shortcut, strict=True))):
        mapped = F.conv2d(x, read.weight)
        linear = mapped + (resample(linear, x.shape[-2:]) if linear.ndim else 0)
    with torch.no_grad():
        expected = alone.eval()(features) + linear
        torch.testing.assert_close(both(features), expected, rtol=1e-4, atol=1e-5)


def test_the_hypercolumn_is_one_linear_map_of_all_levels() -> None:
    head = _settled(_head("hypercolumn"))
    features = _features()
    stacked = torch.cat(
        [resample(n(f), (16, 24)) for n, f in zip(head.norm, features, strict=True)], dim=1
    )
    weight = torch.cat([p.weight for p in head.predict], dim=1)
    bias = sum(p.bias for p in head.predict if p.bias is not None)
    torch.testing.assert_close(
        head(features), F.conv2d(stacked, weight, bias), rtol=1e-4, atol=1e-5
    )


def test_the_constant_head_is_blind() -> None:
    head = _head("constant")
    with torch.no_grad():
        head.value.copy_(torch.tensor([1.0, -2.0, 3.0]))
    output = head(_features())
    assert torch.equal(output, torch.tensor([1.0, -2.0, 3.0]).view(1, 3, 1, 1).expand_as(output))


def test_resampling_to_the_same_size_copies_nothing() -> None:
    level = torch.randn(1, 2, 3, 4)
    assert resample(level, (3, 4)) is level


# ---- settings --------------------------------------------------------------------------------

OTHER = {
    "width": 16,
    "fused_width": 24,
    "subpixel": 2,
    "deep_supervision": 0.5,
    "feature_attention": "spatial",
    "top_down": False,
    "refinement": "full",
    "scale_attention": "concatenation",
    "context": True,
    "fused_refinement": 1,
    "shortcut": True,
}


def test_every_setting_is_tested() -> None:
    spec = default_host().heads.get("medusa")
    fields = default_host().config_model(spec).model_fields
    assert set(fields) == set(OTHER)


@pytest.mark.parametrize("field", OTHER)
def test_every_setting_changes_something(field: str) -> None:
    plain = _head("medusa", INFOS["cnn"])
    changed = _head("medusa", INFOS["cnn"], **{field: OTHER[field]})
    assert {k: t.shape for k, t in plain.state_dict().items()} != {
        k: t.shape for k, t in changed.state_dict().items()
    }


def test_switches_change_the_output_of_the_same_weights() -> None:
    features = _features()
    full = _settled(_head("medusa"))
    off = {"feature_attention": "none", "refinement": "none", "top_down": False}
    for field, value in off.items():
        reduced = _head("medusa", **{field: value})
        state = {k: t for k, t in full.state_dict().items() if k in reduced.state_dict()}
        reduced.load_state_dict(state)
        assert not torch.allclose(reduced.eval()(features), full(features))


def test_deep_supervision_weighs_each_level_alike() -> None:
    head = _head("medusa", deep_supervision=0.5).train()
    weights = [weight for weight, _ in head.training_outputs(_features())]
    assert weights == [1.0, *[0.125] * 4]
    assert isinstance(head, MedusaHead)
    assert head.level_predict is not None


def test_widths_grow_with_the_stride() -> None:
    widths = level_widths(INFOS["cnn"], 16)
    assert widths[0] == 16
    assert list(widths) == sorted(widths)
    assert max(widths) <= 128


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        ({"wdith": 3}, ["head.wdith: Extra inputs"]),
        ({"width": 0, "refinement": "maybe"}, ["head.width: ", "head.refinement: "]),
        ({"width": "many"}, ["head.width: "]),
        ({"deep_supervision": "nan"}, ["head.deep_supervision"]),
    ],
)
def test_a_setting_that_does_not_fit_is_named(
    settings: dict[str, Any], problems: list[str]
) -> None:
    host = default_host()
    with pytest.raises(UsageError, match="Settings of head 'medusa'") as caught:
        complete_head_ref(host, host.tasks.get("depth"), "medusa", settings)
    assert all(problem in caught.value.message for problem in problems)
    assert caught.value.hint == f"Its settings: {', '.join(OTHER)}."


def test_settings_are_completed_and_converted() -> None:
    host = default_host()
    ref = complete_head_ref(host, host.tasks.get("depth"), None, {"width": "48"})
    assert ref.name == "medusa"
    assert ref.config["width"] == 48
    assert set(ref.config) == set(OTHER)
    assert complete_head_ref(host, host.tasks.get("depth"), "linear", {}).config == {}
    with pytest.raises(UsageError, match="head.width") as caught:
        complete_head_ref(host, host.tasks.get("depth"), "linear", {"width": 3})
    assert caught.value.hint == "Its settings: none."
    with pytest.raises(UnknownNameError, match="Did you mean 'linear'"):
        complete_head_ref(host, host.tasks.get("depth"), "linaer", {})
