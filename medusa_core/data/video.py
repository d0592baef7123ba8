"""Video files from outside, frame by frame. The only file that imports PyAV; the extra `video`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medusa_core.data.files import require_plain
from medusa_core.data.images import MAX_PIXELS
from medusa_core.errors import DataError
from medusa_core.extras import require_extra

EXTENSIONS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"}

_OPTIONS = {  # no play lists: they name other files
    "format_whitelist": "avi,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts",
    "protocol_whitelist": "file",
}

_SLACK = 0.5
"""Seconds that a file may end before it says: the last picture's own duration may be unknown."""


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    number: 0 for the first.
    seconds: when it is shown; None: the file does not say.
    image: `(H, W, 3) uint8` RGB, turned upright; or why there is none.
    """

    number: int
    seconds: float | None
    image: np.ndarray | DataError


def require_av() -> Any:
    """PyAV. UsageError where it is not installed."""
    return require_extra("video", "Reading videos", "av")


def count_frames(path: Path) -> int:
    """How many frames a video says it has; 0: it does not say. 1 where it cannot be read."""
    try:
        with _opened(path) as (container, stream):
            spans = (container.duration or 0) / 1e6
            return int(_length(container, stream) or spans * float(stream.average_rate or 0))
    except DataError:
        return 1


def read_frames(path: Path) -> Iterator[Frame]:
    """All frames in order. A damaged one takes a number, too, and has its error for an image.

    Raises:
        DataError: the file is missing, no video, or ends before its last frame.
    """
    av = require_av()
    number = stored = end = 0
    seconds = 0.0
    with _opened(path) as (container, stream):
        stream.thread_type = "AUTO"
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as err:
                raise DataError(f"{path}: damaged after frame {number - 1}: {_said(err)}.") from err
            if packet is None:
                break
            stored += packet.size > 0
            end = max(end, (packet.dts or 0) + 1)
            seconds = max(seconds, _end(packet))
            try:
                decoded = packet.decode()
            except av.FFmpegError as err:
                yield Frame(
                    number, None, DataError(f"{path}, frame {number}: damaged: {_said(err)}.")
                )
                number += 1
                continue
            for frame in decoded:
                yield Frame(number, frame.time, _image(frame, f"{path}, frame {number}"))
                number += 1
        length = _length(container, stream)
        if container.format.name == "avi":  # counts places without a frame; times are places there
            length -= max(0, end - stored)
        if number < length:
            raise DataError(f"{path}: ends after {number} of {length} frames.")
        if seconds + _SLACK < (all_of_it := _seconds(stream)):
            raise DataError(f"{path}: ends after {seconds:.1f} of {all_of_it:.1f} seconds.")
    if not number:
        raise DataError(f"{path}: has no frames.")


def _length(container: Any, stream: Any) -> int:
    """Frames to be shown, as the file says; 0: it does not. MP4 files may hold more: edit lists."""
    if stream.frames and "mp4" in container.format.name:
        return sum(not entry.is_discard for entry in stream.index_entries)
    return int(stream.frames)


def _seconds(stream: Any) -> float:
    """How long the pictures last, as Matroska and WebM files say; 0: it does not."""
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return 0.0


def _end(packet: Any) -> float:
    """When the picture of a packet is replaced by the next, in seconds; 0: it is not known."""
    if packet.pts is None or packet.time_base is None:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream."""
    av = require_av()
    require_plain(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    try:
        container = av.open(f"file:{path.absolute()}", options=_OPTIONS)
    except (av.FFmpegError, OSError, ValueError) as err:
        raise DataError(f"{path}: cannot be read as a video: {_said(err)}.") from err
    with container:
        if not container.streams.video:
            raise DataError(f"{path}: has no pictures.")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise DataError(f"{path}: is in a video format that is not known.")
        width, height = stream.width, stream.height
        if width * height > MAX_PIXELS:
            raise DataError(
                f"{path}: {width}×{height} is more than {MAX_PIXELS // 10**6} million pixels.",
                hint="Scale it down first.",
            )
        yield container, stream


def _image(frame: Any, name: str) -> np.ndarray | DataError:
    if frame.is_corrupt:
        return DataError(f"{name}: damaged.")
    if frame.width * frame.height > MAX_PIXELS:  # a stream may change its size
        return DataError(f"{name}: {frame.width}×{frame.height} is too large.")
    try:
        rgb = frame.to_ndarray(format="rgb24")
    except (require_av().FFmpegError, ValueError) as err:
        return DataError(f"{name}: cannot be converted: {err}.")
    return np.ascontiguousarray(_as_shown(rgb, frame.side_data.get("DISPLAYMATRIX")))


def _as_shown(rgb: np.ndarray, matrix: Any) -> np.ndarray:
    """Turned by multiples of 90°, and mirrored, as the display matrix of a frame says.

    The matrix is `a b u c d v x y w` in int32, for (x, y) → (ax + cy, bx + dy). Signs count here;
    None: as it is.
    """
    if matrix is None or len(numbers := np.frombuffer(matrix, np.int32)) < 9:
        return rgb
    a, b, _, c, d = (int(number) for number in numbers[:5])
    if abs(b) > abs(a):  # what lies side by side is shown one above the other
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _said(error: Exception) -> str:
    """What FFmpeg said, without the path, which it repeats."""
    return getattr(error, "strerror", None) or str(error)
