"""A recording gives the bits of what was recorded, or there is none."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable, Sequence
from itertools import chain, combinations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from medusa_core.api import FeatureInfo, HeadRef
from medusa_core.backbones.timm_backbone import build, describe
from medusa_core.heads.base import Head
from medusa_core.model import recorded_calls, recording
from medusa_core.model.assembly import make_head
from medusa_core.model.inference import prepare
from medusa_core.model.recorded_calls import Network
from medusa_core.model.recording import Desk, recorded
from medusa_core.plugin_host import default_host

INFO = FeatureInfo((16, 40, 64, 144), (4, 8, 16, 32))
ARCHITECTURES: list[tuple[str, dict[str, Any]]] = [
    ("medusa", {}),
    ("medusa", {"shortcut": True, "subpixel": 2}),
    ("medusa", {"context": True, "fused_refinement": 2}),
    ("medusa", {"scale_attention": "concatenation", "refinement": "full"}),
    ("medusa", {"scale_attention": "sum", "feature_attention": "channel"}),
    ("linear", {}),
    ("hypercolumn", {}),
]


def _features(size: tuple[int, int] = (64, 96), batch: int = 1, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(batch, c, size[0] // s, size[1] // s, generator=generator).contiguous(
            memory_format=torch.channels_last
        )
        for c, s in zip(INFO.channels, INFO.strides, strict=True)
    ]


def _head(name: str = "medusa", settings: dict[str, Any] | None = None) -> Head:
    """Prepared; no parameter is what it begins with."""
    torch.manual_seed(0)
    head = make_head(default_host(), HeadRef(name=name, config=settings or {}), INFO, 3)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.2)
    fast = prepare(head.eval())
    assert isinstance(fast, Head)
    return fast


def _network(head: Callable[[list[Tensor]], Tensor]) -> Network:
    return lambda features: [head(list(features))]


def _on(desk: Desk, network: Network, features: Sequence[Tensor]) -> Tensor | None:
    with desk.holding(features) as held:
        results = desk.run(network) if held else None
    return results and results[0]


@pytest.mark.parametrize(("name", "settings"), ARCHITECTURES, ids=str)
@torch.no_grad()
def test_recorded_heads_give_the_same_bits(name: str, settings: dict[str, Any]) -> None:
    head, desk = _head(name, settings), Desk()
    network = _network(head)
    for size, batch in [((64, 96), 1), ((32, 32), 3)]:
        for seed in range(4):
            features = _features(size, batch, seed)
            found = _on(desk, network, features)
            assert (found is None) == (seed == 0)
            assert found is None or torch.equal(found, head(features))


@torch.no_grad()
def test_heads_on_one_desk_do_not_see_each_other() -> None:
    heads = [_head(*architecture) for architecture in ARCHITECTURES]
    networks = [_network(head) for head in heads]
    desk = Desk()
    for seed in range(3):
        features = _features(seed=seed)
        order = networks if seed % 2 else networks[::-1]
        with desk.holding(features) as held:
            found = {network: desk.run(network) for network in order} if held else {}
        for network, head in zip(networks, heads, strict=True):
            result = found.get(network)
            assert seed == 0 or (result is not None and torch.equal(result[0], head(features)))


@torch.no_grad()
def test_several_results_are_recorded_together() -> None:
    desk, features = Desk(), _features()

    def network(levels: Sequence[Tensor]) -> list[Tensor]:
        double = levels[0] * 2
        return [double[:, :1], double + 1, levels[1].sum()]

    for _ in range(2):
        with desk.holding(features) as held:
            found = desk.run(network) if held else None
    assert found is not None
    assert all(torch.equal(a, b) for a, b in zip(found, network(features), strict=True))


def test_results_stay_when_the_next_image_comes() -> None:
    desk, network = Desk(), _network(_head())
    _on(desk, network, _features())
    first = _on(desk, network, _features(seed=1))
    assert first is not None
    before = first.clone()
    _on(desk, network, _features(seed=2))
    assert torch.equal(first, before)


def test_recordings_made_in_inference_mode_serve_outside_of_it_too() -> None:
    desk, network = Desk(), _network(_head())
    with torch.inference_mode():
        _on(desk, network, _features())
        first = _on(desk, network, _features())
    with torch.no_grad():
        second = _on(desk, network, _features())
    assert first is not None
    assert second is not None
    assert torch.equal(first, second)


class _Odd(nn.Module):
    """Does something on the way."""

    def __init__(self, does: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.register_buffer("state", torch.ones(1))
        self.does = does

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        return [self.does(features[0], self.state)]


@pytest.mark.parametrize(
    "does",
    [
        lambda x, _: x * float(x.mean()),
        lambda x, _: x * 2 if x.mean() > 0 else x * 3,
        lambda x, _: x[x > 0].sum() * x,
        lambda x, _: x + torch.rand_like(x),
        lambda x, _: torch.dropout(x, 0.5, train=True),
        lambda x, _: x.mul_(2) + 1,
        lambda x, _: torch.add(x, 1, out=x) * 2,
        lambda x, state: x * state.add_(1),
        lambda x, _: x,
        lambda x, _: x[:, :1],
        lambda _, state: state,
        lambda x, _: (x * 2, x * 3),
        lambda x, _: x.to_sparse().to_dense(),
        lambda x, _: x * float("nan"),
        lambda x, _: x + torch.tensor(x.mean().tolist()),
        lambda x, _: x * torch.tensor([x.mean(), x.std()]).sum(),
        lambda x, _: x + torch.as_tensor(x.numpy().max()),
        lambda x, _: (torch.fft.fft(x).conj() * 1j).imag * 1,
    ],
)
@torch.no_grad()
def test_what_cannot_be_repeated_is_not_recorded(does: Any) -> None:
    features = _features()
    assert recorded(_Odd(does), features) is None


@pytest.mark.parametrize(
    "does",
    [
        lambda x, state: (x * state).relu_().transpose(2, 3),
        lambda x, state: x.clone().add_(state).mul_(2)[:, 1:3],
        lambda x, _: torch.cat([part * 2 for part in x.chunk(2, dim=1)], dim=1),
        lambda x, _: torch.stack(list((x + 1).unbind(1))).sum(0),
        lambda x, _: torch.empty_like(x).copy_(x).exp(),
        lambda x, _: torch.mul(x, 2, out=torch.empty_like(x)),
        lambda x, _: x.new_zeros(x.shape).index_add_(1, torch.arange(16), x * 2),
        lambda x, _: (x + 1).sort(dim=1).values,
        lambda x, _: (x * 2).double(),
        lambda x, _: (x + 1).expand(2, -1, -1, -1),
        lambda x, _: torch.nn.functional.conv2d(x, torch.ones(3, 16, 3, 3)).relu(),
        lambda x, _: x[:, :1].sigmoid().new_full((2, 3), 5.0) + 1,
        lambda x, _: torch.cat(list(x.relu().mul(2).split(5, dim=1))[::-1], dim=1),
        lambda x, _: x.bernoulli(torch.ones_like(x)) if x.is_meta else x.pow(2).cumsum(1).flip(2),
    ],
)
@torch.no_grad()
def test_whatever_else_a_network_does_is_recorded_with_its_bits(does: Any) -> None:
    network, desk = _Odd(does), Desk()
    for seed in range(3):
        features = [level.abs() for level in _features(seed=seed)]
        found = _on(desk, network, features)
        assert seed == 0 or (found is not None and torch.equal(found, network(features)[0]))


@torch.no_grad()
def test_what_a_network_looks_at_is_noticed_though_the_first_image_is_empty() -> None:
    features = [torch.zeros_like(level) for level in _features()]
    assert recorded(_Odd(lambda x, _: x * 2 + torch.as_tensor(x.numpy().max())), features) is None
    assert not any(level.any() for level in features)


@torch.no_grad()
def test_features_are_as_before_whether_or_not_a_network_is_recorded() -> None:
    features, before = _features(), _features()
    for does in (lambda x, _: x.relu_() + 1, lambda x, _: x.relu() + 1):
        recorded(_Odd(does), features)
        assert all(torch.equal(a, b) for a, b in zip(features, before, strict=True))


@torch.no_grad()
def test_a_recording_complains_as_the_network_does() -> None:
    def does(x: Tensor, _: Tensor) -> Tensor:
        torch._assert_async((x.mean() < 10).all())
        return x + 1

    features = _features()
    recording_ = recorded(_Odd(does), features)
    assert recording_ is not None
    scratch = torch.empty(recording_.size, dtype=torch.uint8)
    recording_.run(scratch)
    features[0].fill_(11)
    with pytest.raises(RuntimeError):
        recording_.run(scratch)


@torch.no_grad()
def test_cut_outs_are_not_held() -> None:
    desk, network = Desk(), _Odd(lambda x, _: x.mean((2, 3)))
    features = [_features()[0][:, :, 2:-2, 2:-2]]
    assert [_on(desk, network, features) for _ in range(3)] == [None] * 3


def test_a_recording_that_could_not_be_bound_is_bound_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    head, features = _head(), _features()
    found = recorded(_network(head), features)
    assert found is not None

    def fail(*args: Any) -> Any:
        raise MemoryError

    with torch.no_grad():
        scratch = torch.empty(found.size, dtype=torch.uint8)
        monkeypatch.setattr(recorded_calls, "_step", fail)
        with pytest.raises(MemoryError):
            found.run(scratch)
        monkeypatch.undo()
        assert torch.equal(found.run(scratch)[0], head(features))


def test_shapes_are_recorded_when_they_come_again_and_only_some() -> None:
    desk, network = Desk(), _network(_head("linear"))
    sizes = [(32 * i, 64) for i in range(1, recording.SHAPES + 2)]
    assert [_on(desk, network, _features(size)) for size in sizes] == [None] * len(sizes)
    again = [_on(desk, network, _features(size)) is not None for size in sizes]
    assert again == [True] * recording.SHAPES + [False]


def test_large_features_are_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    features = _features()
    monkeypatch.setattr(recording, "LARGEST", sum(level.numel() for level in features) - 1)
    desk, network = Desk(), _network(_head("linear"))
    assert [_on(desk, network, features) for _ in range(3)] == [None] * 3


def test_a_desk_in_use_by_one_thread_is_not_waited_for_by_another() -> None:
    desk, features, seen = Desk(), _features(), []

    def other() -> None:
        with desk.holding(features) as held:
            seen.append(held is not None)

    with desk.holding(features), desk.holding(features) as twice:
        assert not twice
    with desk.holding(features) as held:
        assert held
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    other()
    assert seen == [False, True]


def test_a_copied_desk_is_empty() -> None:
    desk, network = Desk(), _network(_head("linear"))
    for _ in range(2):
        _on(desk, network, _features())
    for twin in (copy.copy(desk), copy.deepcopy(desk), pickle.loads(pickle.dumps(desk))):
        assert _on(twin, network, _features()) is None


LIVES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 300)), max_size=12)


@given(LIVES)
def test_places_in_use_at_once_do_not_overlap(drawn: list[tuple[int, int, int]]) -> None:
    lives = {
        i: recorded_calls._Life(start, start + span, size)
        for i, (start, span, size) in enumerate(sorted(drawn))
    }
    starts = recorded_calls._starts(lives)
    for a, b in combinations(lives, 2):
        at_once = lives[a].end >= lives[b].start and lives[b].end >= lives[a].start
        apart = starts[a] + lives[a].size <= starts[b] or starts[b] + lives[b].size <= starts[a]
        assert apart or not at_once or not (lives[a].size and lives[b].size)
    assert all(start % 64 == 0 for start in starts.values())


def _repeating(backbone: nn.Module, patience: int, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setattr(recording, "PATIENCE", patience)
    fast = prepare(backbone)
    return recording.repeating(lambda images: list(fast(images[0])), fast)


@pytest.mark.parametrize("name", ["test_resnet", "test_byobnet", "mobilenetv2_035"])
@torch.no_grad()
def test_a_light_backbone_gives_the_same_bits_once_it_is_recorded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    planned = recording.planned
    monkeypatch.setattr(recording, "planned", lambda *a: made.append(a) or planned(*a))
    backbone = build(describe(name)).freeze()
    network, plain = _repeating(backbone, 3, monkeypatch), prepare(backbone)
    for size, batch in [((64, 96), 1), ((96, 64), 2)]:
        for seed in range(5):
            images = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(seed))
            kept = images.clone()
            pairs = zip(network([images]), plain(images), strict=True)
            assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in pairs)
            assert torch.equal(images, kept)
    assert len(made) == 2


@torch.no_grad()
def test_features_of_one_image_stay_when_the_next_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _repeating(build(describe("test_resnet")).freeze(), 2, monkeypatch)
    images = [torch.rand(1, 3, 64, 64) for _ in range(4)]
    expected = [[level.clone() for level in network([image])] for image in images]
    found = [network([image]) for image in images]
    assert all(map(torch.equal, chain(*found), chain(*expected)))


@torch.no_grad()
def test_hooks_of_a_backbone_are_called_for_every_image(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, heard = build(describe("test_resnet")).freeze(), []
    backbone.net.register_forward_hook(lambda *_: heard.append(1))
    network = _repeating(backbone, 2, monkeypatch)
    heard.clear()
    for _ in range(5):
        network([torch.rand(1, 3, 64, 64)])
    assert len(heard) == 5


@torch.no_grad()
def test_a_backbone_that_cannot_be_recorded_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    monkeypatch.setattr(recording, "recorded", lambda *given: tried.append(given))
    network = _repeating(build(describe("test_resnet")).freeze(), 1, monkeypatch)
    for size in (64, 64, 96, 96):
        assert len(network([torch.rand(1, 3, size, size)])) == 4
    assert len(tried) == 1


@pytest.mark.parametrize(("limit", "most"), [("LIGHT", 0), ("SMALL", 3 * 64 * 64 - 1)])
@torch.no_grad()
def test_heavy_backbones_and_large_images_are_not_recorded(
    limit: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, limit, most)
    monkeypatch.setattr(recording, "recorded", lambda *_: pytest.fail("recorded"))
    network = _repeating(build(describe("test_resnet")).freeze(), 1, monkeypatch)
    for _ in range(3):
        network([torch.rand(1, 3, 64, 64)])
