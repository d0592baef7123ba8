"""The most memory that reading one hostile input takes, each in a fresh process.

Every input is of the worst kind that was found for its reader, and as large as `SECURITY.md` lets
it be, or a share of that where the limit is a large one.

`python -m benchmarks.reliability.memory`
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reliability import toy
from medusa_core.errors import MedusaError

MB = 10**6
HEAD_BYTES = 200 * MB
BOUND = 3, 70, 16
"""Bytes that one byte of a head file, one byte of a record or table, and one pixel may take."""
TABLE_BYTES = 16 << 20
IDS_BYTES = 10 * MB


def head_file(folder: Path) -> Path:
    """One tensor of 200 MB; read, and its weights taken out."""
    size = HEAD_BYTES // 4
    path = folder / "x.medusa"
    if not path.exists():
        from medusa_core.store import container

        entry = {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}
        path.write_bytes(toy.export(container.join({"weight": entry}, bytes(4 * size))))
        return path
    from medusa_core.store import head_file, weights

    found = head_file.read(path)
    weights.from_bytes(found.weights, path)
    return path


def manifest(folder: Path) -> Path:
    """`model.json` of 16 MiB, full of empty lists, which are dear."""
    path = folder / "model.json"
    if not path.exists():
        from medusa_core.store.records import MAX_JSON

        toy.create(folder / "model", {})
        record = json.loads((folder / "model" / "model.json").read_text())
        record["backbone"]["provenance"] = {"x": 0}
        text = json.dumps(record)
        room = (MAX_JSON - 2 * len(text)) // 3
        path.write_text(text.replace('{"x": 0}', '{"x": [' + "[]," * room + "0]}"))
        return path
    from medusa_core.store import records
    from medusa_core.store.manifest import ModelManifest

    records.parse(ModelManifest, path.read_bytes(), path)
    return path


def header(folder: Path) -> Path:
    """A safetensors file whose header has 16 MiB of empty lists."""
    path = folder / "header.safetensors"
    from medusa_core.store import container, weights

    if not path.exists():
        text = b'{"a":[' + b"[]," * ((container.MAX_HEADER - 8) // 3) + b"0]}"
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        return path
    weights.from_bytes(path.read_bytes(), path)
    return path


def description(folder: Path) -> Path:
    """`dataset.json` of 4 MB of empty lists."""
    path = folder / "dataset.json"
    from medusa_core.data import folder_description as data

    if not path.exists():
        path.write_text('{"a":[' + "[]," * ((data.MAX_DESCRIPTION - 10) // 3) + "0]}")
        return path
    data.read_description(folder)
    return path


def table(folder: Path) -> Path:
    """A table of 16 MiB (half of the limit) with the shortest lines there can be."""
    path = folder / "known.csv"
    if not path.exists():
        lines = TABLE_BYTES // 8
        path.write_text("id,y\n" + "".join(f"{n:05x},1\n" for n in range(lines)))
        return path
    from medusa_core.data.tables import NumbersTarget, read_values

    read_values(path, NumbersTarget(encoding="numbers", table="known.csv", columns=("y",)))
    return path


def ids(folder: Path) -> Path:
    """The ids of a split, 10 MB (a tenth of the limit), as short as they can be."""
    path = folder / "train.txt"
    if not path.exists():
        path.write_text("".join(f"{n:06x}\n" for n in range(IDS_BYTES // 7)))
        return path
    from medusa_core.data import folder as data
    from medusa_core.data.folder_description import Description

    dataset = object.__new__(data.FolderDataset)
    dataset.root, dataset._resolved_root, dataset.split = folder, folder.resolve(), "train"
    dataset.description = Description(
        schema_version=1, name="x", image="{id}", splits={"train": path.name}, targets={}
    )
    dataset._read_ids()
    return path


def image(folder: Path, colour: int, depth: int, channels: int) -> Path:
    """A PNG at the limit of pixels; it is some hundred kilobytes long."""
    path = folder / f"{colour}-{depth}.png"
    from medusa_core.data.images import MAX_PIXELS, read_rgb

    if not path.exists():
        width, height = 10_000, MAX_PIXELS // 10_000
        line = bytes(1 + width * channels * depth // 8)
        packer = zlib.compressobj(1)
        rows = b"".join([*(packer.compress(line) for _ in range(height)), packer.flush()])
        head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
        chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + b"".join(
                struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d))
                for k, d in chunks
            )
        )
        return path
    read_rgb(path)
    return path


CASES: dict[str, Callable[[Path], Path]] = {
    "head file": head_file,
    "model.json": manifest,
    "header": header,
    "dataset.json": description,
    "table": table,
    "ids": ids,
    "image, RGB": lambda folder: image(folder, 2, 8, 3),
    "image, RGBA": lambda folder: image(folder, 6, 8, 4),
    "image, 16-bit RGB": lambda folder: image(folder, 2, 16, 3),
    "image, 16-bit grey": lambda folder: image(folder, 0, 16, 1),
}
"""Name → makes its file, or reads it where it is there."""


def measure(case: str, folder: Path) -> dict[str, Any]:
    """Read one input in this process."""
    import medusa_core.data.folder
    import medusa_core.store.head_file
    import medusa_core.store.weights  # noqa: F401 - all that is imported later is there before
    from medusa_core.data.images import MAX_PIXELS

    before, started = _peak(), time.perf_counter()
    taken = True
    try:
        CASES[case](folder)
    except MedusaError:
        taken = False
    [size] = [p.stat().st_size for p in folder.iterdir() if p.is_file()]
    grown = _peak() - before
    of_file, of_record, of_pixel = BOUND
    allowed = of_pixel * MAX_PIXELS if case.startswith("image") else of_record * size
    allowed = of_file * size if case == "head file" else allowed
    assert grown < allowed, f"{case}: {grown} bytes, more than {allowed}"
    return {
        "case": case,
        "file_mb": round(size / MB, 1),
        "grown_mb": round(grown / MB),
        "taken": taken,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _peak() -> int:
    """Most memory this process ever had, in bytes. Linux."""
    [line] = [x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x]
    return int(line.split()[1]) * 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case and print the figures, one a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for case in options.cases:
        if options.measure is not None:
            print(json.dumps(measure(case, options.measure)))
            continue
        with tempfile.TemporaryDirectory() as folder:
            CASES[case](Path(folder))
            line = [
                sys.executable,
                "-m",
                "benchmarks.reliability.memory",
                "--measure",
                folder,
                "--cases",
                case,
            ]
            subprocess.run(line, check=True)


if __name__ == "__main__":
    main()
