"""What trainings leave behind: the record of a head, reports, the versions that made them."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import timm
import torch
from torch import Tensor

from medusa_core import __version__
from medusa_core.api import API_VERSION, HeadRef, Task, TaskSpec
from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.data.geometry import Size
from medusa_core.engine.outcome import Outcome
from medusa_core.errors import StoreError, TrainingError
from medusa_core.heads.base import Head
from medusa_core.model import costs, probe
from medusa_core.plugin_host.host import Host
from medusa_core.plugin_host.importing import FAILURES, describe
from medusa_core.progress import Progress
from medusa_core.store import files, weights
from medusa_core.store.commit import NewHead
from medusa_core.store.manifest import HeadManifest, Owner
from medusa_core.store.records import sha256


def new_head(
    host: Host,
    task: Task,
    ref: HeadRef,
    head: Head,
    backbone: Backbone,
    fingerprint: str,
    probe_features: list[Tensor],
    size: Size,
    outcome: Outcome,
    provenance: dict[str, Any],
    head_owner: str | None = None,
) -> NewHead:
    """A trained head as the store takes it: weights, costs, probe, where it comes from.

    `head_owner` is the distribution that its architecture is of, None where there is but one.
    """
    head = head.cpu().eval().requires_grad_(False)
    output = probe.probe_output(head, probe_features)
    if not output.isfinite().all():  # what `verify` replays would equal everything
        raise TrainingError(
            f"The {ref.name} head of task {task.spec.name!r} says NaN or infinity of a plain image "
            "in evaluation mode; it is not added.",
            hint="Look at its `forward`, or lower --lr.",
        )
    data = weights.to_bytes(head.state_dict())
    owner, builder = _owners(host, task.spec, ref, head_owner)
    manifest = HeadManifest(
        task=task.spec.name,
        head=ref,
        owner=owner,
        head_owner=builder,
        api_version=API_VERSION,
        labels=task.labels,
        unit=task.spec.output.unit,
        size=size,
        fingerprint=fingerprint,
        sha256=sha256(data),
        params=costs.parameters(head),
        gmacs=costs.head_gmacs(head, backbone.info),
        metrics={k: (v if v == v else None) for k, v in outcome.best.items()},
        probe=probe.record(output),
        provenance={
            **provenance,
            "best_step": outcome.best_step,
            "cpu_seconds": round(outcome.cpu_seconds, 1),
            **({"restarts": outcome.restarts} if outcome.restarts else {}),
            "curve": [{k: _rounded(v) for k, v in point.items()} for point in outcome.curve],
            "versions": versions(),
        },
    )
    return NewHead(manifest, data)


def _owners(host: Host, task: TaskSpec, ref: HeadRef, head_owner: str | None) -> list[Owner]:
    """Of a task, and of an architecture."""
    providers = host.owner(task), host.heads.entry(ref.name, distribution=head_owner).provider
    return [Owner(distribution=p.distribution, version=p.version) for p in providers]


def plugins(host: Host, task: TaskSpec, ref: HeadRef, head_owner: str | None) -> list[str]:
    """What a training depends on: the plugins of a task and of a head, and their versions."""
    owners = _owners(host, task, ref, head_owner)
    return [f"{owner.distribution} {owner.version}" for owner in owners]


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {
        "medusa": __version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def draw_report(what: str, draw: Callable[[], bytes], path: Path, progress: Progress) -> str | None:
    """Draw the picture of a training and write it. What was trained is committed by then.

    Args:
        what: was trained.
        draw: the PNG, by plugins among others: it may fail in any way.
        path: as in `write_report`.
        progress: told if there is no picture.

    Returns:
        As `write_report`.
    """
    try:
        png = draw()
    except FAILURES as err:
        progress.message(f"No report of {what}: {describe(err)}.")
        return None
    return write_report(path, png, progress)


def write_report(path: Path, data: bytes, progress: Progress) -> str | None:
    """Put a picture or the records of a training where people find them.

    Args:
        path: by `Layout.report` or one of its kind.
        data: of the file.
        progress: told if it cannot be written: no head depends on it.

    Returns:
        The path, None where it could not be written.
    """
    try:
        files.make_folder(path.parent)
        files.rewrite(path, data)  # in place of a link, not through it
    except StoreError as err:
        progress.message(f"The report could not be written: {err}")
        return None
    return str(path)


def _rounded(value: float) -> float | None:
    return float(f"{value:.6g}") if value == value else None
