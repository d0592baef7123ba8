"""One-to-one matching of the pixels of thin boundary maps within a distance."""

from __future__ import annotations

import numpy as np

_FEW = 0.02
"""Share of the pairs below which it does not pay to look for forced ones again."""


def count_matches(first: np.ndarray, second: np.ndarray, radius: float) -> np.ndarray:
    """The most pairs of pixels, one of each map, at most `radius` apart, no pixel in two pairs.

    This is the size of a maximum matching. The BSDS benchmark (Martin, Fowlkes & Malik, IEEE TPAMI
    26, 2004) assigns at least cost instead, a pair costing its distance and a pixel without partner
    a hundred times `radius`, and counts the pairs. One pair more pays there unless about a hundred
    others must move apart for it: its count is nearly the same, and never larger. Which pixels are
    paired may differ; no figure depends on it.

    Args:
        first: `(N, H, W) bool`, each map matched alone.
        second: `(H, W) bool`.
        radius: in pixels, between the centres of pixels, inclusive.

    Returns:
        `(N,) int64`.

    Raises:
        ValueError: the maps differ in shape.
    """
    if first.ndim != 3 or first.shape[1:] != second.shape:
        raise ValueError(f"maps of shapes {first.shape} and {second.shape} cannot be matched")
    left, right, owner = _near_pairs(first, second, radius)
    matched = np.zeros(len(owner), bool)
    left, right = _match_forced(left, right, matched)
    if left.size:
        matched[_matched(left, right)] = True
    return np.bincount(owner[matched], minlength=len(first))


def _near_pairs(
    first: np.ndarray, second: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs within the radius, as edges of one bipartite graph.

    Returns:
        `(n,)` numbers of set pixels of the first maps, and of the second one, which has other
        numbers for every first map; for every set pixel of the first maps, whose it is.
    """
    reach = int(radius)
    numbers = np.full([length + 2 * reach for length in second.shape], -1, np.int64)
    row, column = np.nonzero(second)
    numbers[row + reach, column + reach] = np.arange(len(row))
    count = len(row)
    owner, row, column = np.nonzero(first)
    width = numbers.shape[1]
    centre = (row + reach) * width + column + reach
    flat = numbers.reshape(-1)
    left, right = [], []
    for down in range(-reach, reach + 1):
        for across in range(-reach, reach + 1):
            if down**2 + across**2 > radius**2:
                continue
            found = flat[centre + (down * width + across)]
            hit = np.flatnonzero(found >= 0)
            left.append(hit)
            right.append(found[hit] + owner[hit] * count)
    return np.concatenate(left), np.concatenate(right), owner


def _match_forced(
    left: np.ndarray, right: np.ndarray, matched: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Match pixels that have a single partner with it, as some largest matching does.

    They leave others with a single partner, so this goes on until it hardly pays.

    Args:
        left: `(n,)`, where edges end on the left.
        right: `(n,)`, the same on the right.
        matched: marks numbers of the left; those that are matched here are set.

    Returns:
        Edges between the pixels that are left.
    """
    while left.size:
        taken = np.zeros(left.size, bool)
        for ends, others in ((left, right), (right, left)):
            single = np.flatnonzero((np.bincount(ends)[ends] == 1) & ~taken)
            last = np.empty(others.max() + 1, np.int64)
            last[others[single]] = single  # of several with the same partner, one has it
            free = np.ones(len(last), bool)
            free[others[taken]] = False
            single = single[(last[others[single]] == single) & free[others[single]]]
            taken[single] = True
        if not taken.any():
            break
        matched[left[taken]] = True
        few = np.count_nonzero(taken) < _FEW * taken.size
        left, right = _without(left, right, taken)
        if few:
            break
    return left, right


def _without(
    left: np.ndarray, right: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Edges that share no pixel with those taken."""
    rest = np.ones(left.size, bool)
    for ends in (left, right):
        gone = np.zeros(ends.max() + 1, bool)
        gone[ends[taken]] = True
        rest &= ~gone[ends]
    return left[rest], right[rest]


def _matched(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Numbers of the left that a maximum matching of a bipartite graph pairs, from its edges.

    By Dinic's maximum flow: milliseconds for a thinned photograph, half a second for noise.
    scipy's Hopcroft-Karp is faster mostly, and took ten seconds for a map of a real head (1.17).
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    first, left = np.unique(left, return_inverse=True)
    second, right = np.unique(right, return_inverse=True)
    middle, source = len(first), len(first) + len(second)
    sink = source + 1
    tail = np.concatenate([np.full(middle, source), left, np.arange(middle, source)])
    head = np.concatenate([np.arange(middle), middle + right, np.full(len(second), sink)])
    ends = (tail.astype(np.int32), head.astype(np.int32))  # scipy 1.13 takes no other
    pipes = csr_array((np.ones(len(tail), np.int32), ends), shape=(sink + 1, sink + 1))
    flow = maximum_flow(pipes, source, sink, method="dinic").flow
    start, end = flow.indptr[source : source + 2]
    return first[flow.indices[start:end][flow.data[start:end] > 0]]
