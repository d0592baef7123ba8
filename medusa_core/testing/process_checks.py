"""Checks that tasks and heads leave alone what the process shares: others run in it, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from medusa_core.testing.checks import require
from medusa_core.testing.fakes import FEATURES, fake_features
from medusa_core.testing.metric_checks import figures
from medusa_core.testing.process import process_kept, seed_all, settings, sources
from medusa_core.testing.subjects import HeadSubject, TaskSubject, default_config, imported

SIZE = (64, 96)

T = TypeVar("T")


def left_alone(what: str, call: Callable[[], T]) -> T:
    """What the call returns; it is made twice, from two seeds: drawing random numbers is fine.

    Raises:
        CheckFailure: it seeds random numbers, or changes a setting of the process.
    """
    before, reached = settings(), []
    with process_kept():
        for seed in (0, 1):
            seed_all(seed)
            result = call()
            reached.append(sources())
        after = settings()
    changed = [name for name in before if after[name] != before[name]]
    require(not changed, f"{what} changes {', '.join(changed)}, for the whole process")
    seeded = [name for name in reached[0] if reached[0][name] == reached[1][name]]
    require(
        not seeded,
        f"{what} seeds the random numbers of {', '.join(seeded)}, for the whole process: "
        "draw from a generator of your own",
    )
    return result


def task_leaves_the_process_alone(subject: TaskSubject) -> None:
    """No method seeds random numbers that all share, or changes settings of torch or numpy."""
    task = left_alone("__init__", subject.make)
    target, valid = left_alone("encode_target", lambda: subject.batch(task))
    prediction, image = subject.prediction(task), subject.raw_sample().image
    left_alone("loss", lambda: task.loss(prediction, target, valid))
    with torch.no_grad():
        decoded = left_alone("decode", lambda: task.decode(prediction))
        left_alone("render", lambda: task.render(image, decoded[0].numpy()))
        left_alone("a metric", lambda: figures(task, decoded, target, valid))


def head_leaves_the_process_alone(subject: HeadSubject) -> None:
    """The head seeds no random numbers that all share, and changes no setting of torch or numpy."""
    info, config = FEATURES["cnn"], default_config(subject.spec, subject.settings)
    head = left_alone("__init__", lambda: imported(subject.spec.implementation)(info, 3, config))
    levels = fake_features(info, SIZE)
    left_alone(
        "training_outputs",
        lambda: head.train().training_outputs([level.clone() for level in levels]),
    )
    with torch.no_grad():
        left_alone("forward", lambda: head.eval()([level.clone() for level in levels]))
