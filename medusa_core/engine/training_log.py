"""Where a training writes down how it goes: lines of JSON, TensorBoard.

A record is JSON-able: `event` ("step" or "evaluation"), `step`, `seconds`, `loss`, `losses` (task →
mean since the record before), `lr`, `weights` (task → weight of its loss), and with evaluations
`figures` and `best`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from medusa_core.extras import require_extra
from medusa_core.progress import Progress, SilentProgress
from medusa_core.store import files

Record = Mapping[str, Any]
TENSORBOARD = ("log", "--tensorboard", "torch.utils.tensorboard")
"""What it takes, as `require_extra` wants it."""


class Sink(Protocol):
    """One place that records go to."""

    def start(self, records: Sequence[Record]) -> None:
        """Begin with the records of a training that is resumed; whatever was there goes."""

    def write(self, record: Record) -> None:
        """Add one."""

    def close(self) -> None:
        """No more will come."""


class TrainingLog:
    """Passes records on. A sink that fails is dropped with one message: no training stops for it.

    Args:
        sinks: get every record.
        progress: told about a sink that fails.
    """

    def __init__(self, sinks: Sequence[Sink] = (), progress: Progress | None = None) -> None:
        self.sinks = list(sinks)
        self.progress = progress or SilentProgress()

    def start(self, records: Sequence[Record]) -> None:
        """Begin, with the records so far."""
        self._each("start", records)

    def write(self, record: Record) -> None:
        """Add a record."""
        self._each("write", record)

    def close(self) -> None:
        """End."""
        self._each("close")

    def _each(self, method: str, *args: object) -> None:
        for sink in list(self.sinks):
            try:
                getattr(sink, method)(*args)
            except Exception as err:  # noqa: BLE001 - TensorBoard raises what it likes
                self.sinks.remove(sink)
                reason = err.strerror if isinstance(err, OSError) and err.strerror else err
                self.progress.message(f"No log any more at {sink}: {reason}. Training goes on.")


class JsonLines:
    """One record a line, each on the disk as soon as it is known."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def start(self, records: Sequence[Record]) -> None:
        """Write the file anew."""
        files.make_folder(self.path.parent, parents=True)
        self.path.unlink(missing_ok=True)  # in place of a link, not through it
        self.path.write_bytes(json_lines(records))

    def write(self, record: Record) -> None:
        """Append a line."""
        with self.path.open("ab") as file:
            file.write(json_lines([record]))

    def close(self) -> None:
        """Nothing is kept open."""


class TensorBoard:
    """Scalars for TensorBoard in a folder of their own.

    Raises:
        UsageError: the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        require_extra(*TENSORBOARD)
        self.folder = folder
        self.writer: Any = None

    def __str__(self) -> str:
        return str(self.folder)

    def start(self, records: Sequence[Record]) -> None:
        """Open; what an earlier run wrote past the last of the records is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        after = int(records[-1]["step"]) + 1 if records else 0
        self.writer = SummaryWriter(str(self.folder), purge_step=after)

    def write(self, record: Record) -> None:
        """One scalar a figure; those that are not finite are left out."""
        for tag, value in scalars(record).items():
            self.writer.add_scalar(tag, value, int(record["step"]))

    def close(self) -> None:
        """Write what is waiting."""
        if self.writer is not None:
            self.writer.close()


def scalars(record: Record) -> dict[str, float]:
    """The finite figures of a record under the tags that TensorBoard shows them by."""
    if record["event"] == "step":
        tags = {"train/loss": record["loss"], "train/lr": record["lr"]}
        tags |= {f"train/loss.{name}": value for name, value in record["losses"].items()}
        tags |= {f"train/weight.{name}": value for name, value in record["weights"].items()}
    else:
        tags = {f"selection/{name}": value for name, value in record["figures"].items()}
    return {tag: value for tag, value in tags.items() if value is not None and value == value}


def json_lines(records: Sequence[Record]) -> bytes:
    """Records as UTF-8 text, one a line; figures that are not finite are null."""
    return "".join(json.dumps(_plain(record)) + "\n" for record in records).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
