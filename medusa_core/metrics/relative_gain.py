"""How much better a multi-task network is than networks of single tasks, in one number."""

from __future__ import annotations

from collections.abc import Mapping


def relative_gain(
    figures: Mapping[str, float],
    reference: Mapping[str, float],
    higher_is_better: Mapping[str, bool],
) -> float:
    """Mean over tasks of the relative improvement over a reference, in percent.

    `Δ = 100 / T · Σ_t ± (M_t - M_ref,t) / |M_ref,t|`, the sign such that more is better (Maninis,
    Radosavovic and Kokkinos, CVPR 2019; Vandenhende et al., 2021). With networks of single tasks as
    the reference it is Δ_MTL for tasks that were trained jointly, and Δ_UFL for tasks that were
    added to a frozen backbone.

    Args:
        figures: task → its figure.
        reference: the same tasks → the figure of the reference, not 0.
        higher_is_better: the same tasks → which direction is better.

    Raises:
        ValueError: the tasks differ, there is none, or a reference is 0.
    """
    if not figures or not figures.keys() == reference.keys() == higher_is_better.keys():
        raise ValueError(f"figures of {sorted(figures)}, references of {sorted(reference)}")
    if not all(reference.values()):
        raise ValueError("a reference of 0 has no relative improvement")
    gains = [
        (figure - reference[task]) / abs(reference[task]) * (1 if higher_is_better[task] else -1)
        for task, figure in figures.items()
    ]
    return 100 * sum(gains) / len(gains)
