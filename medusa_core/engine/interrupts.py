"""Ctrl-C and SIGTERM during work that must not be left half done."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 2.0
"""Seconds after which another signal is that of somebody who waits."""

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def interrupted_afterwards() -> Iterator[None]:
    """Let a first Ctrl-C take effect at the end of the block: half a step cannot be resumed.

    So a first SIGTERM, where something handles it. Another one takes effect at once if it comes
    `PATIENCE` seconds later: supervisors send several together. Only the main thread can do this;
    others do nothing.
    """
    handlers = _handlers() if threading.current_thread() is threading.main_thread() else {}
    waiting: list[tuple[int, FrameType | None]] = []
    since = math.inf

    def later(number: int, frame: FrameType | None) -> None:
        nonlocal since
        if time.monotonic() - since > PATIENCE:
            handlers[number](number, frame)
        since = min(since, time.monotonic())
        waiting.append((number, frame))

    for number in handlers:
        signal.signal(number, later)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for number, frame in waiting:
        handlers[number](number, frame)


def _handlers() -> dict[int, Handler]:
    """What is done about each of the signals, where Python does it."""
    found: dict[int, Handler] = {}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        found[signal.SIGINT] = signal.default_int_handler
    ended = signal.getsignal(signal.SIGTERM)
    if callable(ended):
        found[signal.SIGTERM] = ended
    return found
