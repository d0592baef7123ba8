"""Checks of what a plugin registers: descriptions that are light, stable and true."""

from __future__ import annotations

import os
import subprocess
import sys

from medusa_core.api import API_VERSION, Task
from medusa_core.plugin_host.examine import HEAVY
from medusa_core.testing.checks import require
from medusa_core.testing.subjects import (
    DatasetSubject,
    HeadSubject,
    TaskSubject,
    default_config,
    provided,
)

HOOKS = {
    TaskSubject: "medusa_register_tasks",
    HeadSubject: "medusa_register_heads",
    DatasetSubject: "medusa_register_datasets",
}
Subject = TaskSubject | HeadSubject | DatasetSubject

_SCRIPT = """
import importlib, sys
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def spec_survives_json(subject: Subject) -> None:
    """The description is the same after it was written as JSON and read again."""
    spec = subject.spec
    again = type(spec).model_validate_json(spec.model_dump_json())
    same = again == spec or repr(again) == repr(spec)  # an invalid value of NaN equals nothing
    require(same, f"after a round trip through JSON it is {again!r}, not {spec!r}")


def spec_speaks_this_api(subject: Subject) -> None:
    """`api_version` has the host's major number, and no newer minor one."""
    theirs, ours = (
        [int(part) for part in version.split(".")]
        for version in (subject.spec.api_version, API_VERSION)
    )
    require(
        theirs[0] == ours[0] and theirs[1] <= ours[1],
        f"api_version is {subject.spec.api_version}, this host speaks {API_VERSION}",
    )


def hook_is_repeatable(subject: Subject) -> None:
    """The hook gives the same descriptions every time, each name once."""
    hook = HOOKS[type(subject)]
    first, second = provided(subject.plugin, hook), provided(subject.plugin, hook)
    names = [spec.name for spec in first]
    require(len(set(names)) == len(names), f"{hook} gives a name twice: {names}")
    # By their text: an invalid value of NaN equals nothing.
    require(repr(first) == repr(second), f"{hook} gives other descriptions when it is called again")


def import_is_light(subject: Subject) -> None:
    """The module with the hooks imports no tensor or image library: most commands read it."""
    done = subprocess.run(  # noqa: S603 - our own interpreter, on a module that is loaded here
        [sys.executable, "-c", _SCRIPT, subject.plugin.__name__],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    name = subject.plugin.__name__
    require(done.returncode == 0, f"importing {name} fails: {done.stderr.strip()[-400:]}")
    lines = done.stdout.splitlines()
    heavy = sorted(set(lines[-1].split()) & HEAVY) if lines else []
    require(not heavy, f"{name} imports {', '.join(heavy)}: import them where they are used")
    require(len(lines) == 1, f"{name} prints when it is imported: {done.stdout.strip()[:200]!r}")


def settings_survive_json(subject: TaskSubject | HeadSubject) -> None:
    """`config_model` needs no argument, is the same after JSON, and refuses unknown settings."""
    if subject.spec.config_model is None:
        return
    config = default_config(subject.spec)
    model = type(config)
    require(
        model.model_validate_json(config.model_dump_json()) == config,
        f"{model.__name__} changes on its way through JSON",
    )
    try:
        model.model_validate({"no_such_setting": 1})
    except ValueError:
        return
    require(False, f'{model.__name__} accepts unknown settings: model_config needs extra="forbid"')


def implementation_is_a_task(subject: TaskSubject) -> None:
    """`implementation` names a sub-class of Task, made from spec, labels and settings."""
    task = subject.make()
    require(isinstance(task, Task), f"{subject.spec.implementation} is no medusa_core.api.Task")
    require(task.spec == subject.spec, "task.spec is not the spec it was made from")
    require(
        isinstance(task.out_channels, int) and task.out_channels >= 1,
        f"out_channels is {task.out_channels!r}",
    )


def rules_fit_the_target(subject: TaskSubject) -> None:
    """`flip` and `zoom` name rules that targets of this type and shape can follow."""
    target = subject.spec.target
    if target.flip == "negate_x":
        require(
            target.dtype == "float32",
            'flip="negate_x" is for float32: it negates channel 0 of vectors, or the one number',
        )
    labels = subject.labels or subject.spec.labels
    if labels is not None and labels.swap_pairs:
        require(
            target.flip == "swap_pairs",
            f'labels have swap_pairs, but flip is "{target.flip}": left stays left when mirrored',
        )
    if target.zoom == "divide":
        require(target.dtype == "float32", 'zoom="divide" is for float32 values')
    if subject.spec.output.activation == "argmax":
        require(target.dtype == "int64", 'activation="argmax" needs target.dtype="int64"')
