"""Heads trained one after the other on one backbone, from one cache, each committed on its own."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from medusa_core.backbones.timm_backbone import Backbone
from medusa_core.data.geometry import fixed_views
from medusa_core.engine import checkpoint
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import Source
from medusa_core.engine.cache_folder import cache_folder, cache_limit, check_room, free_space
from medusa_core.engine.datasets import labelled_split
from medusa_core.engine.feature_cache import CachedTask, cache_each, cache_sizes
from medusa_core.engine.head_training import HeadTraining
from medusa_core.engine.outcome import Outcome, TrainSettings
from medusa_core.engine.report import training_report
from medusa_core.engine.training_log import json_lines
from medusa_core.errors import MedusaError, NameTakenError, StoreError, TrainingError, UsageError
from medusa_core.heads.base import Head
from medusa_core.model import probe
from medusa_core.model.assembly import added, make_head
from medusa_core.model.devices import seeded
from medusa_core.model.memory import is_out_of_memory
from medusa_core.model.trial import try_head
from medusa_core.plugin_host.host import Host
from medusa_core.plugin_host.importing import FAILURES, describe
from medusa_core.progress import Progress
from medusa_core.store import commit
from medusa_core.store.commit import NewHead
from medusa_core.store.folder import ModelFolder
from medusa_core.store.layout import Layout
from medusa_core.store.manifest import BackboneRecord, HeadManifest
from medusa_core.store.transaction import training
from medusa_core.workflows import preparation
from medusa_core.workflows.training import finishing, target_range
from medusa_core.workflows.training.head_plan import Plan, TrainOptions

PATIENT_EVALUATIONS = 20
"""Evaluations of a training that may stop early: as often as it can."""


@dataclass
class HeadRun:
    """What the heads of one command have in common.

    backbone: on the CPU, where features of the probe are computed; `add` moves it to `device`.
    cached: features and targets that are ready, by head; or why not.
    """

    host: Host
    model: Path
    backbone: Backbone
    record: BackboneRecord
    options: TrainOptions
    device: str
    progress: Progress
    split: str = "train"
    replace: bool = False
    cached: dict[str, CachedTask | BaseException] = field(default_factory=dict)

    def add(self, plans: Sequence[Plan]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Train and commit head after head. Several of them are independent of each other.

        Returns:
            What was added, by head; and of the others, what is wrong (`error`, `hint`).

        Raises:
            MedusaError: of the only head; or before anything was added: a usage error, or a cache
                that could not hold what one of them needs.
        """
        done, failed = {}, {}
        self.needed_room(plans)  # of all, before any work
        features = probe.probe_features(self.backbone)
        self.backbone.to(self.device)
        for plan in plans:
            try:
                done[plan.name] = self._add(plan, plans, features)
            except FAILURES as err:
                wrong_usage = isinstance(err, UsageError) and not isinstance(err, NameTakenError)
                if len(plans) == 1 or (wrong_usage and not done):
                    raise
                known = err if isinstance(err, MedusaError) else MedusaError(describe(err))
                failed[plan.name] = {"error": known.message, "hint": known.hint}
                self.progress.message(f"{plan.name} is not added: {known.message}")
            self.cached.pop(plan.name, None)  # its files may be deleted now
        return done, failed

    def describe(self, plan: Plan) -> dict[str, Any]:
        """What would be trained, and how."""
        return {
            "task": plan.task.spec.name,
            "head": plan.ref.model_dump(mode="json"),
            "data": plan.dataset.name,
            "images": len(plan.dataset),
            "size": list(plan.size),
            "steps": plan.steps,
            "classes": len(plan.labels.names) if plan.labels else None,
            "skipped": preparation.shown_skipped(plan.skipped),
        }

    def needed_room(self, plans: Sequence[Plan]) -> dict[str, Any]:
        """Bytes that would be written to the cache, free on its disk, and its limit.

        Raises:
            StoreError: they would not fit.
        """
        missing: dict[Path, int] = {}
        for plan in plans:
            _, source, bindings = self._group(plan, plans)
            files = cache_sizes(self.backbone, self.record.fingerprint, source, bindings)
            check_room(
                cache_folder(),
                sum(size for path, size in files.items() if not path.exists()),
                files,
            )
            missing |= {path: size for path, size in files.items() if not path.exists()}
        free = free_space(cache_folder())
        return {
            "folder": str(cache_folder()),
            "bytes": sum(missing.values()),
            "free": free,
            "limit": cache_limit(),
        }

    def cache(self, plan: Plan, plans: Sequence[Plan]) -> CachedTask:
        """Features and targets of a head; together with those that share its features.

        Raises:
            DataError: its target cannot be read. StoreError: there is no room.
        """
        if plan.name not in self.cached:
            group, source, bindings = self._group(plan, plans)
            names = [one.name for one in group]
            try:
                found = cache_each(
                    self.backbone, self.record.fingerprint, source, bindings, self.progress
                )
            except FAILURES as err:
                self.cached |= dict.fromkeys(names, err)
                raise
            self.cached |= dict(zip(names, found, strict=True))
        cached = self.cached[plan.name]
        if isinstance(cached, BaseException):
            raise cached
        return cached

    def _group(self, plan: Plan, plans: Sequence[Plan]) -> tuple[list[Plan], Source, list[Binding]]:
        """The plans that are cached in one pass with this one: same images, size and views."""

        def key(one: Plan) -> object:
            return one.dataset.digest, one.size, _views(one, self.options)

        group = [one for one in plans if key(one) == key(plan)]
        source = Source(plan.dataset, plan.size, _views(plan, self.options))
        return group, source, [Binding(one.task, one.labels) for one in group]

    def _add(self, plan: Plan, plans: Sequence[Plan], features: list[Tensor]) -> dict[str, Any]:
        channels, owner = plan.task.out_channels, plan.head_owner
        try_head(self.host, plan.ref, self.backbone.info, channels, owner)
        with training(self.model, plan.name):
            before = self._before(plan.name)
            cached = self.cache(plan, plans)
            parts = self._parts(plan, cached)
            far = self.options.lr * plan.steps
            target_range.tell(plan.task, cached, parts[0], far, self.progress)
            started = time.perf_counter()
            head, outcome, batch = self.train(plan, cached, parts)
            plan = self._of_length(plan, len(parts[0]), batch)
            seconds = time.perf_counter() - started
            if before is not None:
                _require_score(plan, outcome.best)
            try:
                committed = finishing.new_head(
                    self.host,
                    plan.task,
                    plan.ref,
                    head,
                    self.backbone,
                    self.record.fingerprint,
                    features,
                    plan.size,
                    outcome,
                    self._provenance(plan, parts, outcome, batch),
                    plan.head_owner,
                )
                replaced = self._commit(plan.name, committed)
            except KeyboardInterrupt:
                self.progress.message(
                    f"The finished training of {plan.name} is kept: add --resume to have its head."
                )
                raise
        if before is not None:
            self._compare(plan, before, outcome.best)
        self.host.tell(added(self.model, plan.name, committed.manifest, replaced))
        log = json_lines(outcome.log)
        layout, manifest = Layout(self.model), committed.manifest
        return {
            **self.describe(plan),
            "images": sum(map(len, parts)),
            "batch": batch,
            "metrics": manifest.metrics,
            "before": None if before is None else before.metrics,
            "primary": plan.task.spec.primary_metric.name,
            "unit": plan.task.spec.primary_metric.unit,
            "stopped_at": outcome.stopped_at,
            "params": manifest.params,
            "gmacs": manifest.gmacs,
            "share_of_backbone": manifest.gmacs / self.record.gmacs,
            "cpu_seconds": round(outcome.cpu_seconds, 1),
            "seconds": round(seconds, 1),
            "report": finishing.draw_report(
                plan.name,
                lambda: training_report(plan.name, plan.task, head, cached, parts[1], outcome),
                layout.report(plan.name),
                self.progress,
            ),
            "log": finishing.write_report(layout.log(plan.name), log, self.progress),
        }

    def _before(self, name: str) -> HeadManifest | None:
        """The head that is to be replaced, where it is there and can be read."""
        with ModelFolder.open(self.model) as folder:
            return folder.heads.get(name) if self.replace else None

    def _compare(self, plan: Plan, before: HeadManifest, figures: Mapping[str, float]) -> None:
        """Tell how the head that was replaced scored in its own training."""
        metric = plan.task.spec.primary_metric
        old, new = before.metrics.get(metric.name), figures[metric.name]
        if old is not None:
            unit = f" {metric.unit}" if metric.unit else ""
            self.progress.message(
                f"{plan.name}: {metric.name} {new:.4g}{unit}, {old:.4g}{unit} before, each on what "
                "its own training chose weights by."
            )

    def _parts(self, plan: Plan, cached: CachedTask) -> tuple[list[int], list[int]]:
        """Samples to train on and to choose weights by, of those that have the target."""
        labelled, target = cached.labelled(), plan.task.spec.target_name
        preparation.tell_labelled(plan.name, plan.dataset, labelled, target, self.progress)
        return labelled_split(plan.dataset, labelled, target)

    def _of_length(self, plan: Plan, images: int, batch: int) -> Plan:
        """The plan with as many steps as its epochs of these images take, in such batches."""
        epochs = self.options.epochs
        if epochs is None:
            return plan
        return replace(plan, steps=preparation.count_steps(None, epochs, 1, images, batch))

    def train(
        self, plan: Plan, cached: CachedTask, parts: tuple[list[int], list[int]]
    ) -> tuple[Head, Outcome, int]:
        """The trained head, how it went, and the batch size that fitted into memory.

        Raises:
            TrainingError: it diverged, or ran out of memory; then the batch size is named.
        """
        batch, resume = self._first_batch(plan), self.options.resume
        while True:
            try:
                timed = self._of_length(plan, len(parts[0]), batch)
                return *self._train(timed, cached, parts, batch, resume), batch
            except FAILURES as err:
                if not is_out_of_memory(err):
                    raise
                smaller = max(1, batch // 2)
                if batch == smaller or not self.options.smaller_batches:
                    raise TrainingError(
                        f"Training {plan.name}: out of memory with --batch {batch} at "
                        f"{plan.size[0]}x{plan.size[1]}.",
                        hint=f"Try --batch {smaller}, --batch auto, or a smaller --size.",
                    ) from err
                self.progress.message(
                    f"Training {plan.name}: out of memory with --batch {batch}; starting again "
                    f"with {smaller}."
                )
                batch, resume = smaller, False

    def _first_batch(self, plan: Plan) -> int:
        """As asked for; or what fitted before the training that is taken up was interrupted."""
        asked = self.options.batch
        if not (self.options.resume and self.options.smaller_batches):
            return asked
        saved = checkpoint.saved_setting(Layout(self.model).work(plan.name), "batch")
        return saved if isinstance(saved, int) and 1 <= saved < asked else asked

    def _train(
        self,
        plan: Plan,
        cached: CachedTask,
        parts: tuple[list[int], list[int]],
        batch: int,
        resume: bool,
    ) -> tuple[Head, Outcome]:
        options, progress = self.options, self.progress
        settings = TrainSettings(
            plan.steps,
            batch,
            options.lr,
            options.seed,
            precision=options.precision,
            cuda_graphs=options.cuda_graphs,
            **_patience(options.patience),
        )
        identity = {
            "task": plan.task.spec.name,
            "head": plan.ref.model_dump(mode="json"),
            "plugins": finishing.plugins(self.host, plan.task.spec, plan.ref, plan.head_owner),
            "data": plan.dataset.digest,
            "images": len(parts[0]),
            "size": list(plan.size),
            "views": len(_views(plan, options)),
            "backbone": self.record.fingerprint,
        }
        work = Layout(self.model).work(plan.name)
        with seeded(self.device, options.seed):
            head = make_head(
                self.host, plan.ref, self.backbone.info, plan.task.out_channels, plan.head_owner
            )
            run = HeadTraining(
                plan.task, head, cached, parts, settings, identity, work, self.device
            )
            preparation.resume(run, resume, plan.name, progress)
            board = Path(options.tensorboard) / plan.name if options.tensorboard else None
            log = preparation.training_log(run, board, progress)
            outcome = run.run(progress, f"Training {plan.name}", log)
        return head, outcome

    def _provenance(
        self, plan: Plan, parts: tuple[list[int], list[int]], outcome: Outcome, batch: int
    ) -> dict[str, Any]:
        options, stopped = self.options, outcome.stopped_at
        return {
            "data": [str(ref) for ref in plan.data],
            "dataset": plan.dataset.name,
            "dataset_digest": plan.dataset.digest,
            "split": self.split,
            "images": len(parts[0]),
            "selection_images": len(parts[1]),
            "steps": plan.steps,
            **({"stopped_at": stopped, "patience": options.patience} if stopped else {}),
            "batch": batch,
            "lr": options.lr,
            "seed": options.seed,
            "views": len(_views(plan, options)),
            "precision": options.precision,
            **({"skipped": preparation.shown_skipped(plan.skipped)} if plan.skipped else {}),
        }

    def _commit(self, name: str, head: NewHead) -> bool:
        """Commit a trained head; whether it replaced one.

        Where that fails, its training is kept, and the error says so.
        """
        fingerprint = self.record.fingerprint
        try:
            return commit.commit_head(
                self.model, name, head, replace=self.replace, expect_fingerprint=fingerprint
            )
        except NameTakenError as err:
            err.hint = (
                "It was added meanwhile. The finished training is kept, --resume takes it up: "
                f"together with --replace, or after medusa rename-head {name} OTHER."
            )
            raise
        except StoreError as err:
            err.hint = f"{err.hint or ''} The finished training is kept: add --resume.".strip()
            raise


def _require_score(plan: Plan, figures: Mapping[str, float]) -> None:
    """Refuse to replace a head by one that has no score.

    Raises:
        TrainingError: it has none.
    """
    metric = plan.task.spec.primary_metric.name
    if math.isnan(figures.get(metric, math.nan)):
        raise TrainingError(
            f"{metric} of the new head {plan.name!r} cannot be measured: the one that is there "
            "stays.",
            hint="Mend the targets; or take the old head away before: medusa remove-task "
            f"{plan.name}",
        )


def _views(plan: Plan, options: TrainOptions) -> Any:
    return tuple(view for view in fixed_views(options.views) if plan.zooms or view.zoom == 1)


def _patience(patience: int | None) -> dict[str, Any]:
    if patience is None:
        return {}
    return {"patience": patience, "evaluations": PATIENT_EVALUATIONS}
