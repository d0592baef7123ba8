"""What a head will reach, from two short trainings on nested samples.

Scores are put on a scale on which progress is even: log-odds of shares, logarithms of errors. There
a head gains a nearly constant amount whenever its training gets four times as long, on four times
as many images: so the gain from the first short training to the second one says how much the long
one will add. How much of that gain still comes, and how far off this is, was measured:
`benchmarks/estimates.py` has the fit, and how often the truth fell inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from medusa_core.api import MetricRef
from medusa_core.engine.bootstrap import resampled_figures
from medusa_core.engine.scores import Scores

STEP = 4
"""How many times longer, and on how many times more images, the second short training is."""
GROWTH = 0.65
"""Share of the observed gain that a further factor `STEP` of both image visits and images adds."""
SPREAD = (0.5, 0.1, 1.55)
"""Error of an estimate: share of the extrapolated gain, least error, and the factor for `LEVEL`."""
LEVEL = 0.8
"""How often the truth shall fall inside."""
REPEATS = 200
_EDGE = 5e-3


@dataclass(frozen=True)
class Evidence:
    """Two short trainings, on the even scale, and how far the real one is from them.

    first, second: their scores. noise: standard error of `second`, from the few images that it was
    measured on. visits, images: how many times more the real training has than the second one, as
    logarithms to the base `STEP`, at least 0.
    """

    first: float
    second: float
    noise: float
    visits: float
    images: float


def to_scale(metric: MetricRef, value: float) -> float:
    """A score on the even scale, more is better; NaN stays NaN."""
    if metric.higher_is_better:
        share = min(max(value, _EDGE), 1 - _EDGE) if value == value else value
        return math.log(share / (1 - share))
    return -math.log(max(value, 1e-12)) if value == value else value


def from_scale(metric: MetricRef, position: float) -> float:
    """The score at a position."""
    if metric.higher_is_better:
        return 1 / (1 + math.exp(-position))
    return math.exp(-position)


def fits_scale(metric: MetricRef, *values: float) -> bool:
    """Whether scores are of the kind the scale is for: shares, or errors that are not negative."""
    return all(0 <= value <= (1 if metric.higher_is_better else math.inf) for value in values)


def extrapolate(
    evidence: Evidence,
    growth: float = GROWTH,
    spread: tuple[float, float, float] = SPREAD,
) -> tuple[float, float]:
    """Position that the real training will reach, and the half-width of its error bar."""
    observed = max(0.0, evidence.second - evidence.first)
    gain = observed * growth * (evidence.visits + evidence.images) / 2
    share, least, factor = spread
    return evidence.second + gain, factor * math.hypot(share * gain, least, evidence.noise)


def standard_error(scores: Scores, metric: MetricRef, whole: int) -> float:
    """Of a score on the even scale, by a bootstrap over its images; 1 where one tells of many.

    Args:
        scores: of the images.
        metric: the primary one.
        whole: images of the set that they were drawn from; all of them are no sample any more.
    """
    figures = resampled_figures(scores, metric.name, REPEATS, seed=0)
    found = [to_scale(metric, value) for value in figures]
    known = torch.tensor([value for value in found if value == value])
    if len(known) < 2:
        return 0.0
    count = len(scores)
    if count == 1 < whole:
        return 1.0
    unbiased = math.sqrt(count / max(1, count - 1))  # resamples of few vary less than images do
    return unbiased * float(known.std()) * math.sqrt(max(0.0, 1 - count / whole))
