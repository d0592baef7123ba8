"""`medusa eval`: scores of heads on a data set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from medusa_core.api import Dataset, HeadEvaluated, Task
from medusa_core.engine import evaluator
from medusa_core.engine.binding import Binding
from medusa_core.engine.bootstrap import paired_difference
from medusa_core.engine.datasets import (
    DataRef,
    check_target,
    load_dataset,
    require_same_labels,
    shorten,
)
from medusa_core.engine.evaluator import HeadScores
from medusa_core.engine.scores import require_figures
from medusa_core.errors import DataError, LabelsError, UnknownNameError, UsageError
from medusa_core.model.assembly import make_task
from medusa_core.model.execution import Execution
from medusa_core.model.medusa_model import MedusaModel
from medusa_core.names import as_names
from medusa_core.plugin_host.host import Host
from medusa_core.progress import Progress, SilentProgress
from medusa_core.workflows import preparation


def evaluate(
    model: str | Path | MedusaModel = "medusa-model",
    *,
    tasks: Sequence[str] | None = None,
    data: Sequence[str] = (),
    split: str = "val",
    minimum: str | Sequence[str] = (),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    long_side: int | None = None,
    limit: int | None = None,
    on_bad_sample: str = "fail",
    device: str | None = None,
    execution: Execution | None = None,
    host: Host | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score heads, pooled over all images of all data sets that have their target.

    Args:
        model: model folder, or an open model.
        tasks: head names; None: every head that some data set has a target for, of its classes.
        data: as `--data`.
        split: of the data sets.
        minimum: checks, `head.metric=value`; where lower is better, value is the maximum.
        settings: head name → settings of its task for this evaluation, such as
            `{"edges": {"max_distance": 0.011}}`.
        long_side: as in `MedusaModel.predict`.
        limit: at most so many images a data set, evenly spread.
        on_bad_sample: "skip" leaves out samples that cannot be read or used, and counts them.
        device: where to compute.
        execution: how networks are run; None: prepared for inference, in float32.
        host: None: the installed plugins.
        progress: counts images.

    Returns:
        `heads`: figures a head, and whether it was trained on images of these data and split
        (`trained_on_these`), which flatters it; `comparisons`: of heads of one task, how the
        primary metric of the later ones differs from the first one's, with its 95 % interval over
        resamples of the images; `skipped`: heads without a target of theirs here; `unusable`: those
        that cannot be run, and why (where `tasks` names none);
        `skipped_samples`: how many and the first of them, with the reason; `checks` and `ok`.

    Raises:
        UnknownNameError: unknown head, data set, split or metric.
        UsageError: a setting does not exist or does not fit.
        LabelsError: a data set has other classes than a head in `tasks`, or bound to it, or than
            all heads.
        DataError: a sample cannot be read, or no data set has the target of a head in `tasks`.
    """
    progress = progress or SilentProgress()
    preparation.check_on_bad_sample(on_bad_sample)
    bad: dict[str, str] | None = {} if on_bad_sample == "skip" else None
    model = preparation.opened(model, tasks, device, host, execution)
    checks = [_parse_check(text, model, model.select(tasks)) for text in as_names(minimum)]
    judges = _judges(model, model.select(tasks), settings or {})
    if not data:
        _tell_default(model, tasks, progress)
    scores, sources, missing = score(
        model, tasks, preparation.parse_data(data), split, long_side, limit, progress, judges, bad
    )
    heads = {}
    for name, result in scores.items():
        task = judges.get(name, model.tasks[name])
        spec = task.spec
        heads[name] = {
            "task": spec.name,
            "data": sources[name],
            "split": split,
            "images": len(result.scores),
            "images_without_target": result.missing,
            "trained_on_these": result.seen,
            "primary": spec.primary_metric.name,
            "metrics": result.scores.figures(),
            "units": {ref.name: ref.unit for ref in spec.metrics if ref.unit},
            "settings": {} if task.config is None else task.config.model_dump(mode="json"),
        }
    for name, row in heads.items():
        model.host.tell(_event(model.path, name, row))
    verdicts = [_check(heads, *check, model=model) for check in checks]
    return {
        "model": str(model.path),
        "heads": heads,
        "comparisons": list(_comparisons(heads, scores, model)),
        "skipped": missing,
        "unusable": preparation.unusable(model, tasks),
        "skipped_samples": preparation.shown_skipped(bad or {}),
        "checks": verdicts,
        "ok": all(verdict["ok"] for verdict in verdicts),
    }


def _tell_default(model: MedusaModel, tasks: Sequence[str] | None, progress: Progress) -> None:
    """Say which heads are scored on data of another kind than they were trained on."""
    default = ", ".join(preparation.DEFAULT_DATA)
    trained = {name: model.require(name).provenance.get("data") for name in model.select(tasks)}
    named = {name: map(str, data) for name, data in trained.items() if isinstance(data, list)}
    kinds = {n: {text.rpartition("=")[2].partition(":")[0] for text in d} for n, d in named.items()}
    others = [name for name, kind in kinds.items() if not kind <= set(preparation.DEFAULT_DATA)]
    if others:
        progress.message(
            f"No --data given: scoring on {default}, synthetic scenes. {', '.join(others)}: "
            "trained on other data."
        )


def _comparisons(
    heads: Mapping[str, Mapping[str, Any]], scores: Mapping[str, HeadScores], model: MedusaModel
) -> Iterator[dict[str, Any]]:
    """Of heads that were judged alike, on the same images: every later one and the first."""
    first: list[str] = []

    def alike(one: str, other: str) -> bool:
        keys = ("data", "images", "images_without_target", "settings")  # so, the same images
        same = all(heads[one][key] == heads[other][key] for key in keys)
        return same and model.tasks[one].spec == model.tasks[other].spec

    for name, row in heads.items():
        to = next((known for known in first if alike(known, name)), None)
        if to is None or row["images"] == 1:  # nothing to resample
            first.append(name)
            continue
        primary = model.tasks[name].spec.primary_metric
        mine, other = scores[name].scores, scores[to].scores
        difference, interval = paired_difference(mine, other, primary.name)
        yield {
            "head": name,
            "to": to,
            "metric": primary.name,
            "higher_is_better": primary.higher_is_better,
            "difference": difference,
            "interval": list(interval),
        }


def _event(model: Path, name: str, row: Mapping[str, Any]) -> HeadEvaluated:
    figures = {k: (v if v == v else None) for k, v in row["metrics"].items()}
    return HeadEvaluated(
        model,
        name,
        row["task"],
        tuple(row["data"]),
        row["split"],
        row["images"],
        MappingProxyType(figures),
    )


def score(
    model: MedusaModel,
    tasks: Sequence[str] | None,
    refs: Sequence[DataRef],
    split: str,
    long_side: int | None,
    limit: int | None,
    progress: Progress,
    judges: Mapping[str, Task] | None = None,
    bad: dict[str, str] | None = None,
) -> tuple[dict[str, HeadScores], dict[str, list[str]], list[str]]:
    """Statistics a head, the data sets they come from, and the heads no data set has a target for.

    `judges` are tasks with other settings, by the names of their heads. `bad`, where given, takes
    the samples that cannot be used, and why; they are left out.

    Raises:
        DataError: no data set has the target of a head named in `tasks`.
    """
    names = model.require_some(tasks)
    specs = [model.tasks[name].spec for name in names]
    preparation.require_bindings_used(refs, [*names, *(spec.name for spec in specs)])
    wholes = [load_dataset(model.host, ref, split) for ref in refs]
    datasets = [(ref, shorten(whole, limit)) for ref, whole in zip(refs, wholes, strict=True)]
    bound, foreign = _bound(model, names, tasks is not None, datasets, judges or {})

    def require_targets(missing: Sequence[str]) -> None:
        if foreign and len(missing) == len(names):
            raise next(iter(foreign.values()))
        if missing and (tasks is not None or len(missing) == len(names)):
            shown = ", ".join(str(ref) for ref in refs)
            raise DataError(
                f"No target for {', '.join(missing)} in {shown} (split {split!r}).",
                hint="Choose data with --data [TASK=]NAME:PATH.",
            )

    require_targets([name for name in names if not any(name in here for here in bound)])
    for other in foreign.values():
        progress.message(f"Left out: {other.message}")
    parts = [(str(ref), whole.split, whole.digest) for ref, whole in zip(refs, wholes, strict=True)]
    results: dict[str, HeadScores] = {}
    sources: dict[str, list[str]] = {}
    for (ref, dataset), bindings in zip(datasets, bound, strict=True):
        if not bindings:
            continue
        unusable: dict[str, str] | None = None if bad is None else {}
        found_here = evaluator.evaluate(model, dataset, bindings, progress, long_side, unusable)
        if bad is not None and unusable:
            bad |= {f"{ref}: {name}": why for name, why in unusable.items()}
            measured = any(len(found.scores) for found in found_here.values())
            if len(unusable) == len(dataset) and not measured:
                first, why = next(iter(unusable.items()))
                raise DataError(f"{ref}: no sample of split {split!r} can be used: {first}: {why}")
        for name, found in found_here.items():
            sources.setdefault(name, []).append(str(ref))
            if name in results:
                results[name].scores.extend(found.scores)
                results[name].missing += found.missing
            else:
                results[name] = found
    missing = [name for name in names if name not in results or not len(results[name].scores)]
    require_targets(missing)
    for name, found in results.items():
        provenance = model.require(name).provenance
        found.seen = any(_is_of(provenance, *part) for part in parts if part[0] in sources[name])
        if found.seen:
            progress.message(
                f"{name} was trained on images of this split ({split!r}): its scores here say "
                "nothing of new ones."
            )
    return {name: results[name] for name in names if name not in missing}, sources, missing


def _is_of(provenance: Mapping[str, Any], data: str, split: str, digest: str) -> bool:
    """Whether a training was on a split of a data set, or part of it: by name, or by content."""
    named = provenance.get("data")
    names = [str(text).rpartition("=")[2] for text in named] if isinstance(named, list) else []
    by_name = data.rpartition("=")[2] in names and provenance.get("split") == split
    return by_name or provenance.get("dataset_digest") == digest


def _bound(
    model: MedusaModel,
    names: Sequence[str],
    named: bool,
    datasets: Sequence[tuple[DataRef, Dataset]],
    judges: Mapping[str, Task],
) -> tuple[list[dict[str, Binding]], dict[str, LabelsError]]:
    """The heads that each data set has a target for, before any of them is evaluated.

    Returns:
        Head → binding, for each data set; and the heads whose classes are others than those of
        data that no one has bound to them, which is an error where heads are `named`.
    """
    refs = [ref for ref, _ in datasets]
    bound: list[dict[str, Binding]] = []
    foreign: dict[str, LabelsError] = {}
    for ref, dataset in datasets:
        bound.append({})
        for name in names:
            spec = model.tasks[name].spec
            has_target = spec.target.source == "image" or spec.target_name in dataset.targets
            task = preparation.bound_to(refs, name, spec.name)
            if ref.task != task or not (task is not None or has_target):
                continue
            labels = check_target(dataset, spec)
            both = f"Head {name!r} (first) and {dataset.name}"
            try:
                require_same_labels(model.tasks[name].labels, labels, both)
            except LabelsError as err:
                if named or task is not None:
                    raise
                foreign[name] = err  # it is not what these data are for
                continue
            bound[-1][name] = Binding(judges.get(name, model.tasks[name]), labels)
            require_figures(bound[-1][name])
    return bound, foreign


def _judges(
    model: MedusaModel, names: Sequence[str], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, Task]:
    """The tasks of the heads that `settings` names, with these settings."""
    judges = {}
    for name, chosen in settings.items():
        if name not in names:
            raise UnknownNameError("head", name, names, hint=f"It is named in --set {name}.….")
        task = model.tasks[name]
        judges[name] = make_task(model.host, task.spec, task.labels, chosen)
    return judges


def _parse_check(text: str, model: MedusaModel, names: Sequence[str]) -> tuple[str, str, float]:
    match = re.fullmatch(r"([a-z]\w*)\.([a-z]\w*)=([-+.\deE]+)", text)
    if match is None:
        raise UsageError(
            f"--min {text!r} is not of the form HEAD.METRIC=VALUE.",
            hint="For example: --min semseg.miou=0.4",
        )
    head, metric = match[1], match[2]
    if head in model.orphans:
        raise model.orphans[head]
    if head not in names:
        raise UnknownNameError("head", head, names, hint=f"It is named in --min {text}.")
    known = [ref.name for ref in model.tasks[head].spec.metrics]
    if metric not in known:
        raise UnknownNameError("metric", metric, known, hint=f"These are the metrics of {head!r}.")
    try:
        return head, metric, float(match[3])
    except ValueError:
        raise UsageError(f"--min {text!r}: {match[3]!r} is not a number.") from None


def _check(
    heads: dict[str, Any], head: str, metric: str, value: float, model: MedusaModel
) -> dict[str, Any]:
    got = heads[head]["metrics"][metric] if head in heads else None
    ref = next(ref for ref in model.tasks[head].spec.metrics if ref.name == metric)
    return {
        "head": head,
        "metric": metric,
        "wanted": value,
        "higher_is_better": ref.higher_is_better,
        "value": got,
        "ok": got is not None and bool(got >= value if ref.higher_is_better else got <= value),
    }
