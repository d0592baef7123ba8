"""One-to-one matching of the pixels of two thin boundary maps within a distance."""

from __future__ import annotations

import numpy as np


def count_matches(first: np.ndarray, second: np.ndarray, radius: float) -> int:
    """The most pairs of pixels, one of each map, at most `radius` apart, no pixel in two pairs.

    This is the size of a maximum matching. The BSDS benchmark (Martin, Fowlkes & Malik, IEEE TPAMI
    26, 2004) assigns at least cost instead, a pair costing its distance and a pixel without partner
    a hundred times `radius`, and counts the pairs. One pair more pays there unless about a hundred
    others must move apart for it: its count is nearly the same, and never larger. Which pixels are
    paired may differ; no figure depends on it.

    Args:
        first: `(H, W) bool`.
        second: `(H, W) bool`.
        radius: in pixels, between the centres of pixels, inclusive.

    Raises:
        ValueError: the maps differ in shape.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"maps of shapes {first.shape} and {second.shape} cannot be matched")
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    left, right = _near_pairs(first, second, radius)
    if not left.size:
        return 0
    counts = (int(np.count_nonzero(first)), int(np.count_nonzero(second)))
    graph = csr_array((np.ones(left.size, np.int8), (left, right)), shape=counts)
    return int(np.count_nonzero(maximum_bipartite_matching(graph, perm_type="column") >= 0))


def _near_pairs(
    first: np.ndarray, second: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs within the radius: `(n,)` numbers of set pixels of the one and of the other."""
    reach = int(radius)
    numbers = np.full([length + 2 * reach for length in second.shape], -1, np.int32)
    row, column = np.nonzero(second)
    numbers[row + reach, column + reach] = np.arange(len(row))
    row, column = np.nonzero(first)
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
            right.append(found[hit])
    return np.concatenate(left), np.concatenate(right)
