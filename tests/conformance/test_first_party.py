"""The suite that plugin authors run, over everything that comes with Medusa."""

from __future__ import annotations

from typing import Any

import pytest

from medusa_core.data import plugin as data
from medusa_core.heads import plugin as heads
from medusa_core.testing.checks import Case
from medusa_core.testing.conformance import DATASET_CHECKS, HEAD_CHECKS, TASK_CHECKS
from medusa_core.testing.subjects import DatasetSubject, HeadSubject, TaskSubject
from medusa_tasks import plugin as tasks

SETTINGS: list[dict[str, Any]] = [
    {},
    {"feature_attention": "channel", "top_down": False, "refinement": "full"},
    {"subpixel": 2, "deep_supervision": 0.4, "scale_attention": "concatenation"},
    {"feature_attention": "none", "refinement": "none", "scale_attention": "sum"},
]


def cases(checks: Any, subject: Any, label: str) -> list[Any]:
    return [pytest.param(Case(c, subject), id=f"{label}-{c.name}") for c in checks]


def test_there_is_something_to_check() -> None:
    assert len(tasks.medusa_register_tasks()) == 6
    assert len(heads.medusa_register_heads()) == 4


@pytest.mark.parametrize(
    "check",
    [
        case
        for spec in tasks.medusa_register_tasks()
        for case in cases(TASK_CHECKS, TaskSubject(tasks, spec), spec.name)
    ],
)
def test_task(check: Case[TaskSubject]) -> None:
    check()


@pytest.mark.parametrize(
    "check",
    [
        case
        for spec in heads.medusa_register_heads()
        for number, settings in enumerate(SETTINGS if spec.name == "medusa" else [{}])
        for case in cases(HEAD_CHECKS, HeadSubject(heads, spec, settings), f"{spec.name}{number}")
    ],
)
def test_head(check: Case[HeadSubject]) -> None:
    check()


ROOMS = next(spec for spec in tasks.medusa_register_datasets() if spec.name == "rooms")
(FOLDER,) = data.medusa_register_datasets()


@pytest.mark.parametrize(
    "check",
    cases(DATASET_CHECKS, DatasetSubject(tasks, ROOMS, "32x48", ("train", "val")), "rooms"),
)
def test_rooms(check: Case[DatasetSubject]) -> None:
    check()


@pytest.mark.parametrize("check", DATASET_CHECKS, ids=lambda check: check.name)
def test_folder(check: Any, folder: Any) -> None:
    check.run(DatasetSubject(data, FOLDER, str(folder), ("train", "val")))
