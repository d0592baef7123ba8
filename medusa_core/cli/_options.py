"""Options that several commands share, so that they are spelt and explained once."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from medusa_core.errors import StoreError

Command = TypeVar("Command", bound=Callable[..., Any])


class SizeType(click.ParamType):  # type: ignore[type-arg]
    """`HxW` → `(H, W)` in pixels."""

    name = "HxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Parse a size."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([1-9]\d{0,5})[x×]([1-9]\d{0,5})", value.strip().lower())
        if match is None:
            self.fail(f"{value!r} is not HEIGHTxWIDTH, such as 288x384.", param, ctx)
        return int(match[1]), int(match[2])


class NamesType(click.ParamType):  # type: ignore[type-arg]
    """`a,b` → `("a", "b")`, without repetitions."""

    name = "NAMES"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split a list of names."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        if not names:
            self.fail("name at least one.", param, ctx)
        return names


class NumberOrAuto(click.ParamType):  # type: ignore[type-arg]
    """A number, or `auto`."""

    name = "N|auto"

    def __init__(self, smallest: int = 1, largest: int = 999_999_999) -> None:
        self.smallest, self.largest = smallest, largest

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Parse it."""
        if value == "auto" or isinstance(value, int):
            return value
        number = int(value) if re.fullmatch(r"\s*[1-9]\d{0,8}\s*", value) else 0
        if not self.smallest <= number <= self.largest:
            bounds = f"from {self.smallest} to {self.largest}"
            self.fail(f"{value!r} is neither auto nor a number {bounds}.", param, ctx)
        return number


class LongSide(click.IntRange):
    """One number, where other commands take HxW."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse it."""
        if isinstance(value, str) and re.fullmatch(r"\d+x\d+", value.strip()):
            self.fail(f"{value!r} is two numbers: the longer side alone is needed.", param, ctx)
        return super().convert(value, param, ctx)


SIZE = SizeType()
NAMES = NamesType()


def default_model() -> Path:
    """The model folder where neither an option nor the environment names one."""
    from medusa_core.settings import read_settings

    stored = read_settings().model
    return Path(stored) if stored else Path("medusa-model")


def folder_at_home(context: click.Context, option: click.Parameter, path: Path) -> Path:
    """`~` is the home: settings and the environment are read by no shell."""
    from medusa_core.settings import at_home

    return Path(at_home(path))


def require_named(model: Path) -> None:
    """Refuse a model folder that is named and not there: a typing error would make another one.

    Raises:
        StoreError: the option or the environment names it.
    """
    source = click.get_current_context().get_parameter_source("model")
    if source is not ParameterSource.DEFAULT and not model.exists():
        raise StoreError(
            f"There is no model folder at {model}.",
            hint=f"Make it: medusa init {shlex.quote(str(model))}. Without -m, {default_model()} "
            "is made where there is none.",
        )


def given_options(*but: str) -> list[str]:
    """Options on the command line of the running command, as in `--lr`; without some, by name."""
    context = click.get_current_context()
    return [
        parameter.opts[-1]
        for parameter in context.command.params
        if parameter.name not in but
        and context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    ]


def examples(*lines: str) -> str:
    """An epilog that shows how a command is used."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


model_option = click.option(
    "-m",
    "--model",
    "model",
    type=click.Path(file_okay=False, readable=False, path_type=Path),
    envvar="MEDUSA_MODEL",
    default=default_model,
    callback=folder_at_home,
    show_default="./medusa-model",
    show_envvar=True,
    metavar="DIR",
    help="The model folder.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def output_option(what: str) -> Callable[[Command], Command]:
    """`-o FILE`."""
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help=what
    )


yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")

data_option = click.option(
    "--data",
    "data",
    multiple=True,
    metavar="[TASK=]NAME[:PATH]",
    help="A data set, see `medusa datasets`; may be repeated. TASK= binds it to one task or head. "
    "[default: rooms]",
)

tasks_option = click.option(
    "--tasks", "tasks", type=NAMES, metavar="HEADS", help="Heads, comma-separated; default: all."
)

size_option = click.option(
    "--size",
    type=SIZE,
    metavar="HxW",
    help="Height and width in pixels that images are brought to.",
)

long_side_option = click.option(
    "--size",
    "long_side",
    type=LongSide(min=16, max=8192),
    metavar="PIXELS",
    help="Longer side the network sees; default: as each head was trained. Distances are "
    "multiplied by as much as pictures are shown larger.",
)

device_option = click.option(
    "--device",
    metavar="NAME",
    help="Where to compute: cpu, cuda, cuda:1; default: cuda, or else cpu.",
)

on_bad_sample_option = click.option(
    "--on-bad-sample",
    type=click.Choice(("fail", "skip")),
    help="What to do about a sample that cannot be read or used. [fail]",
)


def settings_option(metavar: str, what: str, example: str) -> Callable[[Command], Command]:
    """`--set`, repeated: parameter settings, a nested dict."""

    def parse(
        ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
    ) -> dict[str, dict[str, Any]]:
        try:
            return _settings(values, f"{metavar}, such as {example}")
        except ValueError as err:
            raise click.BadParameter(str(err), ctx, param) from None

    return click.option(
        "--set",
        "settings",
        multiple=True,
        callback=parse,
        metavar=metavar,
        help=f"A setting of {what}, such as {example}; may be repeated.",
    )


def _settings(values: tuple[str, ...], form: str) -> dict[str, dict[str, Any]]:
    """`head.width=64` → `{"head": {"width": 64}}`; values are JSON, or else text."""
    result: dict[str, dict[str, Any]] = {}
    for value in values:
        match = re.fullmatch(r"([a-z]\w*)\.([A-Za-z]\w*)=(.*)", value, flags=re.DOTALL)
        if match is None:
            raise ValueError(f"{value!r} is not {form}.")
        section, key, text = match.groups()
        if key in result.get(section, {}):
            raise ValueError(f"{section}.{key} is set twice.")
        result.setdefault(section, {})[key] = _value(text)
    return result


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


TRAINING_PRECISIONS = ("fp32", "bf16", "fp16")
ENGINES = ("torch", "openvino", "plain")
INFERENCE_PRECISIONS = ("fp32", "bf16")
BALANCES = ("fixed", "uncertainty", "dwa")
"""As in the engine, which is too heavy to import for `--help`."""

HEAD_STEPS, HEAD_LR, HEAD_BATCH = 800, 1e-2, 8
JOINT_STEPS, JOINT_LR, JOINT_BATCH = 3000, 1e-3, 16
"""Defaults of trainings, for their help; as in the workflows."""


def batch_option(default: int) -> Callable[[Command], Command]:
    """`--batch N`."""
    return click.option("--batch", type=click.IntRange(min=1), help=f"Images a step [{default}].")


auto_batch_option = click.option(
    "--batch",
    type=NumberOrAuto(),
    metavar="N|auto",
    help=f"Images a step [{HEAD_BATCH}]. auto: fewer, where {HEAD_BATCH} do not fit into memory.",
)


def _learning(steps: int, lr: float) -> tuple[Callable[[Any], Any], ...]:
    number, rate = click.IntRange(min=1), click.FloatRange(min=0, min_open=True)
    return (
        click.option(
            "--head", metavar="NAME", help="Head architecture, [PLUGIN:]NAME; default: the task's."
        ),
        settings_option("SECTION.KEY=VALUE", "the head", "head.width=64"),
        click.option("--steps", type=number, help=f"Length of the training in steps [{steps}]."),
        click.option("--epochs", type=rate, help="… in epochs."),
        click.option("--lr", type=rate, help=f"Learning rate [{lr:g}]."),
        size_option,
        click.option(
            "--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of what is random [0]."
        ),
        device_option,
        click.option(
            "--precision",
            type=click.Choice(TRAINING_PRECISIONS),
            help="Number format of the networks in training [fp32]; fp16 on CUDA only.",
        ),
    )


_TRAINING = (
    click.option(
        "--tensorboard",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Write the log for TensorBoard, too; needs the extra `log`.",
    ),
    click.option("--resume", is_flag=True, help="Go on with a training that was interrupted."),
    click.option(
        "--cuda-graphs",
        is_flag=True,
        help="Record the kernels of a step and replay them (CUDA, fp32): for small "
        "networks, which wait for Python. For heads that do the same in every step.",
    ),
)


_EXECUTION = (
    click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="torch",
        show_default=True,
        help="What runs the networks: torch, prepared; openvino (an extra); plain, as trained.",
    ),
    click.option(
        "--precision",
        type=click.Choice(INFERENCE_PRECISIONS),
        default="fp32",
        show_default=True,
        help="Number format of the networks.",
    ),
    click.option(
        "--compile",
        "compiled",
        is_flag=True,
        help="Generate code with torch.compile: takes a minute or more, pays for long runs.",
    ),
)


def execution_options(command: Command) -> Command:
    """Add the options that say how networks are run. Parameters: engine, precision, compiled."""
    return _all_of(_EXECUTION)(command)


def learning_options(steps: int, lr: float) -> Callable[[Command], Command]:
    """The options that say how a head learns; those not given are None. The defaults are shown.

    Parameters: head, settings (nested dict), steps, epochs, lr, size, seed, device, precision.
    """
    return _all_of(_learning(steps, lr))


def training_options(steps: int, lr: float) -> Callable[[Command], Command]:
    """The options of every command that trains; those not given are None. The defaults are shown.

    Parameters: those of `learning_options`, tensorboard, resume, cuda_graphs.
    """
    return _all_of((*_learning(steps, lr), *_TRAINING))


def _all_of(options: Sequence[Callable[[Any], Any]]) -> Callable[[Command], Command]:
    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add
