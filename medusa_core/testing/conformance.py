"""The suites: which checks a task, a head and a data set must pass, and how to run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from medusa_core.api import LabelSchema, Sample
from medusa_core.testing import dataset_checks as data
from medusa_core.testing import head_checks as heads
from medusa_core.testing import main_job
from medusa_core.testing import metric_checks as metrics
from medusa_core.testing import prediction_checks as predictions
from medusa_core.testing import process_checks as process
from medusa_core.testing import spec_checks as specs
from medusa_core.testing import target_checks as targets
from medusa_core.testing.checks import Case, Check, reasons, run_all
from medusa_core.testing.subjects import DatasetSubject, HeadSubject, TaskSubject, choose

if TYPE_CHECKING:
    import pytest

S = TypeVar("S")
Size = tuple[int, int]

_REGISTERED: tuple[Callable[[Any], None], ...] = (
    specs.spec_survives_json,
    specs.spec_speaks_this_api,
    specs.hook_is_repeatable,
    specs.import_is_light,
)

TASK_CHECKS: tuple[Check[TaskSubject], ...] = tuple(
    Check(run)
    for run in (
        *_REGISTERED,
        specs.settings_survive_json,
        specs.implementation_is_a_task,
        specs.rules_fit_the_target,
        targets.target_has_its_layout,
        targets.target_is_repeatable,
        targets.target_is_in_range,
        targets.target_follows_flips,
        targets.loss_is_finite,
        targets.loss_allows_nothing_valid,
        targets.loss_ignores_what_is_invalid,
        targets.loss_leads_to_the_target,
        targets.loss_leaves_its_arguments_alone,
        metrics.metrics_report_the_spec,
        metrics.primary_metric_is_quick,
        metrics.metrics_prefer_the_target,
        metrics.metrics_add_up,
        metrics.metrics_weigh_pixels,
        metrics.metrics_keep_nothing,
        metrics.metrics_ignore_what_is_invalid,
        metrics.metrics_of_nothing_are_nan,
        predictions.decode_has_its_layout,
        predictions.decode_is_image_by_image,
        predictions.render_gives_a_picture,
        predictions.render_shows_the_value,
        predictions.render_survives_anything_decoded,
        predictions.render_follows_flips,
        predictions.task_keeps_no_state,
        process.task_leaves_the_process_alone,
        predictions.default_head_fits_backbones,
        predictions.default_head_learns,
        main_job.main_job_works,
    )
)
HEAD_CHECKS: tuple[Check[HeadSubject], ...] = tuple(
    Check(run)
    for run in (
        *_REGISTERED,
        specs.settings_survive_json,
        heads.head_fits_backbones,
        heads.head_learns,
        heads.head_is_repeatable,
        heads.head_is_image_by_image,
        heads.head_leaves_its_features_alone,
        process.head_leaves_the_process_alone,
        heads.head_weights_survive_storage,
        heads.head_costs_can_be_counted,
        heads.recordable_head_looks_at_no_numbers,
        heads.heads_side_by_side_say_what_each_says,
        heads.upsampling_head_says_the_same_of_upsampled_levels,
    )
)
DATASET_CHECKS: tuple[Check[DatasetSubject], ...] = tuple(
    Check(run)
    for run in (
        *_REGISTERED,
        data.splits_open,
        data.unknown_split_is_an_error,
        data.unknown_location_is_an_error,
        data.samples_are_as_described,
        data.only_asked_targets_are_read,
        data.loading_is_repeatable,
    )
)

Reasons = Mapping[str, str]


def check_task(
    plugin: ModuleType,
    name: str | None = None,
    *,
    labels: LabelSchema | None = None,
    sample: Callable[[Size, int], Sample] | None = None,
    expected_failures: Reasons | None = None,
) -> None:
    """Run all checks of a task.

    Args:
        plugin: the module with the hooks.
        name: of the task; None: the only one of the plugin.
        labels: classes to test with, for tasks that take theirs from the data.
        sample: (H, W) of the image and a number → a sample, as a data set would give it; None:
            made up from the spec. Needed where `encode_target` reads another layout than it gives.
        expected_failures: check name → why it is known to fail; one that passes is a failure.

    Raises:
        CheckFailure: names every check that failed.
    """
    subject = _task(plugin, name, labels, sample)
    _run(TASK_CHECKS, subject, expected_failures)


def task_checks(
    plugin: ModuleType,
    name: str | None = None,
    *,
    labels: LabelSchema | None = None,
    sample: Callable[[Size, int], Sample] | None = None,
    expected_failures: Reasons | None = None,
) -> pytest.MarkDecorator:
    """Parametrise a pytest test that calls its argument `check`; arguments as of `check_task`."""
    subject = _task(plugin, name, labels, sample)
    return _marks(TASK_CHECKS, subject, expected_failures)


def check_head(
    plugin: ModuleType,
    name: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    expected_failures: Reasons | None = None,
) -> None:
    """Run all checks of a head architecture.

    Args:
        plugin: the module with the hooks.
        name: of the architecture; None: the only one of the plugin.
        settings: what differs from the defaults of its `config_model`.
        expected_failures: as for `check_task`.

    Raises:
        CheckFailure: names every check that failed.
    """
    _run(HEAD_CHECKS, _head(plugin, name, settings), expected_failures)


def head_checks(
    plugin: ModuleType,
    name: str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    expected_failures: Reasons | None = None,
) -> pytest.MarkDecorator:
    """Parametrise a pytest test that calls its argument `check`; arguments as of `check_head`."""
    return _marks(HEAD_CHECKS, _head(plugin, name, settings), expected_failures)


def check_dataset(
    plugin: ModuleType,
    name: str | None = None,
    *,
    location: str | None = None,
    splits: Sequence[str] = ("train", "val"),
    expected_failures: Reasons | None = None,
) -> None:
    """Run all checks of a data set.

    Args:
        plugin: the module with the hooks.
        name: of the data set; None: the only one of the plugin.
        location: where it lies, as after the colon of `--data NAME:LOCATION`.
        splits: all of its splits that should be there.
        expected_failures: as for `check_task`.

    Raises:
        CheckFailure: names every check that failed.
    """
    _run(DATASET_CHECKS, _dataset(plugin, name, location, splits), expected_failures)


def dataset_checks(
    plugin: ModuleType,
    name: str | None = None,
    *,
    location: str | None = None,
    splits: Sequence[str] = ("train", "val"),
    expected_failures: Reasons | None = None,
) -> pytest.MarkDecorator:
    """Parametrise a pytest test that calls its argument `check`; otherwise as `check_dataset`."""
    subject = _dataset(plugin, name, location, splits)
    return _marks(DATASET_CHECKS, subject, expected_failures)


def _task(
    plugin: ModuleType,
    name: str | None,
    labels: LabelSchema | None,
    sample: Callable[[Size, int], Sample] | None,
) -> TaskSubject:
    spec = choose(plugin, "medusa_register_tasks", "task", name)
    return TaskSubject(plugin, spec, labels, sample)


def _head(plugin: ModuleType, name: str | None, settings: Mapping[str, Any] | None) -> HeadSubject:
    spec = choose(plugin, "medusa_register_heads", "head architecture", name)
    return HeadSubject(plugin, spec, dict(settings or {}))


def _dataset(
    plugin: ModuleType, name: str | None, location: str | None, splits: Sequence[str]
) -> DatasetSubject:
    spec = choose(plugin, "medusa_register_datasets", "data set", name)
    return DatasetSubject(plugin, spec, location, tuple(splits))


def _run(checks: Sequence[Check[S]], subject: S, expected: Reasons | None) -> None:
    known = reasons(checks, expected)
    run_all([Case(check, subject) for check in checks], known)


def _marks(
    checks: Sequence[Check[S]], subject: S, expected: Reasons | None
) -> pytest.MarkDecorator:
    import pytest

    known = reasons(checks, expected)
    name = subject.spec.name  # type: ignore[attr-defined]
    parameters = []
    for check in checks:
        marks: list[Any] = []
        if check.name in known:
            marks.append(pytest.mark.xfail(reason=known[check.name], strict=True))
        case = Case(check, subject)
        parameters.append(pytest.param(case, id=f"{name}-{check.name}", marks=marks))
    return pytest.mark.parametrize("check", parameters)
