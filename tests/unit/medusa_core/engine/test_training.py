import os
import signal

import pytest
import torch
from torch import nn

from medusa_core.api import HeadRef
from medusa_core.backbones import timm_backbone
from medusa_core.data.geometry import IDENTITY, fixed_views
from medusa_core.engine import checkpoint, training
from medusa_core.engine.datasets import selection_split
from medusa_core.engine.feature_cache import Source, cache_images, cache_tasks
from medusa_core.engine.head_training import HeadTraining
from medusa_core.engine.joint_training import (
    JointTask,
    JointTraining,
    has_folded_norms,
    random_views,
)
from medusa_core.engine.training import TrainSettings
from medusa_core.errors import StoreError, TrainingError, UsageError
from medusa_core.model.assembly import make_head
from medusa_core.plugin_host import default_host
from medusa_core.progress import SilentProgress
from medusa_core.store import files

SETTINGS = TrainSettings(steps=10, batch=3, lr=1e-2, seed=5, evaluations=3)
TINY = HeadRef(name="medusa", config={"width": 4, "fused_width": 4, "deep_supervision": 0.3})


class Interrupt(SilentProgress):
    """Presses Ctrl-C once a step is done."""

    def __init__(self, step):
        self.step, self.done = step, 0

    def advance(self, n=1, **figures):
        self.done += n
        if self.done == self.step:
            raise KeyboardInterrupt


@pytest.fixture
def make(tmp_path, cache, backbone, memory, bind):
    """A training of a small head; the same weights at the start each time."""

    def build(name="semseg", work="work", settings=SETTINGS, data=None, size=(32, 32), **identity):
        dataset, binding = data or memory(8), bind(name)
        source = Source(dataset, size, fixed_views(2))
        [cached] = cache_tasks(backbone, "f" * 64, source, [binding], SilentProgress())
        torch.manual_seed(1)
        head = make_head(default_host(), TINY, backbone.info, binding.task.out_channels)
        return HeadTraining(
            binding.task,
            head,
            cached,
            selection_split(dataset),
            settings,
            {"task": name, **identity},
            tmp_path / work,
        )

    return build


@pytest.fixture
def make_joint(tmp_path, cache, memory, bind):
    """A training of a backbone and two heads."""

    def build(work="work", settings=SETTINGS, net="test_efficientnet", data=None):
        torch.manual_seed(1)
        backbone = timm_backbone.build(timm_backbone.describe(net))
        dataset, bindings = data or memory(8, {1: {"depth"}}), [bind("depth"), bind("semseg")]
        images, rows = cache_images(
            Source(dataset, (32, 32), (IDENTITY,)), bindings, SilentProgress()
        )
        tasks = {
            b.task.spec.name: JointTask(
                b, make_head(default_host(), TINY, backbone.info, b.task.out_channels), *targets
            )
            for b, targets in zip(bindings, rows, strict=True)
        }
        parts = selection_split(dataset)
        return JointTraining(backbone, tasks, images, parts, settings, {}, tmp_path / work)

    return build


def weights(run):
    return {key: value.clone() for key, value in run.module.state_dict().items()}


def curve(outcome):
    return [sorted(point.items()) for point in outcome.curve]


def require_same(resumed, straight, outcomes):
    for key, value in weights(straight).items():
        assert torch.equal(value, weights(resumed)[key]), key
    assert curve(outcomes[0]) == curve(outcomes[1])
    assert outcomes[0].best == outcomes[1].best
    assert outcomes[0].best_step == outcomes[1].best_step


@pytest.mark.parametrize("step", [1, 3, 4, 9, 10])
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(make, step):
    straight = make(work="straight")
    whole = straight.run(SilentProgress(), "straight")
    first = make()
    with pytest.raises(KeyboardInterrupt):
        first.run(Interrupt(step), "first")
    torch.manual_seed(99)
    second = make()
    assert second.resume()
    assert second.step == step
    require_same(second, straight, (second.run(SilentProgress(), "second"), whole))


def test_a_joint_training_resumes_bit_for_bit_too(make_joint):
    straight = make_joint("straight")
    whole = straight.run(SilentProgress(), "straight")
    first = make_joint()
    with pytest.raises(KeyboardInterrupt):
        first.run(Interrupt(4), "first")
    second = make_joint()
    assert second.resume()
    require_same(second, straight, (second.run(SilentProgress(), "second"), whole))


@pytest.mark.parametrize("where", ["step", "evaluation"])
def test_ctrl_c_at_any_moment_can_be_resumed_bit_for_bit(make, monkeypatch, where):
    """In the middle of a step it waits for the end of it; an evaluation is made again."""
    straight = make(work="straight")
    whole = straight.run(SilentProgress(), "straight")
    first = make()
    method = {"step": "loss", "evaluation": "figures"}[where]
    real, calls = getattr(first, method), []

    def pressed():
        calls.append(1)
        result = real()
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(first, method, pressed)
    with pytest.raises(KeyboardInterrupt):
        first.run(SilentProgress(), "first")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert first.step == {"step": 2, "evaluation": 6}[where]
    second = make()
    assert second.resume()
    assert second.step == first.step
    require_same(second, straight, (second.run(SilentProgress(), "second"), whole))


def test_half_a_step_is_never_saved(make, monkeypatch):
    first = make()
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    real = first.optimizer.step

    def impatient():
        real()
        if first.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(first.optimizer, "step", impatient)
    with pytest.raises(KeyboardInterrupt):
        first.run(SilentProgress(), "first")
    second = make()
    assert second.resume()
    assert second.step == 2
    straight = make(work="straight")
    whole = straight.run(SilentProgress(), "straight")
    require_same(second, straight, (second.run(SilentProgress(), "second"), whole))


def test_nothing_to_resume(make):
    assert not make().resume()


def test_other_settings_cannot_be_resumed(make):
    first = make(color="red")
    first.save()
    other = TrainSettings(steps=20, batch=3, lr=2e-2, seed=5, evaluations=3)
    with pytest.raises(UsageError) as caught:
        make(settings=other, color="blue", new=1).resume()
    for difference in (
        "steps was 10, is 20",
        "lr was 0.01, is 0.02",
        "color was 'red', is 'blue'",
        "new was None, is 1",
    ):
        assert difference in caught.value.message
    assert "batch" not in caught.value.message
    assert "--resume" in caught.value.hint


@pytest.mark.parametrize("damage", [b"", b"text", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_damaged_state_is_an_error(make, tmp_path, damage):
    make().save()
    (tmp_path / "work" / checkpoint.FILE).write_bytes(damage)
    with pytest.raises(StoreError, match=r"state\.safetensors: cannot be read") as caught:
        make().resume()
    assert "without --resume" in caught.value.hint


def test_a_state_is_saved_beside_the_remains_of_a_killed_process(make, tmp_path):
    run = make()
    run.save()
    files.temporary(tmp_path / "work" / checkpoint.FILE).write_bytes(b"half")
    run.step = 4
    run.save()
    again = make()
    assert again.resume()
    assert again.step == 4
    assert [p.name for p in (tmp_path / "work").iterdir()] == [checkpoint.FILE]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_loss_is_an_error(make, monkeypatch, value):
    run = make()
    real = run.loss
    monkeypatch.setattr(run, "loss", lambda: real() * (value if run.step == 4 else 1))
    with pytest.raises(TrainingError, match="diverged at step 5") as caught:
        run.run(SilentProgress(), "x")
    assert "--lr" in caught.value.hint


def test_weights_that_are_not_finite_are_an_error_even_after_the_last_step(make):
    run = make(settings=TrainSettings(steps=1, batch=3, lr=float("inf")))
    with pytest.raises(TrainingError, match="diverged at step 1"):
        run.run(SilentProgress(), "x")


def test_batches_without_a_valid_pixel_are_skipped(make, memory):
    lacks = {i: {"semseg"} for i in range(8) if i not in selection_split(memory(8))[1]}
    settings = TrainSettings(steps=2 * len(lacks), batch=1, lr=1e-2)
    del lacks[min(lacks)]
    run = make(settings=settings, data=memory(8, lacks), size=(64, 64))
    outcome = run.run(SilentProgress(), "x")
    assert outcome.skipped_batches == 2 * len(lacks)  # two epochs; one image has a target
    assert all(torch.isfinite(value).all() for value in run.module.parameters())


def test_a_training_without_a_single_valid_batch_is_an_error(make, memory):
    lacks = {i: {"semseg"} for i in range(8) if i not in selection_split(memory(8))[1]}
    run = make(data=memory(8, lacks))
    with pytest.raises(TrainingError, match="Training it: none of 10 batches") as caught:
        run.run(SilentProgress(), "Training it")
    assert caught.value.hint


def test_without_anything_to_choose_by_the_last_weights_are_kept(make, memory):
    chosen = selection_split(memory(8))[1]
    run = make(data=memory(8, {i: {"semseg"} for i in chosen}))
    outcome = run.run(SilentProgress(), "x")
    assert outcome.best_step == 10


def test_the_best_weights_are_kept(make, monkeypatch):
    run = make()
    seen = []

    def figures():
        value = [0.1, 0.9, 0.3][len(seen)]
        seen.append(weights(run))
        return {"miou": value, "pixel_accuracy": 0.0, "classes": 3.0}

    monkeypatch.setattr(run, "figures", figures)
    outcome = run.run(SilentProgress(), "x")
    assert [point["step"] for point in outcome.curve] == [3, 6, 10]
    assert outcome.best_step == 6
    assert outcome.best["miou"] == 0.9
    for key, value in weights(run).items():
        assert torch.equal(value, seen[1][key])
    assert not run.module.training


def test_a_joint_training_learns_all_parts(make_joint):
    run = make_joint()
    before = weights(run)
    outcome = run.run(SilentProgress(), "x")
    after = weights(run)
    for part in ("backbone.", "heads.head_depth.", "heads.head_semseg."):
        changed = [not torch.equal(before[k], after[k]) for k in before if k.startswith(part)]
        assert any(changed), part
    assert {"depth.rmse", "semseg.miou"} <= set(outcome.best)
    assert not run.fixed_norms
    assert not run.module.training


def test_joint_batches_without_a_valid_pixel_are_skipped(make_joint, memory):
    chosen = selection_split(memory(8))[1]
    lacks = {i: {"depth", "semseg"} for i in range(8) if i not in chosen}
    with pytest.raises(TrainingError, match="none of 10 batches"):
        make_joint(data=memory(8, lacks)).run(SilentProgress(), "x")


@pytest.mark.parametrize("net", ["test_efficientnet", "test_resnet", "test_convnext"])
def test_fresh_networks_are_not_taken_for_folded_ones(net):
    assert not has_folded_norms(timm_backbone.build(timm_backbone.describe(net)))


def test_folded_norms_are_found_and_stay_fixed(make_joint):
    run = make_joint()
    for norm in run.backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    assert has_folded_norms(run.backbone)
    run.fixed_norms = has_folded_norms(run.backbone)
    run.run(SilentProgress(), "x")
    for norm in run.backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert not norm.running_mean.any()
            assert (norm.running_var == 1).all()


def test_used_norms_are_not_folded_ones(backbone):
    assert not has_folded_norms(backbone)


def test_random_views_depend_on_the_arguments_alone():
    torch.manual_seed(0)
    first = random_views(40, 3, 7)
    torch.manual_seed(1)
    assert random_views(40, 3, 7) == first
    assert random_views(40, 3, 8) != first
    assert random_views(40, 4, 7) != first
    assert {view.flip for view in first} == {True, False}
    assert all(1 <= view.zoom <= 1.4 for view in first)
    assert all(0 <= offset <= 1 for view in first for offset in view.offset)
    assert any(view.zoom == 1 for view in first)
    assert any(view.zoom > 1.1 for view in first)
