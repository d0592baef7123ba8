"""Networks run from a recording: the operations of one run, done again in memory planned ahead.

A head is some eighty small operations on a CPU. Finding out, in Python, which comes next, and new
memory for what each gives, take about as long as the operations. A recording knows both. It does
the same operations in the same order, so it gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import torch
from torch import Tensor

from medusa_core.model.memory import is_out_of_memory
from medusa_core.model.recorded_calls import Listener, Network, Recording, planned

LARGEST = 1 << 21
"""Numbers in all feature levels up to which networks are recorded; then, operations are long."""
SHAPES = 4
"""Shapes of features that networks are recorded for."""


class Desk:
    """Where networks find the same features: in memory that stays, so that they can be recorded.

    Recordings are made for the first shapes of features that come twice, a few of them. All share
    one piece of scratch memory, which is in the processor's cache when the next head needs it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._seen: set[object] = set()
        self._sheets: dict[object, _Sheet] = {}
        self._sheet = _Sheet([])
        self._scratch = torch.empty(0, dtype=torch.uint8)

    def __deepcopy__(self, memo: object) -> Desk:
        """An empty one: recordings are made again."""
        return Desk()

    @contextmanager
    def holding(self, features: Sequence[Tensor]) -> Iterator[bool]:
        """Put features on the desk, and say whether they are there: `run` is for within.

        Not if their shape is new, if they are large or on a card, while another thread uses the
        desk, or where operations choose their number format (`torch.autocast`).
        """
        if torch.is_autocast_enabled("cpu") or not self._lock.acquire(blocking=False):
            yield False
            return
        try:
            yield self._hold(features)
        finally:
            self._lock.release()

    def _hold(self, features: Sequence[Tensor]) -> bool:
        form = tuple((level.shape, level.stride(), level.dtype) for level in features)
        if form not in self._sheets:
            on_cpu = all(level.device.type == "cpu" for level in features)
            small = 0 < sum(level.numel() for level in features) <= LARGEST
            if len(self._sheets) == SHAPES or not (on_cpu and small):
                return False
            if form not in self._seen:
                self._seen.add(form)
                return False
            with torch.inference_mode(False):
                self._sheets[form] = _Sheet([torch.empty_like(level) for level in features])
        self._sheet = self._sheets[form]
        for kept, level in zip(self._sheet.features, features, strict=True):
            kept.copy_(level)
        return True

    def run(self, network: Network) -> list[Tensor] | None:
        """What a network says of the features on the desk; None if it cannot be recorded.

        Args:
            network: does the same operations whatever is in the features.
        """
        features, recordings = self._sheet.features, self._sheet.recordings
        if network not in recordings:
            recordings[network] = recorded(network, features)
        recording = recordings[network]
        if recording is None:
            return None
        if len(self._scratch) < recording.size:
            with torch.inference_mode(False):
                self._scratch = torch.empty(recording.size, dtype=torch.uint8)
        return recording.run(self._scratch)


@dataclass
class _Sheet:
    """Features of one shape, and recordings of what networks do to them."""

    features: list[Tensor]
    recordings: dict[Network, Recording | None] = field(default_factory=dict)


def recorded(network: Network, features: Sequence[Tensor]) -> Recording | None:
    """A recording of what a network does to features, which must stay where they are.

    None if that cannot be repeated: it depends on numbers in tensors or on chance, or it writes to
    its features or parameters. Operations are seen, Python is not.
    """
    try:
        with torch.inference_mode(False), torch.no_grad():
            expected = [result.clone() for result in network(features)]
            with Listener() as listener:  # whatever is made at the first run, is
                results = network(features)
            recording = planned(listener.calls, results)
            found = recording.run(torch.empty(recording.size, dtype=torch.uint8))
            same = [torch.equal(a, b) for a, b in zip(found, expected, strict=True)]
    except Exception as err:
        if is_out_of_memory(err):
            raise
        return None
    return recording if all(same) else None
