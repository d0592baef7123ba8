import json

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from medusa_core.cli import _options as options
from medusa_core.cli import add_task, predict
from medusa_core.cli import init as init_command


def test_the_defaults_that_help_shows_are_those_of_the_workflows():
    from medusa_core.workflows import train_backbone
    from medusa_core.workflows.training import head_plan, joint_plan

    heads = head_plan.DEFAULT_STEPS, head_plan.DEFAULT_LR, head_plan.TrainOptions().batch
    joint = joint_plan.DEFAULT_STEPS, train_backbone.DEFAULT_LR, train_backbone.DEFAULT_BATCH
    assert heads == (options.HEAD_STEPS, options.HEAD_LR, options.HEAD_BATCH)
    assert joint == (options.JOINT_STEPS, options.JOINT_LR, options.JOINT_BATCH)
    assert head_plan.TrainOptions().seed == 0
    assert head_plan.TrainOptions().precision == "fp32"


def test_the_choices_and_limits_of_options_are_those_of_what_they_set():
    from medusa_core.data import geometry
    from medusa_core.model import execution, tiles
    from medusa_core.workflows.training import head_plan

    assert options.ENGINES == execution.ENGINES
    assert options.INFERENCE_PRECISIONS == execution.INFERENCE_PRECISIONS
    assert limit(add_task.command, "views").max == geometry.MAX_VIEWS
    assert limit(predict.command, "tile").smallest == tiles.MIN_TILE
    assert limit(add_task.command, "seed").max == head_plan.MAX_SEED
    assert limit(init_command.command, "seed").max == head_plan.MAX_SEED


def limit(command, name):
    """The type of an option."""
    [option] = [option for option in command.params if option.name == name]
    return option.type


@click.command(epilog=options.examples("medusa x", "medusa y --json"))
@options.model_option
@options.data_option
@options.tasks_option
@options.training_options(800, 1e-2)
@options.batch_option(8)
@options.json_option
@options.yes_option
def show(**values):
    """Print what was parsed."""
    click.echo(json.dumps({key: value for key, value in values.items() if key != "model"}))
    click.echo(values["model"])


def parse(*args, env=None):
    result = CliRunner().invoke(show, args, env=env)
    assert result.exit_code == 0, result.output
    document, model = result.output.splitlines()
    return {**json.loads(document), "model": model}


def fails(*args):
    result = CliRunner().invoke(show, args)
    assert result.exit_code == 2
    return result.output


def test_nothing_given_means_nothing_decided():
    values = parse()
    assert values.pop("model") == "medusa-model"
    assert values.pop("settings") == {}
    assert values.pop("data") == []
    for flag in ("as_json", "yes", "resume", "cuda_graphs"):
        assert values.pop(flag) is False
    assert set(values.values()) == {None}


def test_the_model_folder_comes_from_the_option_then_the_environment():
    assert parse(env={"MEDUSA_MODEL": "there"})["model"] == "there"
    assert parse("-m", "here", env={"MEDUSA_MODEL": "there"})["model"] == "here"


def test_options_are_parsed():
    values = parse(
        *("--tasks", "b, a,b,"),
        *("--data", "one:/x:y", "--data", "t=two"),
        *("--size", "288X384", "--lr", "1e-3", "--epochs", "0.5"),
    )
    assert values["tasks"] == ["b", "a"]
    assert values["data"] == ["one:/x:y", "t=two"]
    assert values["size"] == [288, 384]
    assert (values["lr"], values["epochs"]) == (0.001, 0.5)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(json_values)
def test_settings_take_any_json_value(value):
    values = parse("--set", f"head.width={json.dumps(value)}")
    assert values["settings"] == {"head": {"width": value}}


def test_settings_that_are_not_json_are_text():
    values = parse("--set", "head.norm=batch", "--set", "head.a=1=2", "--set", "task.x=NaN")
    assert values["settings"] == {"head": {"norm": "batch", "a": "1=2"}, "task": {"x": "NaN"}}


@pytest.mark.parametrize(
    "args",
    [
        ("--size", "288"),
        ("--size", "0x5"),
        ("--tasks", ","),
        ("--set", "width=64"),
        ("--set", "head.width"),
        ("--set", "head.width=1", "--set", "head.width=2"),
        ("--steps", "0"),
        ("--lr", "0"),
        ("--batch", "-1"),
    ],
)
def test_nonsense_is_a_usage_error(args):
    assert "Invalid value" in fails(*args)


def test_examples_keep_their_lines():
    output = CliRunner().invoke(show, ["--help"]).output
    assert "  Examples:\n    medusa x\n    medusa y --json\n" in output


def test_a_setting_nested_too_deeply_is_text():
    text = "[" * 100_000
    assert parse("--set", f"head.width={text}")["settings"] == {"head": {"width": text}}


@pytest.mark.parametrize(("given", "parsed"), [("auto", "auto"), ("7", 7)])
def test_a_batch_is_a_number_or_auto(given, parsed):
    assert options.NumberOrAuto().convert(given, None, None) == parsed


@pytest.mark.parametrize("given", ["0", "-1", "AUTO", "8.0", "", "9" * 30])
def test_what_is_no_batch(given):
    with pytest.raises(click.BadParameter, match="neither auto nor a number from 1"):
        options.NumberOrAuto().convert(given, None, None)


@pytest.mark.parametrize("given", ["127", "8193", "0", "-5"])
def test_numbers_beside_auto_have_bounds(given: str) -> None:
    assert options.NumberOrAuto(128, 8192).convert("128", None, None) == 128
    with pytest.raises(click.BadParameter, match="from 128 to 8192"):
        options.NumberOrAuto(128, 8192).convert(given, None, None)
