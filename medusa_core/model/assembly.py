"""Building tasks and heads from names, settings and stored records."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from medusa_core.api import FeatureInfo, HeadAdded, HeadRef, HeadSpec, LabelSchema, Task, TaskSpec
from medusa_core.backbones.timm_backbone import BackboneDescription
from medusa_core.errors import PluginError, UsageError, WeightsError
from medusa_core.heads.base import Head
from medusa_core.plugin_host.attribution import AttributedTask
from medusa_core.plugin_host.host import Host
from medusa_core.plugin_host.importing import FAILURES, attributed
from medusa_core.plugin_host.registry import Entry
from medusa_core.plugin_host.report import PluginState
from medusa_core.problems import problems
from medusa_core.store.manifest import BackboneRecord, HeadManifest, Owner


def make_task(
    host: Host,
    spec: TaskSpec,
    labels: LabelSchema | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Task:
    """The behaviour of a task, bound to the classes it predicts.

    Args:
        host: knows the plugins.
        spec: of the task.
        labels: its classes.
        settings: what differs from its defaults; strings are converted.

    Raises:
        PluginError: the plugin cannot provide it.
        UsageError: a setting does not exist or does not fit; lists all problems.
    """
    model, provider = host.config_model(spec), host.owner(spec)
    if model is None and settings:
        raise UsageError(f"Task {spec.name!r} has no settings.")
    with (
        _of_the_plugin(host, spec, bool(settings), "config_model"),
        attributed(provider, f"task {spec.name!r}"),
    ):
        config = None if model is None else _validated(model, settings or {}, f"task {spec.name!r}")
        task = host.implementation(spec)(spec, labels if spec.has_labels else None, config)
        if not isinstance(task, Task):
            raise TypeError(f"{spec.implementation} is not a Task")
        return AttributedTask(task, provider)


def complete_head_ref(
    host: Host, task: TaskSpec, name: str | None, settings: Mapping[str, Any]
) -> HeadRef:
    """The head architecture with every setting spelled out.

    Args:
        host: knows the architectures.
        task: its default head is used, with its settings, where `name` is None or the same.
        name: architecture asked for, `name` or `provider:name`.
        settings: what the user set; strings are converted.

    Raises:
        UnknownNameError: no such architecture.
        UsageError: a setting does not exist or does not fit; lists all problems.
    """
    default, entry = task.default_head, choose_architecture(host, task, name)
    spec = entry.spec
    chosen = {**(default.config if spec.name == default.name else {}), **settings}
    asked = name is not None or bool(settings)
    with (
        _of_the_plugin(host, task, asked, "default_head"),
        attributed(entry.provider, f"the settings of head {spec.name!r}"),
    ):
        config = _validated(host.config_model(spec), chosen, f"head {spec.name!r}", "head.")
        return HeadRef(name=spec.name, config=config.model_dump(mode="json"))


@contextmanager
def _of_the_plugin(host: Host, task: TaskSpec, asked: bool, field: str) -> Iterator[None]:
    """What is wrong although the user asked for nothing is a matter of the task's plugin."""
    try:
        yield
    except UsageError as err:
        if asked:
            raise
        provider = host.owner(task)
        raise PluginError(
            f"Plugin {provider.label}: {field} of task {task.name!r}: {err.message}",
            hint=f"This is for its authors. To do without it: {provider.without}",
        ) from err


def choose_architecture(host: Host, task: TaskSpec, name: str | None) -> Entry[HeadSpec]:
    """The architecture asked for, or the default of a task, and who provides it.

    Where several plugins provide the default of a task, that of the task's own is meant.
    """
    if name is None:
        own = host.heads.find(task.default_head.name, host.owner(task).distribution)
        return own or host.heads.entry(task.default_head.name)
    return host.heads.entry(name)


def _validated(
    model: type[BaseModel], settings: Mapping[str, Any], what: str, prefix: str = ""
) -> BaseModel:
    try:
        config = model.model_validate(settings)
    except ValidationError as err:
        known = ", ".join(model.model_fields) or "none"
        raise UsageError(
            f"Settings of {what}: {problems(err, prefix)}.", hint=f"Its settings: {known}."
        ) from err
    for name, value in settings.items():
        if isinstance(value, bool) and not isinstance(getattr(config, name, value), bool):
            raise UsageError(f"Settings of {what}: {prefix}{name}: {value} is no number.")
    return config


def make_head(
    host: Host,
    ref: HeadRef,
    features: FeatureInfo,
    out_channels: int,
    distribution: str | None = None,
) -> Head:
    """A head with fresh weights (global torch generator), of any plugin or that of one.

    Raises:
        PluginError: the architecture cannot be built.
    """
    entry = host.heads.entry(ref.name, distribution=distribution)
    config_model, build = host.config_model(entry.spec), host.implementation(entry.spec)
    with attributed(entry.provider, f"head architecture {ref.name!r}"):
        upsamples = getattr(build, "upsamples", False)  # others need not know where levels are from
        known = features if upsamples else FeatureInfo(features.channels, features.strides)
        head = build(known, out_channels, config_model.model_validate(ref.config))
        if not isinstance(head, Head):
            raise TypeError(f"{entry.spec.implementation} gave {type(head).__name__}, not a Head")
        head.provider = entry.provider
        head.wanted_features, head.wanted_channels = features, out_channels
        return head.to(memory_format=torch.channels_last)


def restore_head(
    host: Host,
    name: str,
    stored: HeadManifest,
    features: FeatureInfo,
    tensors: Mapping[str, Tensor],
) -> tuple[Task, Head]:
    """The task and the module of a stored head, in evaluation mode, its weights fixed.

    Raises:
        PluginError: the plugin of its task or architecture is not installed, or broken.
        WeightsError: the weights do not fit the architecture; lists all differences. Where the
            plugin is of another version now, that is a PluginError.
    """
    spec = find_task(host, name, stored)
    owner = stored.owner
    try:
        task = make_task(host, spec, stored.labels)
        channels, owner = task.out_channels, stored.head_owner
        build = partial(make_head, host, stored.head, features, channels, owner.distribution)
        _size_up(build, tensors, f"head {name!r}")
        with torch.random.fork_rng(devices=[]):
            head = build()
        load_strictly(head, tensors, f"head {name!r}")
    except (PluginError, UsageError, WeightsError) as err:  # of another version, or failing
        advice = trained_with(host, stored)
        if advice is None and isinstance(err, WeightsError):
            raise
        raise PluginError(
            f"Head {name!r} cannot be built from what is installed: {err.message}",
            hint=advice or f"Look closer: medusa plugins doctor {shlex.quote(owner.distribution)}",
        ) from err
    return task, head.eval().requires_grad_(False)


def _size_up(build: Callable[[], Head], tensors: Mapping[str, Tensor], what: str) -> None:
    """Compare a head with its file before memory is taken for it: a record may ask for any size.

    Raises:
        WeightsError: they do not fit.
    """
    try:
        with torch.device("meta"):
            skeleton = build()
    except FAILURES:  # a head that cannot be built without values
        return
    _require_fit(skeleton, tensors, what)


def find_task(host: Host, name: str, stored: HeadManifest) -> TaskSpec:
    """The spec of a stored head's task, from the distribution it was trained with.

    Raises:
        PluginError: nobody provides it (the hint is what to load or install), or its plugin twice.
    """
    for kind, registry, wanted, owner in (
        ("task", host.tasks, stored.task, stored.owner),
        ("head architecture", host.heads, stored.head.name, stored.head_owner),
    ):
        provided = [e.provider.distribution for e in registry if e.spec.name == wanted]
        if owner.distribution not in provided:
            why, advice = host.unloaded(owner.distribution) or ("", "")
            known = {r.distribution for r in host.reports if r.state is PluginState.LOADED}
            if not why or owner.distribution in known:  # it may be another version that has it
                advice = ". Or: ".join(filter(None, (advice, _pip_line(owner))))
            raise PluginError(
                f"Head {name!r} needs the {kind} {wanted!r} of {owner.distribution} "
                f"{owner.version}, which is not available." + (f" {why}." if why else ""),
                hint=advice,
            )
    try:
        return host.tasks.get(stored.task, distribution=stored.owner.distribution)
    except UsageError as err:  # registered twice
        raise PluginError(f"Head {name!r}: {err.message}", hint=err.hint) from err


def version_changes(host: Host, name: str, stored: HeadManifest) -> list[str]:
    """A line for each plugin of a head that is of another version now than when it was trained."""
    return [
        f"Head {name!r} was trained with {owner.distribution} {owner.version}, {now} is installed."
        for owner, now in _changed_owners(host, stored)
    ]


def trained_with(host: Host, stored: HeadManifest) -> str | None:
    """What to install for a head whose plugins are of other versions now; None where none is."""
    lines = [_pip_line(owner) for owner, _ in _changed_owners(host, stored)]
    return f"It was trained with: {', '.join(lines)}" if lines else None


def _changed_owners(host: Host, stored: HeadManifest) -> list[tuple[Owner, str]]:
    entries: tuple[tuple[Entry[Any] | None, Owner], ...] = (
        (host.tasks.find(stored.task, stored.owner.distribution), stored.owner),
        (host.heads.find(stored.head.name, stored.head_owner.distribution), stored.head_owner),
    )
    changed = {
        owner.distribution: (owner, entry.provider.version)
        for entry, owner in entries
        if entry is not None and entry.provider.version != owner.version
    }
    return list(changed.values())


def _pip_line(owner: Owner) -> str:
    """For people to copy: what a record says must not become a command of its own."""
    wanted = f"{owner.distribution}=={owner.version}"
    quoted = shlex.quote(wanted)
    return f"pip install {quoted if quoted != wanted else repr(wanted)}"


def added(model: Path, name: str, stored: HeadManifest, replaced: bool = False) -> HeadAdded:
    """What observers are told of a head that was committed."""
    return HeadAdded(
        model,
        name,
        stored.task,
        stored.owner.distribution,
        stored.owner.version,
        MappingProxyType(dict(stored.metrics)),
        replaced,
    )


def load_strictly(module: torch.nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Copy tensors into a module; every key, shape and dtype must agree.

    Raises:
        WeightsError: lists all differences.
    """
    _require_fit(module, tensors, what)
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            tensor.copy_(tensors[key])


def _require_fit(module: torch.nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    own = module.state_dict()
    problems = [f"{key} is missing" for key in own if key not in tensors]
    problems += [f"{key} is unknown" for key in tensors if key not in own]
    for key in own.keys() & tensors.keys():
        stored, here = tensors[key], own[key]
        if stored.shape != here.shape or stored.dtype != here.dtype:
            problems.append(
                f"{key} is {tuple(stored.shape)} {stored.dtype} in the file, "
                f"{tuple(here.shape)} {here.dtype} here"
            )
    if problems:
        raise WeightsError(f"Cannot load {what}: {'; '.join(sorted(problems)[:8])}.")


def description_of(record: BackboneRecord) -> BackboneDescription:
    """What rebuilds the backbone of a model folder."""
    return BackboneDescription(
        name=record.name,
        kwargs=record.kwargs,
        out_indices=record.out_indices,
        mean=record.mean,
        std=record.std,
    )
