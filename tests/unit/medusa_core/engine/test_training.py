import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from medusa_core.api import HeadRef, LabelSchema
from medusa_core.data.geometry import fixed_views
from medusa_core.engine import checkpoint, interrupts, training
from medusa_core.engine.cache_files import Rows, Source
from medusa_core.engine.datasets import selection_split
from medusa_core.engine.feature_cache import cache_tasks
from medusa_core.engine.head_training import HeadTraining
from medusa_core.engine.outcome import TrainSettings
from medusa_core.engine.training import outputs_loss
from medusa_core.errors import MedusaWarning, StoreError, TrainingError, UsageError
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


def diverge_at(run, step, monkeypatch, value=float("nan")):
    """The loss of the n-th step is not finite."""
    real = run.losses

    def losses():
        factor = value if run.step == step - 1 else 1
        return {name: loss * factor for name, loss in real().items()}

    monkeypatch.setattr(run, "losses", losses)


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


@pytest.mark.parametrize("where", ["step", "evaluation"])
def test_ctrl_c_at_any_moment_can_be_resumed_bit_for_bit(make, monkeypatch, where):
    """In the middle of a step it waits for the end of it; an evaluation is made again."""
    straight = make(work="straight")
    whole = straight.run(SilentProgress(), "straight")
    first = make()
    method = {"step": "losses", "evaluation": "figures"}[where]
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
    monkeypatch.setattr(interrupts, "PATIENCE", -1.0)
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


def test_tied_weights_are_trained_saved_and_resumed(make):
    """safetensors refuses tensors that share their memory."""

    def tied():
        run = make()
        run.head.again = run.head.predict
        return run

    straight, begun, resumed = tied(), tied(), tied()
    straight.run(SilentProgress(), "x")
    with pytest.raises(KeyboardInterrupt):
        begun.run(Interrupt(5), "x")
    assert resumed.resume()
    resumed.run(SilentProgress(), "x")
    assert resumed.head.again.weight is resumed.head.predict.weight
    found, expected = weights(resumed), weights(straight)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_other_settings_cannot_be_resumed(make):
    first = make(color="red")
    first.save()
    other = TrainSettings(steps=20, batch=3, lr=2e-2, seed=5, evaluations=3)
    with pytest.raises(UsageError) as caught:
        make(settings=other, color="blue", new=1).resume()
    for difference in (
        "steps: 10 → 20",
        "lr: 0.01 → 0.02",
        "color: red → blue",
        "new: not set → 1",
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


@pytest.mark.parametrize(
    "name", ["step", "means", "line", "balance", "precision", "outcome", "identity"]
)
def test_a_state_that_lacks_a_fact_is_damaged(make, tmp_path, name):
    run = make()
    run.save()
    path = tmp_path / "work" / checkpoint.FILE
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["medusa"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for spoilt in ({**facts, name: "x"}, {k: v for k, v in facts.items() if k != name}):
        if name in ("balance", "precision") and name in spoilt:
            continue  # nothing is read of it here
        save_file(tensors, path, {"medusa": json.dumps(spoilt)})
        with pytest.raises(StoreError, match=r"state\.safetensors: cannot be read"):
            make().resume()


@pytest.mark.parametrize("step", [-1, 11])
def test_a_state_beyond_the_training_is_damaged(make, monkeypatch, step):
    run = make()
    monkeypatch.setattr(run, "step", step)
    run.save()
    with pytest.raises(StoreError, match=f"step {step} of 10"):
        make().resume()


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
    diverge_at(run, 2, monkeypatch, value)
    with pytest.raises(TrainingError, match="diverged at step 2: the loss of semseg is") as caught:
        run.run(SilentProgress(), "x")
    assert caught.value.hint == "Start again with a lower --lr."
    assert not make().resume()
    diverge_at(run := make(), 1, monkeypatch, value)
    with pytest.raises(TrainingError, match="diverged at step 1: the loss of semseg is") as caught:
        run.run(SilentProgress(), "x")
    assert caught.value.hint == "Nothing was learned yet: check loss and targets."


def test_a_diverged_training_goes_on_from_its_best_state_with_a_lower_rate(make, monkeypatch):
    """What was saved after it is on its way to divergence, so it is given up."""
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    run = make()
    diverge_at(run, 5, monkeypatch)
    with pytest.raises(TrainingError, match="diverged at step 5") as caught:
        run.run(SilentProgress(), "x")
    assert "state of step 3, the best so far, is kept" in caught.value.hint
    assert "--resume --lr 0.0033" in caught.value.hint
    for lr in (SETTINGS.lr, 2 * SETTINGS.lr):
        with pytest.raises(UsageError, match="diverged at step 5 with --lr 0.01") as refused:
            make(settings=replace(SETTINGS, lr=lr)).resume()
        assert "--resume --lr 0.0033" in refused.value.hint
    with pytest.raises(UsageError, match=r": batch: 3 → 4\."):
        make(settings=replace(SETTINGS, lr=1e-3, batch=4)).resume()
    again = make(settings=replace(SETTINGS, lr=1e-3))
    assert again.resume()
    assert again.step == 3
    outcome = again.run(SilentProgress(), "x")
    assert outcome.restarts == [{"step": 3, "lr": 1e-3}]
    assert [point["step"] for point in outcome.curve] == [3, 6, 10]


def test_a_training_that_diverges_again_needs_a_rate_that_is_lower_again(make, monkeypatch):
    for lr, step in ((SETTINGS.lr, 5), (3e-3, 4)):  # the second time before it saves anything
        run = make(settings=replace(SETTINGS, lr=lr))
        run.resume()
        diverge_at(run, step, monkeypatch)
        with pytest.raises(TrainingError, match=f"diverged at step {step}"):
            run.run(SilentProgress(), "x")
    with pytest.raises(UsageError, match="diverged at step 4 with --lr 0.003") as refused:
        make(settings=replace(SETTINGS, lr=3e-3)).resume()
    assert "--resume --lr 0.001" in refused.value.hint
    again = make(settings=replace(SETTINGS, lr=1e-3))
    assert again.resume()
    assert again.step == 3


def test_a_new_training_does_not_fall_back_on_the_state_of_an_old_one(make, monkeypatch):
    make().run(SilentProgress(), "old")
    run = make()
    diverge_at(run, 2, monkeypatch)
    with pytest.raises(TrainingError) as caught:
        run.run(SilentProgress(), "new")
    assert "is kept" not in caught.value.hint


def test_broken_weights_are_never_saved(make, monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    run = make(settings=replace(SETTINGS, lr=float("inf")))
    with pytest.raises(TrainingError, match="diverged at step 2"):
        run.run(SilentProgress(), "x")
    assert not checkpoint.exists(run.work)


def test_weights_that_are_not_finite_are_an_error_even_after_the_last_step(make):
    run = make(settings=TrainSettings(steps=1, batch=3, lr=float("inf")))
    with pytest.raises(TrainingError, match=r"diverged at step 1: a weight is not finite \(.*\)"):
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
    with pytest.warns(MedusaWarning, match="iou cannot be measured") as told:
        outcome = run.run(SilentProgress(), "x")
    assert len(told) == 1
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


# ---- losses ----------------------------------------------------------------------------------


def _semseg(stride: int, channels: int = 3):
    host = default_host()
    spec = host.tasks.get("semseg").model_copy(update={"loss_stride": stride})
    labels = LabelSchema(names=tuple("abcdefgh"[:channels]))
    return host.implementation(host.tasks.get("semseg"))(spec, labels)


@pytest.mark.parametrize("stride", [2, 4])
def test_a_loss_at_a_stride_sees_every_nth_pixel_only(stride):
    task, size = _semseg(stride), (33, 46)
    raw = torch.randn(2, 3, 16, 16)
    target = torch.randint(0, 3, (2, *size))
    valid = torch.rand(2, *size) < 0.7
    others = torch.ones(size, dtype=torch.bool)
    others[::stride, ::stride] = False
    changed = torch.where(others, (target + 1) % 3, target)
    loss = outputs_loss(task, [(1.0, raw)], target, valid)
    assert torch.equal(loss, outputs_loss(task, [(1.0, raw)], changed, valid))
    assert not torch.equal(loss, outputs_loss(_semseg(1), [(1.0, raw)], target, valid))


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_where_nothing_varies_the_stride_does_not_matter(stride):
    raw = torch.tensor([0.3, -1.0, 0.5]).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    target, valid = torch.full((2, 32, 32), 2), torch.ones(2, 32, 32, dtype=torch.bool)
    found = outputs_loss(_semseg(stride), [(0.5, raw)], target, valid)
    expected = 0.5 * -torch.log_softmax(raw[0, :, 0, 0], dim=0)[2]
    torch.testing.assert_close(found, expected)


def test_batches_from_which_nothing_can_be_learned_are_skipped(make, monkeypatch):
    """A loss of pairs, say, is 0 where there are none."""
    run = make("depth")
    real, nothing = run.task.loss, {"loss": torch.zeros(())}
    monkeypatch.setattr(run.task, "loss", lambda *a: nothing if run.step % 2 else real(*a))
    assert run.run(SilentProgress(), "x").skipped_batches == 5


@pytest.mark.parametrize("name", ["depth", "semseg"])
def test_batches_without_a_valid_pixel_that_the_loss_is_taken_on_are_skipped(make, name):
    """Measured on odd rows alone, as by some scanners: a loss of zero would look like success."""
    run = make(name)
    odd = np.array(run.data.valid.files)
    odd[:, :, ::2] = 0
    assert odd.any()
    run.data = replace(run.data, valid=Rows(list(odd)))
    with pytest.raises(TrainingError, match="none of 10 batches") as caught:
        run.run(SilentProgress(), "x")
    assert "every second or fourth row" in caught.value.hint


@pytest.mark.parametrize("last_is_best", [False, True])
def test_which_weights_are_kept_is_said_where_they_are_not_the_last(
    make, monkeypatch, last_is_best
):
    said = []
    progress = SilentProgress()
    monkeypatch.setattr(progress, "message", said.append)
    run = make()
    monkeypatch.setattr(run, "improved", lambda figures: last_is_best)
    outcome = run.run(progress, "depth")
    told = f"depth: the weights of step {outcome.best_step}, the best, are kept."
    assert said == ([] if last_is_best else [told])
    assert (outcome.best_step == 10) == last_is_best
