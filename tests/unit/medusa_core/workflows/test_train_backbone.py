"""What of a joint training is told of each of its tasks."""

import math

from medusa_core.engine.outcome import Outcome
from medusa_core.workflows import train_backbone


def test_a_task_that_was_not_seen_has_no_loss_of_another():
    point = {"step": 4.0, "loss": 5.0, "loss.depth": 2.0, "depth.rmse": 1.0, "edges.pixel_f": 0.5}
    outcome = Outcome(curve=[point], best={"depth.rmse": 1.0, "edges.pixel_f": 0.5})
    [depth] = train_backbone._own_part(outcome, "depth", alone=False).curve
    [edges] = train_backbone._own_part(outcome, "edges", alone=False).curve
    assert depth == {"step": 4.0, "loss": 2.0, "rmse": 1.0}
    assert math.isnan(edges["loss"])
    outcome.curve = [{"step": 4.0, "loss": 5.0, "depth.rmse": 1.0}]
    assert train_backbone._own_part(outcome, "depth", alone=True).curve[0]["loss"] == 5.0
