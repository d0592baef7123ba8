"""Networks run from a recording: the operations of one run, done again in memory planned ahead.

A head is some eighty small operations on a CPU. Finding out, in Python, which comes next, and new
memory for what each gives, take about as long as the operations. A recording knows both. It does
the same operations in the same order, so it gives the same bits. Backbones of few weights gain,
too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Lock

import torch
from torch import Tensor, nn

from medusa_core.heads.side_by_side import has_hooks
from medusa_core.model.recorded_calls import Listener, Network, Recording, planned

LARGEST = 1 << 21
"""Numbers in all feature levels up to which networks are recorded; then, operations are long."""
SMALL = 1 << 18
"""The same for several networks in one, where what saves calls costs memory, and for images."""
SHAPES = 4
"""Shapes of features that networks are recorded for."""
GROUPS = 8
"""Groups of networks that are recorded for a shape: the first that come twice."""
ASKED = 10_000
"""Groups of networks that are remembered."""
LIGHT = 5_000_000
"""Weights of a backbone up to which it is recorded; then, operations are long."""
PATIENCE = 32
"""Images of a shape after which it is: what recording takes is gained back by about 80."""


class Desk:
    """Where networks find the same features: in memory that stays, so that they can be recorded.

    Recordings are made for the first shapes of features that come twice, a few of them. All share
    one piece of scratch memory, which is in the processor's cache when the next head needs it.

    Args:
        patience: how often a shape must come, if not twice.
        largest: numbers in all levels, if not `LARGEST`.
    """

    def __init__(self, patience: int = 2, largest: int | None = None) -> None:
        self._patience, self._largest = patience, largest
        self._lock = Lock()
        self._seen: Counter[object] = Counter()
        self._asked: dict[tuple[Network, ...], int] = {}
        self._sheets: dict[object, _Sheet] = {}
        self._sheet = _Sheet([])
        self._scratch = torch.empty(0, dtype=torch.uint8)

    def __reduce__(self) -> tuple[type[Desk], tuple[int, int | None]]:
        """Copies are empty: recordings are made again."""
        return Desk, (self._patience, self._largest)

    @contextmanager
    def holding(
        self, features: Sequence[Tensor], groups: Sequence[Sequence[Network]] = ()
    ) -> Iterator[Desk | None]:
        """Put features on the desk and give it, for `run`; or nothing, if they are not there.

        Not if their shape is new, if they are large or on a card, while another thread uses the
        desk, or where operations choose their number format (`torch.autocast`).

        Args:
            features: as the backbone gives them.
            groups: networks that will be asked for together.
        """
        if torch.is_autocast_enabled("cpu") or not self._lock.acquire(blocking=False):
            yield None
            return
        try:
            for group in map(tuple, groups):
                if group in self._asked or len(self._asked) < ASKED:
                    self._asked[group] = self._asked.get(group, 0) + 1
            yield self if self._hold(features) else None
        finally:
            self._lock.release()

    @torch.no_grad()
    def _hold(self, features: Sequence[Tensor]) -> bool:
        threads = torch.get_num_threads()  # loops that end elsewhere give other last bits
        form = threads, tuple((x.shape, x.stride(), x.dtype, x.device) for x in features)
        if form not in self._sheets:
            on_cpu = all(level.device.type == "cpu" for level in features)
            numbers = sum(level.numel() for level in features)
            small = 0 < numbers <= (LARGEST if self._largest is None else self._largest)
            if len(self._sheets) == SHAPES or not (on_cpu and small):
                return False
            if any(torch.empty_like(level).stride() != level.stride() for level in features):
                return False  # a cut-out, on which sums have other bits than on its copy
            self._seen[form] += 1
            if self._seen[form] < self._patience:
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
        return self.run_together([network], lambda: network)

    def run_together(
        self, networks: Sequence[Network], join: Callable[[], Network | None]
    ) -> list[Tensor] | None:
        """What several networks say of them, by one that gives the same bits; None without it.

        Args:
            networks: as for `run`.
            join: makes that one, if there is one.
        """
        group, features, recordings = tuple(networks), self._sheet.features, self._sheet.recordings
        if group not in recordings:
            large = sum(level.numel() for level in features) > SMALL
            made = [known for known, found in recordings.items() if len(known) > 1 and found]
            once = self._asked.get(group, 0) < 2
            if len(group) > 1 and (large or once or len(made) >= GROUPS):
                return None
            one = join()
            recordings[group] = recorded(one, features, group) if one is not None else None
        recording = recordings[group]
        if recording is None:
            return None
        if len(self._scratch) < recording.size:
            with torch.inference_mode(False):
                self._scratch = torch.empty(recording.size, dtype=torch.uint8)
        return recording.run(self._scratch)


def is_light(backbone: nn.Module) -> bool:
    """Whether a backbone is worth recording, and nothing is called that would not be heard."""
    few = sum(weights.numel() for weights in backbone.parameters()) <= LIGHT
    return few and not any(has_hooks(module) for module in backbone.modules())


def repeating(network: Network, backbone: nn.Module) -> Network:
    """The same; where the backbone is light, from a recording once a shape of small images repeats.

    Args:
        network: what the backbone does, prepared: images to feature levels.
        backbone: prepared.
    """
    if not is_light(backbone):
        return network
    own, refused = Desk(PATIENCE, SMALL), False

    def repeated(images: Sequence[Tensor]) -> list[Tensor]:
        nonlocal refused
        with nullcontext() if refused else own.holding(images) as desk:
            features = None if desk is None else desk.run(network)
            refused = refused or (desk is not None and features is None)
        return network(images) if features is None else features

    return repeated


@dataclass
class _Sheet:
    """Features of one shape, and recordings of what networks do to them."""

    features: list[Tensor]
    recordings: dict[tuple[Network, ...], Recording | None] = field(default_factory=dict)


def recorded(
    network: Network, features: Sequence[Tensor], group: Sequence[Network] = ()
) -> Recording | None:
    """A recording of what a network does to features, which must stay where they are.

    None if that cannot be repeated: it depends on numbers in tensors or on chance, it writes to its
    features or parameters, or it gives other bits, for these features or for random ones.
    Operations are seen, Python is not.

    Args:
        network: does the same operations whatever is in the features.
        features: as the backbone gives them.
        group: networks whose results it is to give, one after the other, if not its own.
    """
    with torch.inference_mode(False), torch.no_grad():
        kept = [level.clone() for level in features]
        try:
            network(features)  # what is made at the first run is there
            with Listener() as listener:
                results = network(features)
            recording = planned(listener.calls, results)
            return recording if _agree(group or [network], recording, features) else None
        except Exception:  # noqa: BLE001 - anybody's network; it is run as it is
            return None
        finally:
            for level, before in zip(features, kept, strict=True):
                level.copy_(before)


def _agree(group: Sequence[Network], recording: Recording, features: Sequence[Tensor]) -> bool:
    """Whether both say the same of the features, and of random ones, which take their places."""
    scratch = torch.empty(recording.size, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        scratch.fill_(255)  # NaN: what is read before it is written shows
        expected = [result for network in group for result in network(features)]
        pairs = zip(recording.run(scratch), expected, strict=True)
        if not all(torch.equal(a, b) for a, b in pairs):
            return False
        for level in features:
            level.normal_(generator=generator)
    return True
