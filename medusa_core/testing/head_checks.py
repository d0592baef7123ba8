"""Checks of head architectures: modules that fit any backbone, learn, and can be stored."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from medusa_core.api import FeatureInfo
from medusa_core.heads.base import Head
from medusa_core.heads.blocks import enlarged
from medusa_core.model.costs import head_gmacs
from medusa_core.model.recording import recorded
from medusa_core.store import weights
from medusa_core.testing.checks import require
from medusa_core.testing.fakes import FEATURES, fake_features
from medusa_core.testing.subjects import HeadSubject

SIZE = (64, 96)
STEPS = 20


def require_output(output: object, batch: int, channels: int, where: str) -> None:
    """Fail unless this is a raw prediction of a head."""
    require(isinstance(output, Tensor), f"forward gives a {type(output).__name__}")
    assert isinstance(output, Tensor)  # noqa: S101 - for type checkers, checked above
    require(
        output.ndim == 4 and output.shape[:2] == (batch, channels),
        f"forward gives {tuple(output.shape)} for {where}, ({batch}, {channels}, h, w) is needed",
    )
    require(output.isfinite().all(), f"forward gives NaN or ∞ for {where}")


def trained_steps(
    head: Head,
    features: list[Tensor],
    loss: Callable[[list[tuple[float, Tensor]]], Tensor],
    all_learn: bool = False,
) -> list[float]:
    """Losses of a few steps on one batch; `all_learn`: every parameter must get a gradient."""
    head.train()
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    losses = []
    for step in range(STEPS):
        value = loss(head.training_outputs([level.clone() for level in features]))
        optimizer.zero_grad()
        value.backward()
        if step == 0 and all_learn:
            idle = [name for name, p in head.named_parameters() if p.grad is None]
            require(not idle, f"no gradient reaches {', '.join(idle)}")
        optimizer.step()
        losses.append(value.item())
    return losses


def _to_one(outputs: list[tuple[float, Tensor]]) -> Tensor:
    """A loss for checks of heads alone: predict 1 everywhere."""
    return torch.stack([weight * (raw - 1).square().mean() for weight, raw in outputs]).sum()


def head_fits_backbones(subject: HeadSubject) -> None:
    """The head gives `(B, out_channels, h, w)`, finite, for any backbone, channels and size."""
    for name, info in FEATURES.items():
        sizes = [(224, 448)] if name == "vit" else [(64, 96), (32, 32)]
        for channels in (1, 7):
            head = subject.make(info, channels).eval()
            require(isinstance(head, Head), f"{subject.spec.implementation} is no Head")
            with torch.no_grad():
                for size in sizes:
                    output = head(fake_features(info, size))
                    require_output(output, 2, channels, f"{name} features of {size}")


def head_learns(subject: HeadSubject) -> None:
    """A few steps lower a loss, and every weight gets a gradient."""
    head = subject.make(FEATURES["cnn"])
    losses = trained_steps(head, fake_features(FEATURES["cnn"], SIZE), _to_one, all_learn=True)
    require(losses[-1] < losses[0], f"the loss goes from {losses[0]:.4g} to {losses[-1]:.4g}")


def head_is_repeatable(subject: HeadSubject) -> None:
    """The same seed gives the same weights, outputs and steps, bit for bit."""
    first, second = (subject.make(FEATURES["odd"], seed=3) for _ in range(2))
    _require_same_weights(first, second, "the same seed gives other weights")
    features = fake_features(FEATURES["odd"], SIZE)
    with torch.random.fork_rng(devices=[]):
        losses = []
        for head in (first, second):
            torch.manual_seed(0)
            losses.append(trained_steps(head, features, _to_one))
    require(losses[0] == losses[1], "the same seed gives other steps")
    _require_same_weights(first, second, "the same seed gives other weights after some steps")
    first.eval()
    with torch.no_grad():
        outputs = [first([level.clone() for level in features]) for _ in range(2)]
    require(torch.equal(*outputs), "a head in evaluation mode is not repeatable")


def head_is_image_by_image(subject: HeadSubject) -> None:
    """In evaluation mode an image is predicted alike, whatever else is in the batch."""
    head = subject.make(FEATURES["cnn"]).eval()
    features = fake_features(FEATURES["cnn"], SIZE, batch=3)
    with torch.no_grad():
        together = head([level.clone() for level in features])
        alone = torch.cat(
            [head([level[i : i + 1].clone() for level in features]) for i in range(3)]
        )
    require(torch.allclose(together, alone, atol=1e-4), "a prediction depends on its batch")


def head_leaves_its_features_alone(subject: HeadSubject) -> None:
    """`forward` and `training_outputs` do not write to the levels: other heads get the same."""
    head = subject.make(FEATURES["cnn"])
    features = [100 * level for level in fake_features(FEATURES["cnn"], SIZE)]
    given = [level.clone() for level in features]
    with torch.no_grad():
        head.train().training_outputs(given)
        head.eval()(given)
    same = all(torch.equal(a, b) for a, b in zip(given, features, strict=True))
    require(same, "the head writes to its features: work on a copy")


def head_weights_survive_storage(subject: HeadSubject) -> None:
    """All that evaluation depends on is in the weights: stored and read, outputs are the same."""
    head = subject.make(FEATURES["cnn"])
    trained_steps(head, fake_features(FEATURES["cnn"], SIZE), _to_one)
    stored = weights.from_bytes(weights.to_bytes(head.state_dict()), "the head")
    other = subject.make(FEATURES["cnn"], seed=1)
    other.load_state_dict(stored)
    features = fake_features(FEATURES["cnn"], SIZE)
    with torch.no_grad():
        outputs = [h.eval()([level.clone() for level in features]) for h in (head, other)]
    require(torch.equal(*outputs), "a head loaded from its weights predicts something else")


def head_costs_can_be_counted(subject: HeadSubject) -> None:
    """The head can be copied, and run on the `meta` device, where its cost is counted."""
    head = subject.make(FEATURES["cnn"])
    copy.deepcopy(head)
    require(head_gmacs(head, FEATURES["cnn"]) >= 0, "the cost is negative")


def recordable_head_looks_at_no_numbers(subject: HeadSubject) -> None:
    """A head that says it is `recordable` is run from a recording with the bits of `forward`."""
    for info in FEATURES.values():
        head = subject.make(info).eval()
        features = fake_features(info, (224, 448))
        if not head.recordable:
            return
        recording = recorded(partial(_predictions, head), features)
        require(
            recording is not None,
            "forward looks at numbers, draws some, or writes to features: it is not recordable",
        )
        assert recording is not None  # noqa: S101 - for type checkers, checked above
        for level in features:
            level.copy_(level.flip(0) * -2)
        with torch.no_grad():
            expected = head([level.clone() for level in features])
            (found,) = recording.run(torch.empty(recording.size, dtype=torch.uint8))
        require(torch.equal(found, expected), "forward does something else for other features")


def heads_side_by_side_say_what_each_says(subject: HeadSubject) -> None:
    """Heads of one `family` side by side say what each of them says alone."""
    for info in FEATURES.values():
        heads = [subject.make(info, seed=seed).eval() for seed in range(3)]
        if heads[0].family is None:
            return
        families = {head.family for head in heads}
        require(len(families) == 1, "heads with the same settings are of different families")
        network = type(heads[0]).side_by_side(heads)
        features = fake_features(info, SIZE)
        with torch.no_grad():
            alone = [head([level.clone() for level in features]) for head in heads]
            found = alone if network is None else network.eval()(features)
        require(len(found) == len(heads), f"{len(heads)} heads, {len(found)} predictions")
        for one, expected in zip(found, alone, strict=True):
            scale = 1 + float(expected.abs().max())
            require(
                one.shape == expected.shape and torch.allclose(one, expected, atol=1e-4 * scale),
                "a head side by side with others says something else",
            )


def upsampling_head_says_the_same_of_upsampled_levels(subject: HeadSubject) -> None:
    """A head that `upsamples` says of levels as computed what it would say of larger ones."""
    given = FEATURES["cnn"]
    computed = FeatureInfo(given.channels, given.strides, computed=(16, 16, 16, 32))
    features = fake_features(computed, SIZE)
    head, other = subject.make(computed), subject.make(given)
    if not head.upsamples:
        return
    trained_steps(head, features, _to_one)
    other.load_state_dict(head.state_dict())
    with torch.no_grad():
        found = head.eval()([level.clone() for level in features])
        expected = other.eval()(
            [enlarged(level, by) for level, by in zip(features, computed.upsampling, strict=True)]
        )
    require(
        found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-3, atol=1e-3),
        "a head that upsamples says something else of levels that are upsampled already: enlarge "
        "what is made of level i by features.upsampling[i]",
    )


def _predictions(head: Head, features: Sequence[Tensor]) -> list[Tensor]:
    return [head(features)]


def _require_same_weights(first: Head, second: Head, message: str) -> None:
    mine, theirs = first.state_dict(), second.state_dict()
    require(
        mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine),
        message,
    )
