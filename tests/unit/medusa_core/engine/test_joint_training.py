import json
from dataclasses import replace
from math import inf, nan
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from medusa_core.backbones import timm_backbone
from medusa_core.backbones.unfold import has_folded_norms
from medusa_core.data.geometry import IDENTITY, View, view_image
from medusa_core.engine import joint_training
from medusa_core.engine.balancing import BALANCES
from medusa_core.engine.binding import Binding
from medusa_core.engine.cache_files import Source
from medusa_core.engine.cache_pass import PADDING
from medusa_core.engine.datasets import selection_split
from medusa_core.engine.feature_cache import cache_images
from medusa_core.engine.joint_training import JointTask, JointTraining, random_views
from medusa_core.engine.outcome import TrainSettings
from medusa_core.engine.report import joint_report
from medusa_core.engine.schedule import one_cycle
from medusa_core.engine.training_log import JsonLines, TrainingLog
from medusa_core.errors import TrainingError, UsageError
from medusa_core.progress import SilentProgress

SETTINGS = TrainSettings(steps=10, batch=3, lr=1e-2, seed=5, evaluations=3)


class Interrupt(SilentProgress):
    """Presses Ctrl-C once a step is done."""

    def __init__(self, step):
        self.step, self.done = step, 0

    def advance(self, n=1, **figures):
        self.done += n
        if self.done == self.step:
            raise KeyboardInterrupt


def weights(run):
    return {key: value.clone() for key, value in run.module.state_dict().items()}


def changed(before, after, part):
    return any(not torch.equal(before[k], after[k]) for k in before if k.startswith(part))


def records(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        del line["seconds"]
    return lines


@pytest.mark.parametrize(
    ("precision", "balance"), [*(("fp32", balance) for balance in BALANCES), ("bf16", BALANCES[-1])]
)
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(
    make_joint, tmp_path, balance, precision
):
    settings = replace(SETTINGS, precision=precision)
    whole = make_joint("whole", settings, balance=balance)
    log = JsonLines(tmp_path / "whole.jsonl")
    expected = whole.run(SilentProgress(), "whole", TrainingLog([log]))
    first = make_joint(settings=settings, balance=balance)
    parts = JsonLines(tmp_path / "parts.jsonl")
    with pytest.raises(KeyboardInterrupt):
        first.run(Interrupt(7), "first", TrainingLog([parts]))
    second = make_joint(settings=settings, balance=balance)
    assert second.resume()
    assert second.step == 7
    outcome = second.run(SilentProgress(), "second", TrainingLog([parts]))
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(second)[key]), key
    assert str(outcome.curve) == str(expected.curve)
    assert outcome.balance == expected.balance
    assert records(parts.path) == records(log.path)


def test_the_log_has_every_step_and_evaluation_once(make_joint, tmp_path):
    log = JsonLines(tmp_path / "log.jsonl")
    run = make_joint(balance="uncertainty")
    outcome = run.run(SilentProgress(), "x", TrainingLog([log]))
    lines = records(log.path)
    assert [r["step"] for r in lines if r["event"] == "step"] == list(range(1, 11))
    assert [r["step"] for r in lines if r["event"] == "evaluation"] == [3, 6, 10]
    for record in lines:
        assert set(record["losses"]) == set(record["weights"]) == {"depth", "semseg"}
        assert record["lr"] > 0
    last = lines[-1]
    assert last["figures"].keys() >= {"depth.rmse", "semseg.miou"}
    for name in ("depth", "semseg"):
        steps = [r["losses"][name] for r in lines if r["event"] == "step" and r["step"] > 6]
        assert last["losses"][name] == pytest.approx(sum(steps) / 4, rel=1e-4)
        assert outcome.curve[-1][f"loss.{name}"] == pytest.approx(sum(steps) / 4, rel=1e-4)


def test_learning_curves_are_drawn(make_joint):
    run = make_joint()
    outcome = run.run(SilentProgress(), "x")
    png = joint_report({n: t.binding.task for n, t in run.tasks.items()}, outcome)
    assert png.startswith(b"\x89PNG")


def test_the_default_is_plain_adamw_on_the_weighted_sum_bit_for_bit(make_joint):
    """Balances, precisions and logs leave no trace where none is asked for."""
    run, naive = make_joint("run"), make_joint("naive")
    run.run(SilentProgress(), "x")
    optimizer = torch.optim.AdamW(naive.module.parameters(), lr=1.0, weight_decay=1e-4, fused=True)
    states = {}
    for step in range(SETTINGS.steps):
        naive.module.train()
        naive.step = step
        optimizer.param_groups[0]["lr"] = one_cycle(step, SETTINGS.steps, SETTINGS.lr)
        total = torch.stack([1.0 * loss for loss in naive.losses().values()]).sum()
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(naive.module.parameters(), 5.0)
        optimizer.step()
        states[step + 1] = weights(naive)
    kept = states[run.outcome.best_step]
    assert all(torch.equal(value, kept[key]) for key, value in weights(run).items())


@pytest.mark.parametrize("balance", BALANCES)
def test_all_parts_learn(make_joint, balance):
    run = make_joint(balance=balance)
    before = weights(run)
    outcome = run.run(SilentProgress(), "x")
    after = weights(run)
    for part in ("backbone.", "heads.head_depth.", "heads.head_semseg."):
        assert changed(before, after, part), part
    assert {"depth.rmse", "semseg.miou"} <= set(outcome.best)
    assert outcome.balance["method"] == balance
    assert not run.module.training


def test_other_balances_train_other_networks(make_joint):
    runs = [make_joint(name, balance=name) for name in ("fixed", "uncertainty")]
    for run in runs:
        run.run(SilentProgress(), "x")
    assert changed(weights(runs[0]), weights(runs[1]), "backbone.")
    runs[0].save()
    with pytest.raises(UsageError, match="balance: fixed → uncertainty"):
        make_joint("fixed", balance="uncertainty").resume()


def test_losses_are_unweighted_and_float32_in_any_precision(make_joint):
    exact, rough = (make_joint(settings=replace(SETTINGS, precision=p)) for p in ("fp32", "bf16"))
    assert exact.figures() == rough.figures()
    for run in (exact, rough):
        run.module.train()
    first, second = exact.losses(), rough.losses()
    for name, loss in first.items():
        assert second[name].dtype == torch.float32
        assert float(second[name].detach()) == pytest.approx(float(loss.detach()), rel=0.05)
        assert float(second[name].detach()) != float(loss.detach())


def test_a_frozen_backbone_is_not_trained(make_joint):
    backbone = timm_backbone.build(timm_backbone.describe("test_efficientnet")).freeze()
    run = make_joint(net=backbone)
    before = weights(run)
    run.run(SilentProgress(), "x")
    assert not changed(before, weights(run), "backbone.")
    assert changed(before, weights(run), "heads.")


def test_batches_without_a_valid_pixel_are_skipped(make_joint, memory):
    chosen = selection_split(memory(8))[1]
    lacks = {i: {"depth", "semseg"} for i in range(8) if i not in chosen}
    with pytest.raises(TrainingError, match="none of 10 batches"):
        make_joint(data=memory(8, lacks)).run(SilentProgress(), "x")


def test_a_task_that_a_batch_lacks_is_not_touched_by_it(make_joint, memory):
    train = selection_split(memory(8))[0]
    run = make_joint(
        settings=replace(SETTINGS, weight_decay=0.1),
        data=memory(8, {i: {"depth"} for i in train}),
        balance="uncertainty",
    )
    before = weights(run)
    outcome = run.run(SilentProgress(), "x")
    assert not changed(before, weights(run), "heads.head_depth.")
    assert changed(before, weights(run), "heads.head_semseg.")
    assert outcome.balance["log_variances"]["depth"] == 0
    assert outcome.balance["log_variances"]["semseg"] != 0
    assert "loss.depth" not in outcome.curve[-1]


def test_what_is_computed_from_a_view_counts_where_it_is_known_there(make_joint, memory, bind):
    """Pixels of an enlarged picture are mixtures, not as dark as the nearest one."""
    depth = bind("depth").task.spec
    target = depth.target.model_copy(update={"source": "image"})

    def encode(_, image):
        grey = image.mean(axis=2, dtype=np.float32) / 255
        return np.where(grey > 0.5, grey, np.float32(0))

    spec = depth.model_copy(update={"target": target})
    bound = Binding(SimpleNamespace(spec=spec, encode_target=encode), None)
    source = Source(memory(3), (32, 32), (IDENTITY,))
    images, [rows] = cache_images(source, [bound], SilentProgress())
    view = View(zoom=1.3)
    shown = [view_image(image, (32, 32), view, PADDING) for image in images]
    found, mask = make_joint()._targets(JointTask(bound, None, *rows), range(3), [view] * 3, shown)
    assert mask.any()
    assert (found[mask] > 0).all()


def test_a_task_without_a_valid_pixel_that_its_loss_is_taken_on_is_not_present(
    make_joint, monkeypatch
):
    """A loss of zero would move its weight, and count as progress."""
    monkeypatch.setattr(joint_training, "random_views", lambda count, *_: [View()] * count)
    run = make_joint()
    depth = run.tasks["depth"]
    for first, present in ((0, {"depth", "semseg"}), (1, {"semseg"})):
        valid = np.zeros_like(depth.valid)
        valid[:, first::2] = 1
        run.tasks["depth"] = replace(depth, valid=valid)
        assert set(run.losses()) == present


def test_a_diverged_task_is_named(make_joint, monkeypatch):
    run = make_joint()
    real = run.losses

    def losses():
        found = real()
        return {**found, "depth": found["depth"] * (float("nan") if run.step == 4 else 1)}

    monkeypatch.setattr(run, "losses", losses)
    with pytest.raises(TrainingError, match="at step 5: the loss of depth is nan") as caught:
        run.run(SilentProgress(), "x")
    assert "state of step 3, the best so far, is kept" in caught.value.hint


def test_folded_norms_are_unfolded_and_trained(make_joint):
    backbone = timm_backbone.build(timm_backbone.describe("test_efficientnet"))
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
    assert has_folded_norms(backbone)
    run = make_joint(net=backbone)
    assert run.unfolded == len(norms)
    means = [norm.running_mean.clone() for norm in norms]
    run.run(SilentProgress(), "x")
    assert not has_folded_norms(backbone)
    moved = [not torch.equal(a, b.running_mean) for a, b in zip(means, norms, strict=True)]
    assert all(moved)


def test_deep_supervision_is_part_of_the_loss(make_joint):
    """The heads of these tests have it: each level's own prediction gets a gradient."""
    run = make_joint()
    run.module.train()
    run.balance(run.losses()).backward()
    for task in run.tasks.values():
        for layer in task.head.level_predict:
            assert layer.weight.grad.abs().sum() > 0


def test_random_views_depend_on_the_arguments_alone():
    torch.manual_seed(0)
    first = random_views(40, 3, 7)
    torch.manual_seed(1)
    assert random_views(40, 3, 7) == first
    assert random_views(40, 3, 8) != first
    assert random_views(40, 4, 7) != first
    assert {view.flip for view in first} == {True, False}
    zooms = np.array([view.zoom for view in first])
    assert zooms.min() == 1
    assert 1.1 < zooms.max() <= 1.4
    assert all(0 <= offset <= 1 for view in first for offset in view.offset)


@pytest.mark.parametrize(
    ("higher_is_better", "old", "new", "better"),
    [
        (True, 0.0, 0.1, True),
        (True, 0.0, 0.0, False),
        (True, 0.5, 0.6, True),
        (True, 0.5, 0.4, False),
        (False, 0.0, 0.1, False),
        (False, 0.2, 0.1, True),
        (True, 0.5, float("nan"), False),
        (True, float("nan"), 0.0, True),
        (False, inf, 0.1, True),
        (False, inf, inf, False),
        (False, 0.1, inf, False),
        (True, 30.0, inf, True),
        (True, inf, 30.0, False),
        (True, -inf, 0.1, True),
    ],
)
def test_better_is_told_from_worse_at_nothing_too(higher_is_better, old, new, better):
    assert is_improvement(higher_is_better, {"t": old}, {"t": new}) is better


@pytest.mark.parametrize(
    ("old", "new", "better"),
    [
        ((nan, 0.5), (0.3, 0.499), True),
        ((nan, 0.5), (nan, 0.499), False),
        ((nan, 0.5), (nan, 0.501), True),
        ((nan, nan), (nan, nan), True),
        ((0.3, 0.5), (nan, 0.9), False),
        ((0.3, nan), (nan, 0.9), False),
    ],
)
@pytest.mark.parametrize("higher_is_better", [True, False])
def test_a_task_that_can_be_measured_counts(higher_is_better, old, new, better):
    if not higher_is_better:
        old, new = [tuple(1 - value for value in values) for values in (old, new)]
    old, new = (dict(zip("ab", values, strict=True)) for values in (old, new))
    assert is_improvement(higher_is_better, old, new) is better


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_what_is_better_than_something_better_is_better(higher_is_better):
    curve = [(0.40, 0.40), (0.44, 0.364), (0.399, 0.399)]
    if not higher_is_better:
        curve = [tuple(1 / value for value in values) for values in curve]
    curve = [dict(zip("ab", values, strict=True)) for values in curve]
    better = {
        (i, j): is_improvement(higher_is_better, curve[i], curve[j])
        for i in range(3)
        for j in range(3)
        if i != j
    }
    assert better == {(i, j): (i, j) in [(0, 1), (2, 0), (2, 1)] for i, j in better}


@pytest.mark.parametrize(("old", "new"), [(-0.2, -0.1), (-0.1, 0.1), (-0.1, 0.0), (-0.1, 9.0)])
def test_negative_figures_are_compared_too(old, new):
    assert is_improvement(True, {"t": old}, {"t": new})
    assert not is_improvement(True, {"t": new}, {"t": old})


def is_improvement(higher_is_better, old, new):
    """Of one figure a task."""
    metric = SimpleNamespace(name="m", higher_is_better=higher_is_better)
    task = SimpleNamespace(spec=SimpleNamespace(primary_metric=metric))
    run = SimpleNamespace(
        tasks=dict.fromkeys(old, SimpleNamespace(binding=SimpleNamespace(task=task))),
        outcome=SimpleNamespace(best={f"{name}.m": value for name, value in old.items()}),
    )
    return JointTraining.improved(run, {f"{name}.m": value for name, value in new.items()})
