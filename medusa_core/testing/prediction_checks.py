"""Checks of what comes out: decoded values, pictures, and the default head of a task."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from medusa_core.api import Task
from medusa_core.data.geometry import View, view_target
from medusa_core.model.images import finish
from medusa_core.testing.checks import require
from medusa_core.testing.fakes import FEATURES, fake_features
from medusa_core.testing.head_checks import require_output, trained_steps
from medusa_core.testing.subjects import BATCH, SIZE, TaskSubject
from medusa_core.testing.target_checks import total_loss

LARGE = (180, 240)
"""Has room for a legend."""

PICTURE_SIZES = (SIZE, (16, 90), LARGE)


def decode_has_its_layout(subject: TaskSubject) -> None:
    """`decode` gives the shape and dtype of `activation`, finite and in `output.range`."""
    task = subject.make()
    target, _ = subject.batch(task)
    for scale in (0.0, 1.0, 1e3):
        decoded = task.decode(subject.prediction(task, scale))
        classes = subject.spec.output.activation == "argmax"
        wanted = torch.int64 if classes else torch.float32
        require(
            decoded.shape == target.shape and decoded.dtype == wanted,
            f"decode gives {tuple(decoded.shape)} {decoded.dtype}, "
            f"{tuple(target.shape)} {wanted} is needed, as of targets",
        )
        require(decoded.isfinite().all(), f"decode gives NaN or ∞ for predictions of {scale:g}")
        low, high = subject.spec.output.range
        slack = 1e-4
        inside = (low is None or bool((decoded >= low - slack).all())) and (
            high is None or bool((decoded <= high + slack).all())
        )
        require(inside, f"decoded values leave output.range = {subject.spec.output.range}")


def decode_is_image_by_image(subject: TaskSubject) -> None:
    """What an image is decoded to does not depend on its batch; predictions stay as they are."""
    task = subject.make()
    prediction = subject.prediction(task)
    before = prediction.clone()
    together = task.decode(prediction)
    require(torch.equal(prediction, before), "decode writes to its argument")
    alone = torch.cat([task.decode(prediction[i : i + 1]) for i in range(BATCH)])
    require(torch.allclose(together, alone, atol=1e-5), "decoding depends on the batch")


def _values(subject: TaskSubject, size: tuple[int, int]) -> np.ndarray:
    """Decoded values that are the targets of some samples."""
    task = subject.make()
    target, valid = subject.batch(task, size)
    return subject.as_decoded(target, valid).numpy()


def _require_picture(picture: object, size: tuple[int, int]) -> None:
    require(isinstance(picture, np.ndarray), f"render gives a {type(picture).__name__}")
    assert isinstance(picture, np.ndarray)  # noqa: S101 - for type checkers, checked above
    require(
        picture.shape == (*size, 3) and picture.dtype == np.uint8,
        f"render gives {picture.shape} {picture.dtype}, {(*size, 3)} uint8 is needed",
    )


def render_gives_a_picture(subject: TaskSubject) -> None:
    """`render` gives `(H, W, 3) uint8` for images of any size, and leaves its arguments alone."""
    task = subject.make()
    for size in PICTURE_SIZES:
        image, value = subject.raw_sample(size).image, _values(subject, size)[0]
        before = copy.deepcopy((image, value))
        _require_picture(task.render(image, value), size)
        require(
            np.array_equal(image, before[0]) and np.array_equal(value, before[1], equal_nan=True),
            "render writes to its arguments",
        )


def render_shows_the_value(subject: TaskSubject) -> None:
    """Other values give another picture; the same ones the same picture."""
    task = subject.make()
    image, values = subject.raw_sample(LARGE).image, _values(subject, LARGE)
    first = task.render(image, values[0])
    require(
        np.array_equal(first, task.render(image, values[0])),
        "render draws the same value in two ways",
    )
    others = [value for value in values[1:] if not np.array_equal(value, values[0])]
    alike = all(np.array_equal(first, task.render(image, other)) for other in others)
    require(not others or not alike, "render draws different values alike")


def render_survives_anything_decoded(subject: TaskSubject) -> None:
    """Values a bad head gives, targets seen through views, and invalid ones can all be drawn."""
    task = subject.make()
    image = subject.raw_sample().image
    for scale in (0.0, 1e3):
        value = task.decode(subject.prediction(task, scale))[0].numpy()
        _require_picture(task.render(image, value), SIZE)
    if not subject.dense:
        return
    target = subject.encoded(task)
    for view in (View(flip=True), View(zoom=1.5, offset=(1.0, 0.0))):
        seen = view_target(target, (48, 48), view, subject.spec.target, subject.schema)
        value = seen.transpose(2, 0, 1) if seen.ndim == 3 else seen
        if value.dtype.kind == "i" and subject.spec.output.activation != "argmax":
            value = value.astype(np.float32)
        _require_picture(task.render(subject.raw_sample((48, 48)).image, value), (48, 48))


def render_follows_flips(subject: TaskSubject) -> None:
    """Where `flip` leaves values as they are, a mirrored value gives a mirrored picture."""
    if not subject.dense or subject.spec.target.flip == "negate_x":
        return
    task = subject.make()
    image, value = subject.raw_sample().image, _values(subject, SIZE)[0]
    plain = task.render(image, value)
    mirrored = task.render(
        np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(value[..., ::-1])
    )
    same = (np.abs(plain[:, ::-1].astype(int) - mirrored) <= 4).all(axis=-1)
    require(
        same.mean() > 0.75,  # outlines may move by a pixel
        "the picture of a mirrored value is not the mirrored picture: render uses the position",
    )


def task_keeps_no_state(subject: TaskSubject) -> None:
    """Using a task changes nothing in it: heads of one task must not see each other."""
    task = subject.make()
    before, shared = copy.deepcopy(vars(task)), _of_classes(task)
    target, valid = subject.batch(task)
    prediction = subject.prediction(task)
    task.loss(prediction, target, valid)
    task.render(subject.raw_sample().image, task.decode(prediction)[0].numpy())
    task.new_metrics()
    require(vars(task).keys() == before.keys(), "using the task gives it new attributes")
    for name, value in before.items():
        require(_same(vars(task)[name], value), f"using the task changes its attribute {name!r}")
    changed = [name for name, text in _of_classes(task).items() if shared.get(name) != text]
    require(not changed, f"using the task changes {', '.join(changed)}, which all tasks share")


def default_head_fits_backbones(subject: TaskSubject) -> None:
    """The default head takes its settings, and gives `out_channels` channels on any backbone."""
    task = subject.make()
    for name, info in FEATURES.items():
        size = (224, 448) if name == "vit" else (64, 96)
        head = subject.head(task, info).eval()
        with torch.no_grad():
            require_output(head(fake_features(info, size)), 2, task.out_channels, name)


def default_head_learns(subject: TaskSubject) -> None:
    """A few steps lower the loss on one batch, and every weight of the head gets a gradient."""
    task = subject.make()
    size = (64, 96)
    target, valid = subject.batch(task, size)
    head = subject.head(task, FEATURES["cnn"])

    def loss(outputs: list[tuple[float, Tensor]]) -> Tensor:
        terms = [
            weight * total_loss(task, finish(raw, task, size), target, valid)
            for weight, raw in outputs
        ]
        return torch.stack(terms).sum()

    losses = trained_steps(head, fake_features(FEATURES["cnn"], size, BATCH), loss, all_learn=True)
    require(losses[-1] < losses[0], f"the loss goes from {losses[0]:.4g} to {losses[-1]:.4g}")


def _of_classes(task: Task) -> dict[str, str]:
    """The text of what its classes hold."""
    return {
        f"{owner.__name__}.{name}": repr(value)
        for owner in type(task).__mro__
        for name, value in vars(owner).items()
    }


def _same(first: object, second: object) -> bool:
    if isinstance(first, (np.ndarray, Tensor)):
        return np.array_equal(np.asarray(first), np.asarray(second))
    return bool(first == second)
