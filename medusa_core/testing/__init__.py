"""What plugin authors test with: conformance checks, fixtures, fakes. Needs the extra `test`.

`@task_checks(plugin)` gives a pytest test one case a check; `check_task(plugin)` runs all of them
anywhere. So do `head_checks`, `check_head`, `dataset_checks` and `check_dataset`. `plugin_host` is
a host of chosen plugins, for tests of more. `fixtures` holds pytest fixtures, `fakes` made-up
feature levels, samples and data sets.
"""

from medusa_core.testing.checks import CheckFailure
from medusa_core.testing.conformance import (
    check_dataset,
    check_head,
    check_task,
    dataset_checks,
    head_checks,
    task_checks,
)
from medusa_core.testing.main_job import plugin_host

__all__ = [
    "CheckFailure",
    "check_dataset",
    "check_head",
    "check_task",
    "dataset_checks",
    "head_checks",
    "plugin_host",
    "task_checks",
]
