"""Checks of targets and losses: what a head learns from."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from medusa_core.api import Task
from medusa_core.data.geometry import View, known_values, view_target, view_value
from medusa_core.testing.checks import require
from medusa_core.testing.subjects import SIZE, TaskSubject

DESCENT_STEPS = 60


def total_loss(task: Task, prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The sum of the named terms."""
    terms = task.loss(prediction, target, valid)
    require(
        isinstance(terms, dict) and terms, f"loss returned {type(terms).__name__}, not named terms"
    )
    for name, term in terms.items():
        require(
            isinstance(term, Tensor) and term.ndim == 0,
            f"loss term {name!r} is not a scalar tensor",
        )
    return torch.stack([term.float() for term in terms.values()]).sum()


def target_has_its_layout(subject: TaskSubject) -> None:
    """`encode_target` gives an array of the dtype and shape that `target` describes."""
    spec = subject.spec.target
    for size in (SIZE, (24, 16)):
        target = subject.encoded(subject.make(), size)
        channels = () if spec.channels is None else (spec.channels,)
        wanted = (*(size if subject.dense else ()), *channels)
        require(
            target.shape == wanted and target.dtype == np.dtype(spec.dtype),
            f"the target of an image of {size} is {target.shape} {target.dtype}, "
            f"{wanted} {spec.dtype} by the spec",
        )


def target_is_repeatable(subject: TaskSubject) -> None:
    """`encode_target` depends on its arguments alone, and does not write to them."""
    task, sample = subject.make(), subject.raw_sample()
    raw, image = sample.targets.get(subject.spec.target_name), sample.image
    before = copy.deepcopy((raw, image))
    first = np.array(task.encode_target(raw, image))
    second = np.array(subject.make().encode_target(raw, image))
    require(np.array_equal(image, before[1]), "encode_target writes to the image")
    if raw is not None and before[0] is not None:
        same = np.array_equal(raw, before[0], equal_nan=raw.dtype.kind == "f")
        require(same, "encode_target writes to the raw target")
    floats = first.dtype.kind == "f"
    require(
        np.array_equal(first, second, equal_nan=floats), "encode_target differs when called again"
    )


def target_is_in_range(subject: TaskSubject) -> None:
    """Valid targets are finite and lie in `output.range`, so that predictions can reach them."""
    task = subject.make()
    for seed in range(3):
        target = subject.encoded(task, seed=seed)
        values = target[known_values(target, subject.spec.target, subject.schema)]
        require(np.isfinite(values).all(), "a valid target is NaN or infinite")
        low, high = subject.spec.output.range
        inside = (low is None or (values >= low - 1e-4).all()) and (
            high is None or (values <= high + 1e-4).all()
        )
        require(inside, f"targets leave output.range = {subject.spec.output.range}")


def target_follows_flips(subject: TaskSubject) -> None:
    """A target computed from the image changes as `flip` says when the image is mirrored."""
    if subject.spec.target.source != "image":
        return
    task, image = subject.make(), subject.raw_sample().image
    plain = np.asarray(task.encode_target(None, image.copy()))
    mirrored = np.asarray(task.encode_target(None, np.ascontiguousarray(image[:, ::-1])))
    spec, view = subject.spec.target, View(flip=True)
    wanted = (
        view_target(plain, SIZE, view, spec, subject.schema)
        if subject.dense
        else view_value(plain, view, spec, subject.schema)
    )
    expected, found = (_known(target, subject) for target in (wanted, mirrored))
    require(
        _follows(found, expected, subject.dense),
        f'mirroring the image changes the target in another way than flip="{spec.flip}"',
    )


def _known(target: np.ndarray, subject: TaskSubject) -> np.ndarray:
    """The target in float64, NaN where it is not known."""
    known = known_values(target, subject.spec.target, subject.schema)
    return np.where(known, target.astype(np.float64), np.nan)


def _follows(found: np.ndarray, expected: np.ndarray, dense: bool) -> bool:
    """Whether most values are the same, and all nearly so if maps may move by two columns."""
    shifts = range(-2, 3) if dense else (0,)
    moved = [np.abs((np.roll(found, s, axis=1) if s else found) - expected) for s in shifts]
    nearest = np.fmin.reduce(moved)
    nearest = nearest[~np.isnan(nearest)]
    if not nearest.size:
        return True
    values = expected[~np.isnan(expected)]
    noise = 1e-3 * max(1.0, float(np.abs(values).max()))
    spread = np.abs(values - (np.median(values) if dense else 0.0)).mean()
    in_place = np.nan_to_num(np.abs(found - expected))  # where one is not known: the same
    return bool(np.median(in_place) <= noise and nearest.mean() <= noise + 0.25 * spread)


def loss_is_finite(subject: TaskSubject) -> None:
    """`loss` gives named, finite scalars, for predictions far off, too."""
    task = subject.make()
    target, valid = subject.batch(task)
    for scale in (0.0, 1.0, 1e3):
        loss = total_loss(task, subject.prediction(task, scale), target, valid)
        require(
            torch.isfinite(loss), f"the loss is {loss} where predictions are of the order {scale:g}"
        )


def loss_allows_nothing_valid(subject: TaskSubject) -> None:
    """Where nothing is valid the loss is zero and has a (zero) gradient, whatever targets hold."""
    task = subject.make()
    target, valid = subject.batch(task)
    if target.is_floating_point():
        target = torch.full_like(target, float("nan"))
    prediction = subject.prediction(task).requires_grad_()
    loss = total_loss(task, prediction, target, torch.zeros_like(valid))
    require(loss.item() == 0, f"the loss is {loss.item()} where nothing is valid, not 0")
    require(loss.requires_grad, "where nothing is valid the loss has no gradient path")
    loss.backward()
    gradient = prediction.grad
    require(
        gradient is not None and not gradient.nan_to_num(nan=1.0).any(),
        "where nothing is valid the gradient is not zero",
    )


def loss_ignores_what_is_invalid(subject: TaskSubject) -> None:
    """Neither targets nor predictions at invalid pixels change the loss or get a gradient."""
    task = subject.make()
    target, valid = subject.batch(task)
    hidden = valid.clone()
    hidden[0] = False
    mask = hidden if hidden.ndim == target.ndim else hidden.unsqueeze(1)
    other = torch.where(mask, target, elsewhere(target))
    prediction = subject.prediction(task).requires_grad_()
    first = total_loss(task, prediction, target, hidden)
    second = total_loss(task, prediction, other, hidden)
    require(
        torch.equal(first, second), "the loss depends on the targets of pixels that are not valid"
    )
    first.backward()
    shown = hidden.unsqueeze(1)  # of all channels
    require(
        prediction.grad is not None and not torch.where(shown, 0, prediction.grad).any(),
        "pixels that are not valid get a gradient",
    )


def loss_leads_to_the_target(subject: TaskSubject) -> None:
    """Following the gradient lowers the loss and improves the primary metric."""
    from medusa_core.testing.metric_checks import figures

    task = subject.make()
    target, valid = subject.batch(task)
    prediction = subject.prediction(task).requires_grad_()
    optimizer = torch.optim.Adam([prediction], lr=0.1)
    losses, scores = [], []
    primary = subject.spec.primary_metric
    for step in range(DESCENT_STEPS + 1):
        loss = total_loss(task, prediction, target, valid)
        if step in (0, DESCENT_STEPS):
            decoded = task.decode(prediction.detach())
            losses.append(loss.item())
            scores.append(figures(task, decoded, target, valid)[primary.name])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    require(losses[1] < losses[0], f"the loss goes from {losses[0]:.4g} to {losses[1]:.4g}")
    better = scores[1] > scores[0] if primary.higher_is_better else scores[1] < scores[0]
    require(
        better,
        f"while the loss falls, {primary.name} goes from {scores[0]:.4g} to {scores[1]:.4g}",
    )


def loss_leaves_its_arguments_alone(subject: TaskSubject) -> None:
    """`loss` does not write to predictions, targets or masks, and is the same when repeated."""
    task = subject.make()
    arguments = (subject.prediction(task), *subject.batch(task))
    before = [argument.clone() for argument in arguments]
    first = total_loss(task, *arguments)
    require(
        all(
            np.array_equal(a.numpy(), b.numpy(), equal_nan=True)
            for a, b in zip(arguments, before, strict=True)
        ),
        "loss writes to its arguments",
    )
    require(torch.equal(first, total_loss(task, *arguments)), "loss differs when called again")


def elsewhere(target: Tensor) -> Tensor:
    """Other values a target may hold."""
    return target + 1.5 if target.is_floating_point() else torch.zeros_like(target)
